// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Table of all keys: what they do, and how the page explains them.
import { keysOf, startSearch, typeKey } from "./classes.js";
import { $, element } from "./dom.js";
import { toggleHeat } from "./heat.js";
import { several } from "./findings.js";
import { back, choose, forward, removeLabel, saveFindings, skip, takeBack, toggleUnsure } from "./labeling.js";
import { hideError } from "./messages.js";
import { labelSelected, onReviewKey, takeBackHere } from "./review.js";
import { onChange, state } from "./state.js";
import { t } from "./texts.js";
import { hasSlices, hasWindow, sliceDown, sliceUp } from "./viewing.js";
import { inReview, onView, showView } from "./views.js";
import { showWhole, zoomIn, zoomOut } from "./zoom.js";

// "where": the view where a key works; none: both. "when": the images for which it works; none: all. "often": the key is
// shown below the image too, not only in the list of all keys.
const KEYS = [
  { keys: ["Enter"], signs: ["⏎"], text: "key_done", run: saveFindings, where: "label", when: several, often: true },
  { keys: ["s"], signs: ["S"], text: "key_skip", run: skip, where: "label", often: true },
  { keys: ["u"], signs: ["U"], text: "key_unsure", run: toggleUnsure, where: "label", often: true },
  { keys: ["h"], signs: ["H"], text: "key_heat", run: toggleHeat, where: "label", often: true },
  { keys: ["+"], signs: ["+"], text: "key_zoom_in", run: zoomIn, where: "label", often: true },
  { keys: ["-"], signs: ["-"], text: "key_zoom_out", run: zoomOut, where: "label" },
  { keys: ["0", "w"], signs: ["W"], text: "key_whole", run: showWhole, where: "label" },
  { keys: ["ArrowUp"], signs: ["↑"], text: "key_slice_up", run: sliceUp, where: "label", when: hasSlices, often: true },
  { keys: ["ArrowDown"], signs: ["↓"], text: "key_slice_down", run: sliceDown, where: "label", when: hasSlices, often: true },
  { keys: ["Backspace", "ArrowLeft"], signs: ["⌫", "←"], text: "key_back", run: back, where: "label", often: true },
  { keys: ["ArrowRight"], signs: ["→"], text: "key_forward", run: forward, where: "label" },
  { keys: ["Delete"], signs: ["Del"], text: "key_remove", run: removeLabel, where: "label" },
  { keys: ["Control+z"], signs: ["Ctrl", "Z"], text: "key_undo", run: () => (inReview() ? takeBackHere() : takeBack()), often: true },
  { keys: ["/"], signs: ["/"], text: "key_search", run: startSearch, where: "label" },
  { keys: ["g"], signs: ["G"], text: "key_view", run: () => showView(inReview() ? "label" : "review") },
  { keys: ["Escape"], signs: ["Esc"], text: "key_dismiss", run: hideError },
  { keys: ["?"], signs: ["?"], text: "key_help", run: () => $("help").showModal(), often: true },
  // The picture itself takes these.
  { keys: [], signs: ["Shift"], text: "key_slice_wheel", where: "label", when: hasSlices },
  { keys: [], signs: ["Shift"], text: "key_window", where: "label", when: hasWindow },
  // The grid itself takes these.
  { keys: [], signs: ["←", "↑", "↓", "→"], text: "key_move", where: "review" },
  { keys: [], signs: ["Space"], text: "key_select", where: "review", often: true },
  { keys: [], signs: ["Enter"], text: "key_open", where: "review", often: true },
];

function onKey(event) {
  if (event.altKey || event.repeat || document.querySelector("dialog[open]") || !state.info) return;
  if (event.target.matches?.("input:not([type=checkbox], [type=range])")) return;
  // A slider has its own use for these.
  if (event.target.matches?.("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
  // A list has its own use for letters and arrows.
  if (event.target.matches?.("select") && !/^(\d|Backspace|Delete)$/.test(event.key)) return;
  // A button that a person has gone to with Tab has its own use for Enter.
  if (event.key === "Enter" && !inReview() && event.target.matches?.("button:not(.class, #save), summary, select")) return;
  const action = actionOf(event);
  if (!action) return;
  event.preventDefault();
  action();
}

function actionOf(event) {
  const view = inReview() ? "review" : "label";
  const pressed = event.ctrlKey || event.metaKey ? `Control+${event.key.toLowerCase()}` : event.key;
  const name = pressed.length === 1 && typeKey(pressed);
  if (name === "wait") return () => {};
  if (name) return () => (inReview() ? labelSelected(name) : choose(name));
  const allowed = KEYS.filter(({ where, when }) => (!where || where === view) && (!when || when()));
  const found = allowed.find(({ keys }) => keys.includes(pressed) || keys.includes(pressed.toLowerCase()));
  return found?.run ?? (inReview() ? onReviewKey(event) : null);
}

function entry(signs, text) {
  const line = element("span");
  line.append(...signs.flatMap((sign) => [element("kbd", "", sign), " "]), t(text));
  return line;
}

function classEntries() {
  const { length } = state.info.classes;
  const single = entry([length > 1 ? `1–${Math.min(length, 9)}` : "1"], several() ? "key_finding" : "key_class");
  return keysOf(length - 1)?.length === 1 || length === 0 ? [single] : [single, entry(["0", "1"], "key_more_classes")];
}

function draw() {
  const view = inReview() ? "review" : "label";
  const often = KEYS.filter(({ often, where, when }) => often && (!where || where === view) && (!when || when()));
  $("keys").replaceChildren(...classEntries(), ...often.map(({ signs, text }) => entry(signs, text)));
  for (const [place, view] of [["help-label", "label"], ["help-review", "review"]]) {
    const listed = KEYS.filter(({ where }) => !where || where === view);
    $(place).replaceChildren(...classEntries(), ...listed.map(({ signs, text }) => entry(signs, text)));
  }
}

onChange(draw);
onView(() => state.info && draw());
document.addEventListener("keydown", onKey);
// A button that was clicked with the mouse would take the next Enter, which is to save the findings.
document.addEventListener("click", (event) => {
  if (several() && event.detail > 0 && event.target.closest?.("#main button")) document.activeElement.blur();
});
$("help-close").onclick = () => $("help").close();
$("show-help").onclick = () => $("help").showModal();
