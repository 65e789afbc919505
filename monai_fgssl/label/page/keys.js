// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// All keys, in one table: what they do, and what the page says of them.
import { keyOf } from "./classes.js";
import { $, element } from "./dom.js";
import { back, forward, removeLabel, save } from "./labeling.js";
import { hideError } from "./messages.js";
import { toggleHeat } from "./picture.js";
import { onChange, state } from "./state.js";
import { t } from "./texts.js";

const KEYS = [
  { keys: ["h"], signs: ["H"], text: "key_heat", run: toggleHeat },
  { keys: ["Backspace", "ArrowLeft"], signs: ["⌫", "←"], text: "key_back", run: back },
  { keys: ["ArrowRight"], signs: ["→"], text: "key_forward", run: forward },
  { keys: ["Delete"], signs: ["Del"], text: "key_remove", run: removeLabel },
  { keys: ["Escape"], signs: ["Esc"], text: "key_dismiss", run: hideError },
];

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (document.querySelector("dialog[open]")) return;
  // A list has its own use for letters and arrows.
  if (event.target.matches("select") && !/^(\d|Backspace|Delete)$/.test(event.key)) return;
  const index = state.info?.classes.findIndex((_, i) => keyOf(i) === event.key) ?? -1;
  const found = KEYS.find(({ keys }) => keys.includes(event.key) || keys.includes(event.key.toLowerCase()));
  const action = index >= 0 ? () => save(state.info.classes[index]) : found?.run;
  if (!action) return;
  event.preventDefault();
  action();
}

function entry(signs, text) {
  const line = element("span");
  line.append(...signs.flatMap((sign) => [element("kbd", "", sign), " "]), t(text));
  return line;
}

function draw() {
  const count = Math.min(state.info.classes.length, 9);
  const numbers = entry([count > 1 ? `1–${count}` : "1"], "key_class");
  $("keys").replaceChildren(numbers, ...KEYS.map(({ signs, text }) => entry(signs, text)));
}

onChange(draw);
document.addEventListener("keydown", onKey);
