// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// The picture of the image.
import { $, quoted } from "./dom.js";
import { showError } from "./messages.js";
import { getPicture, ServerError } from "./server.js";
import { current } from "./state.js";
import { t } from "./texts.js";
import { chosen, offer, onViewing } from "./viewing.js";
import { isEnlarged, onZoom, seenPart, showWhole } from "./zoom.js";

// Height and width of the largest picture that the server sends, and of the picture that an image begins with.
const MOST_PIXELS = 8192;
const FIRST_PIXELS = 1024;
// Pixels of the largest image that is fetched as a whole; of a larger one the page fetches the part that is seen.
const LARGEST_WHOLE = 4_000_000;
// Milliseconds without another movement, after which a part is fetched.
const REST = 120;
// Share of the seen part's size that is fetched beyond each of its edges.
const MARGIN = 0.25;

// Object URL of the picture on the screen. It is revoked when another picture is shown.
let shown = null;
// Image that is shown with all its pixels, or with as many as the server sends.
let detailed = null;
// Width and height of the image; null: not known.
let size = null;
// The part of a large image that lies over the picture: its edges, and its pixels for each pixel of the image.
let part = null;
let fetching = false;
let outdated = false;

// Shows a picture of a new image, and its choices of window and slice; null: no picture.
export function showPicture(picture) {
  detailed = null;
  size = picture?.choices?.size ?? null;
  dropPart();
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

// ---------------------------------------------------------------- a part of a large image

const isLarge = () => size !== null && (size[0] * size[1] > LARGEST_WHOLE || Math.max(...size) > MOST_PIXELS);

function dropPart() {
  if (part) URL.revokeObjectURL(part.address);
  part = null;
  $("detail").replaceChildren();
}

// The part to fetch, or null where what is on the screen is enough.
function missingPart() {
  const { left, top, right, bottom, size: pixel } = seenPart(size);
  // More than one pixel for each of the image there is not.
  const density = Math.min(1, pixel * devicePixelRatio);
  const has = part && part.left <= left && part.top <= top && part.right >= right && part.bottom >= bottom;
  if (density <= FIRST_PIXELS / Math.max(...size) || (has && part.density >= density)) return null;
  const [across, down] = [MARGIN * (right - left), MARGIN * (bottom - top)];
  return {
    left: Math.floor(Math.max(0, left - across)),
    top: Math.floor(Math.max(0, top - down)),
    right: Math.ceil(Math.min(size[0], right + across)),
    bottom: Math.ceil(Math.min(size[1], bottom + down)),
    density,
  };
}

async function fetchPart() {
  const id = current();
  const wanted = chosen();
  const missing = missingPart();
  if (!missing) return;
  const [width, height] = [missing.right - missing.left, missing.bottom - missing.top];
  wanted.set("region", [missing.left, missing.top, width, height].join(","));
  wanted.set("max_size", Math.min(MOST_PIXELS, Math.max(16, Math.ceil(missing.density * Math.max(width, height)))));
  const { blob } = await getPicture(`/fgssl/image/${quoted(id)}?${wanted}`);
  // Of another image or window by now.
  if (current() !== id || !isEnlarged() || String(chosen()) !== String(without(wanted))) return;
  dropPart();
  part = { ...missing, address: URL.createObjectURL(blob) };
  const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
  const attributes = { x: part.left, y: part.top, width, height, href: part.address, preserveAspectRatio: "none" };
  for (const [name, value] of Object.entries(attributes)) image.setAttribute(name, value);
  $("detail").setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  $("detail").replaceChildren(image);
}

function without(wanted) {
  const kept = new URLSearchParams(wanted);
  for (const name of ["region", "max_size"]) kept.delete(name);
  return kept;
}

// One request at a time, and none while the picture moves.
async function updatePart() {
  outdated = true;
  if (fetching) return;
  fetching = true;
  try {
    while (outdated) {
      outdated = false;
      await new Promise((done) => setTimeout(done, REST));
      if (!outdated && current() && isEnlarged()) await fetchPart();
    }
  } catch (error) {
    showError(t("no_details"), error);
  } finally {
    fetching = false;
  }
}

// ---------------------------------------------------------------- what people do

onViewing(async () => {
  try {
    await fetchAgain();
    dropPart();
    if (isEnlarged() && isLarge()) updatePart();
  } catch (error) {
    showError(t("image_not_shown"), error);
  }
});

onZoom(async () => {
  const id = current();
  if (!isEnlarged()) {
    dropPart();
    return;
  }
  if (!id) return;
  if (isLarge()) {
    $("detail").classList.toggle("near", seenPart(size).size >= 4);
    updatePart();
    return;
  }
  const isWhole = size !== null && Math.max(...size) <= FIRST_PIXELS;
  if (detailed === id || isWhole) return;
  detailed = id;
  try {
    await fetchAgain();
  } catch (error) {
    showError(t("no_details"), error);
  }
});

$("picture").onerror = () => showError(t("image_not_shown"), new ServerError(t("no_picture")));
