// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Zooms into the picture and moves it: wheel, two fingers, dragging, and the keys + - 0.
import { $ } from "./dom.js";

const LARGEST = 32;
const STEP = 1.5;

// Scale 1: the whole picture; the shift is in pixels of the screen, from the middle.
let view = { scale: 1, x: 0, y: 0 };
// Fingers or the mouse button, by their number.
const pointers = new Map();

// Called when another part of the picture is seen, so that its pixels can be fetched.
let moved = () => {};

export const onZoom = (action) => {
  moved = action;
};

export const isEnlarged = () => view.scale > 1;

// The part that is seen of a picture with so many pixels, in its pixels, and how many pixels of the page one of them is.
export function seenPart([width, height]) {
  const { clientWidth, clientHeight } = $("stage");
  const size = view.scale * Math.min(clientWidth / width, clientHeight / height);
  const left = Math.max(0, width / 2 - (clientWidth / 2 + view.x) / size);
  const top = Math.max(0, height / 2 - (clientHeight / 2 + view.y) / size);
  const right = Math.min(width, width / 2 + (clientWidth / 2 - view.x) / size);
  const bottom = Math.min(height, height / 2 + (clientHeight / 2 - view.y) / size);
  return { left, top, right, bottom, size };
}

function apply({ scale, x, y }) {
  const { clientWidth: width, clientHeight: height } = $("stage");
  const kept = Math.min(Math.max(scale, 1), LARGEST);
  // The middle of the stage always shows a part of the picture.
  const [far, deep] = [((kept - 1) * width) / 2, ((kept - 1) * height) / 2];
  view = { scale: kept, x: Math.min(Math.max(x, -far), far), y: Math.min(Math.max(y, -deep), deep) };
  const transform = kept === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${kept})`;
  for (const part of ["picture", "detail", "heat-layer"]) $(part).style.transform = transform;
  $("stage").classList.toggle("zoomed", kept > 1);
  $("stage").classList.toggle("near", kept >= 4);
  moved();
}

// Keeps the point of the picture under the pointer in its place.
function zoomAt(factor, clientX, clientY) {
  const box = $("stage").getBoundingClientRect();
  const px = clientX - box.left - box.width / 2;
  const py = clientY - box.top - box.height / 2;
  const scale = Math.min(Math.max(view.scale * factor, 1), LARGEST);
  const real = scale / view.scale;
  apply({ scale, x: px - (px - view.x) * real, y: py - (py - view.y) * real });
}

function zoomInMiddle(factor) {
  const box = $("stage").getBoundingClientRect();
  zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
}

export const zoomIn = () => zoomInMiddle(STEP);
export const zoomOut = () => zoomInMiddle(1 / STEP);
export const showWhole = () => apply({ scale: 1, x: 0, y: 0 });

const span = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);

function onMove(event) {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const others = [...pointers.values()].filter((one) => one !== before);
  pointers.set(event.pointerId, event);
  if (others.length === 0) {
    apply({ ...view, x: view.x + event.clientX - before.clientX, y: view.y + event.clientY - before.clientY });
    return;
  }
  const [other] = others;
  const middle = [(event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2];
  zoomAt(span([event, other]) / Math.max(span([before, other]), 1), ...middle);
}

$("stage").addEventListener("wheel", (event) => {
  if ($("picture").hidden) return;
  event.preventDefault();
  zoomAt(Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
}, { passive: false });
$("stage").onpointerdown = (event) => {
  if ($("picture").hidden) return;
  pointers.set(event.pointerId, event);
  $("stage").setPointerCapture(event.pointerId);
};
$("stage").onpointermove = onMove;
$("stage").onpointerup = (event) => pointers.delete(event.pointerId);
$("stage").onpointercancel = (event) => pointers.delete(event.pointerId);
$("stage").ondblclick = (event) => {
  if (view.scale > 1) showWhole();
  else if (!$("picture").hidden) zoomAt(4, event.clientX, event.clientY);
};
