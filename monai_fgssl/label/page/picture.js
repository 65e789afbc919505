// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// The picture of the image.
import { $, quoted } from "./dom.js";
import { showError } from "./messages.js";
import { getPicture, ServerError } from "./server.js";
import { current } from "./state.js";
import { t } from "./texts.js";
import { chosen, offer, onViewing } from "./viewing.js";
import { onEnlarged, showWhole } from "./zoom.js";

// Height and width of the largest picture that the server sends.
const MOST_PIXELS = 8192;

// Object URL of the picture on the screen. It is revoked when another picture is shown.
let shown = null;
// Image that is shown with all its pixels, or with as many as the server sends.
let detailed = null;

// Shows a picture of a new image, and its choices of window and slice; null: no picture.
export function showPicture(picture) {
  detailed = null;
  showWhole();
  offer(picture?.choices ?? null);
  $("picture").hidden = !picture;
  $("picture").alt = picture ? t("image_named", { name: current() }) : "";
  if (picture) fill(picture.blob);
  else $("picture").removeAttribute("src");
}

function fill(blob) {
  if (shown) URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(blob);
  $("picture").src = shown;
}

// Shows the same image with more pixels, or with another window or slice.
async function fetchAgain() {
  const id = current();
  const wanted = chosen();
  if (detailed === id) wanted.set("max_size", MOST_PIXELS);
  const { blob } = await getPicture(`/fgssl/image/${quoted(id)}?${wanted}`);
  if (current() === id) fill(blob);
}

onViewing(async () => {
  try {
    await fetchAgain();
  } catch (error) {
    showError(t("image_not_shown"), error);
  }
});

onEnlarged(async () => {
  const id = current();
  if (detailed === id || !id) return;
  detailed = id;
  try {
    await fetchAgain();
  } catch (error) {
    showError(t("no_details"), error);
  }
});

$("picture").onerror = () => showError(t("image_not_shown"), new ServerError(t("no_picture")));
