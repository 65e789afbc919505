// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// A button for each class, with its key, the model's probability, and the people who chose it.
import { isHidden } from "./blinding.js";
import { $, element, percent } from "./dom.js";
import { hasName, several, ticked } from "./findings.js";
import { onChange, state } from "./state.js";
import { ranked } from "./suggestion.js";
import { t } from "./texts.js";

const MANY = 10;
const AFTER_ZERO = "123456789abcdefghijklmnopqrstuvwxyz";

// The first nine classes have a digit each. The tenth has 0; if there are more than ten, these have 0 and a second key.
export function keysOf(index, count = state.info.classes.length) {
  if (index < 9) return String(index + 1);
  if (count <= MANY) return "0";
  const second = AFTER_ZERO[index - 9];
  return second ? `0${second}` : "";
}

// "0" after the first of two keys, until the second one; otherwise empty.
let typed = "";

// Takes a key: the class that it completes, "wait" for the first of two, or null.
export function typeKey(key) {
  const keys = typed + key.toLowerCase();
  typed = "";
  const { classes } = state.info;
  const found = classes.find((_, index) => keysOf(index) === keys) ?? null;
  if (!found && keys === "0" && classes.length > MANY) typed = "0";
  $("typed").hidden = !typed;
  $("typed").textContent = typed && t("second_key");
  return found ?? (typed ? "wait" : null);
}

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
    const keys = keysOf(index);
    const key = element("kbd", "", keys.toUpperCase());
    key.ariaHidden = "true";
    if (keys.length === 1) button.setAttribute("aria-keyshortcuts", keys);
    const label = element("span", "label", name);
    label.append(" ", element("span", "note"));
    const track = element("span", "track");
    track.append(element("span", "bar"));
    button.append(key, label, track, element("span", "score"));
    button.onclick = () => choose(name);
    return button;
  }));
  $("search").hidden = classes.length <= MANY;
  search();
}

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/);
  for (const button of $("classes").children)
    button.hidden = !words.every((word) => button.dataset.name.toLowerCase().includes(word));
}

export function startSearch() {
  if (!$("search").hidden) $("search").focus();
}

function endSearch() {
  $("search").value = "";
  search();
  $("search").blur();
}

function onSearchKey(event) {
  if (!["Enter", "Escape"].includes(event.key)) return;
  event.preventDefault();
  const found = [...$("classes").children].find((button) => !button.hidden && !button.disabled);
  const name = event.key === "Enter" && $("search").value.trim() && found?.dataset.name;
  endSearch();
  if (name) choose(name);
}

function note(chosen, suggested) {
  if (chosen) return t(several() ? "present" : "your_label");
  return suggested ? t("suggested") : "";
}

function draw() {
  fill();
  $("no-classes").hidden = state.info.classes.length > 0;
  const scores = state.prediction && !isHidden() ? ranked() : [];
  const label = ticked();
  const suggestion = several() ? (scores.length > 0 ? state.prediction.findings : []) : scores.slice(0, 1).map(({ name }) => name);
  for (const button of $("classes").children) {
    const { name } = button.dataset;
    const score = scores.find((entry) => entry.name === name)?.score;
    const suggested = hasName(suggestion, name);
    const chosen = hasName(label, name);
    button.disabled = !state.image;
    button.setAttribute("aria-pressed", String(chosen));
    button.classList.toggle("scored", score !== undefined);
    button.classList.toggle("suggested", suggested);
    button.querySelector(".bar").style.width = score === undefined ? "0" : `${100 * score}%`;
    button.querySelector(".score").textContent = score === undefined ? "" : percent(score);
    button.querySelector(".note").textContent = note(chosen, suggested);
  }
}

onChange(draw);
$("search").oninput = search;
$("search").onkeydown = onSearchKey;
