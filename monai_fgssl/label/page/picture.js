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

// Address of the picture that is on the screen, to be given back when another one is shown.
let shown = null;
// Image of which all pixels are shown, or the most that the server sends.
let detailed = null;

// A picture of an image that is shown anew, with what else can be seen of it; null: there is none.
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

// The same image with other pixels: more of them, or of another window or slice.
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
