// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Hides the answers of the model and of other people until this person has chosen. The browser keeps the setting.
import { $ } from "./dom.js";
import { changed, onChange, state } from "./state.js";

const key = () => `hide:${state.info.user ?? ""}`;

const isWanted = () => localStorage.getItem(key()) === "true";

// Whether this person has labeled the image that is shown.
function hasChosen() {
  const { image, info } = state;
  if (!image?.class) return false;
  return info.user === null || info.user in (image.readings ?? {});
}

export const isHidden = () => isWanted() && !hasChosen();

// The label that may be seen now.
export const visibleClass = () => (isHidden() ? null : state.image?.class ?? null);

onChange(() => {
  $("hide").checked = isWanted();
});
$("hide").onchange = () => {
  localStorage.setItem(key(), String($("hide").checked));
  changed();
};
