// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Errors, notices, and texts for screen readers.
import { $ } from "./dom.js";
import { changed, state } from "./state.js";
import { t } from "./texts.js";

let retry = null;

export function showError(what, error, again = null) {
  const sentence = t("error", { what, reason: error.message });
  $("error-text").textContent = /[.!?。]$/.test(sentence) ? sentence : t("full_stop", { sentence });
  retry = again;
  $("retry").hidden = !again;
  $("error").hidden = false;
}

export function hideError() {
  $("error").hidden = true;
}

export function announce(sentence) {
  $("announcement").textContent = sentence;
}

export async function attempt(what, action, again = null) {
  try {
    await action();
    hideError();
    return true;
  } catch (error) {
    showError(what, error, again);
    return false;
  }
}

// One action at a time: a key pressed meanwhile is not meant for the next image.
export async function act(what, action, again = null) {
  if (state.busy) return false;
  state.busy = true;
  $("main").setAttribute("aria-busy", "true");
  const done = await attempt(what, action, again);
  state.busy = false;
  $("main").setAttribute("aria-busy", "false");
  changed();
  return done;
}

$("dismiss").onclick = hideError;
$("retry").onclick = () => {
  hideError();
  retry();
};
