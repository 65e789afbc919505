// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// The picture of the image, and its heat maps.
import { isHidden } from "./blinding.js";
import { $, element, quoted } from "./dom.js";
import { showError } from "./messages.js";
import { getBlob, ServerError } from "./server.js";
import { changed, current, onChange, state } from "./state.js";
import { t } from "./texts.js";
import { onEnlarged, showWhole } from "./zoom.js";

// Height and width of the largest picture that the server sends.
const MOST_PIXELS = 8192;

// Addresses of what is on the screen, to be given back when something else is shown.
let shown = [];

function show(...blobs) {
  shown.forEach((url) => URL.revokeObjectURL(url));
  shown = blobs.map((blob) => URL.createObjectURL(blob));
  return shown;
}

let original = null;
// Image of which more pixels were asked for.
let detailed = null;

export function showPicture(blob) {
  if (blob !== original) {
    detailed = null;
    showWhole();
  }
  original = blob;
  const picture = $("picture");
  $("heat-maps").hidden = true;
  picture.hidden = !blob;
  picture.alt = blob ? t("image_named", { name: current() }) : "";
  if (blob) [picture.src] = show(blob);
  else picture.removeAttribute("src");
  if (state.heat && !isHidden()) showHeatMap();
}

export async function showHeatMap() {
  const id = current();
  if (!id || !state.info.has_model) return;
  try {
    const panels = await cut(await createImageBitmap(await getBlob(`/fgssl/heat_maps/${quoted(id)}`)));
    if (current() === id && state.heat) showPanels(id, panels);
  } catch (error) {
    if (current() !== id) return;
    state.heat = false;
    changed();
    showError(t("no_heat_map"), error);
  }
}

// The server puts the image and its heat maps side by side: on a screen they are larger in rows.
function cut(strip) {
  const count = state.info.num_stages + 1;
  const width = Math.floor(strip.width / count);
  return Promise.all(Array.from({ length: count }, (_, index) => {
    const canvas = new OffscreenCanvas(width, strip.height);
    canvas.getContext("2d").drawImage(strip, -index * width, 0);
    return canvas.convertToBlob();
  }));
}

function showPanels(id, panels) {
  const box = $("heat-maps");
  const columns = Math.ceil(Math.sqrt(panels.length));
  box.style.setProperty("--columns", columns);
  box.style.setProperty("--rows", Math.ceil(panels.length / columns));
  box.setAttribute("aria-label", t("heat_maps_of", { name: id }));
  box.replaceChildren(...show(...panels).map((url, index) => {
    const panel = element("span", "panel");
    const image = new Image();
    image.src = url;
    image.alt = "";
    panel.append(image, element("span", "caption", index ? t("stage", { number: index }) : t("image")));
    return panel;
  }));
  $("picture").hidden = true;
  box.hidden = false;
}

export function toggleHeat() {
  if ($("heat").disabled) return;
  state.heat = !state.heat;
  changed();
  if (state.heat) showHeatMap();
  else showPicture(original);
}

// The picture with all its pixels, or the most that the server sends, in the place of the smaller one.
onEnlarged(async () => {
  const id = current();
  if (detailed === id || !id) return;
  detailed = id;
  try {
    const blob = await getBlob(`/fgssl/image/${quoted(id)}?max_size=${MOST_PIXELS}`);
    if (current() !== id || $("picture").hidden) return;
    original = blob;
    [$("picture").src] = show(blob);
  } catch (error) {
    showError(t("no_details"), error);
  }
});

function draw() {
  $("heat").disabled = !current() || !state.info.has_model || isHidden();
  $("heat").setAttribute("aria-pressed", String(state.heat));
}

onChange(draw);
$("heat").onclick = toggleHeat;
$("picture").onerror = () => showError(t("image_not_shown"), new ServerError(t("no_picture")));
