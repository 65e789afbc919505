// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// A button for each class, with its key, the model's probability, and who has chosen it.
import { $, element, percent } from "./dom.js";
import { current, onChange, sameName, state } from "./state.js";
import { ranked } from "./suggestion.js";
import { t } from "./texts.js";

export const keyOf = (index) => (index < 10 ? String((index + 1) % 10) : "");

// Called with the class that a person clicks on.
let choose = () => {};

export const onChoice = (action) => {
  choose = action;
};

function fill() {
  const { classes } = state.info;
  const shown = [...$("classes").children].map((button) => button.dataset.name);
  if (String(shown) === String(classes)) return;
  $("classes").replaceChildren(...classes.map((name, index) => {
    const button = element("button", "class");
    button.type = "button";
    button.dataset.name = name;
    const key = element("kbd", "", keyOf(index));
    key.ariaHidden = "true";
    if (keyOf(index)) button.setAttribute("aria-keyshortcuts", keyOf(index));
    const label = element("span", "label", name);
    label.append(" ", element("span", "note"));
    const track = element("span", "track");
    track.append(element("span", "bar"));
    button.append(key, label, track, element("span", "score"));
    button.onclick = () => choose(name);
    return button;
  }));
}

function draw() {
  fill();
  $("no-classes").hidden = state.info.classes.length > 0;
  const id = current();
  const scores = state.prediction ? ranked() : [];
  for (const button of $("classes").children) {
    const name = button.dataset.name;
    const score = scores.find((entry) => entry.name === name)?.score;
    const suggested = scores[0]?.name === name;
    const chosen = state.label !== null && sameName(state.label, name);
    button.disabled = !id;
    button.setAttribute("aria-pressed", String(chosen));
    button.classList.toggle("scored", score !== undefined);
    button.classList.toggle("suggested", suggested);
    button.querySelector(".bar").style.width = score === undefined ? "0" : `${100 * score}%`;
    button.querySelector(".score").textContent = score === undefined ? "" : percent(score);
    button.querySelector(".note").textContent = chosen ? t("your_label") : suggested ? t("suggested") : "";
  }
}

onChange(draw);
