// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Window of gray images and slice of volumes: sliders, keys, wheel and dragging.
import { $ } from "./dom.js";
import { changed } from "./state.js";
import { t } from "./texts.js";

// Pixels of dragging that make a window e times as wide, or move it by its width.
const DRAG = 300;

// The choices for the image from the server: { window, values, slices, slice }, with its first window.
let offered = null;
// The person's choice; null: as the image was first shown.
let view = { window: null, slice: null };
// Called after each choice. The next call waits until the one before has ended.
let showIt = async () => {};
let showing = false;
let outdated = false;

export const onViewing = (action) => {
  showIt = action;
};

export const hasSlices = () => (offered?.slices ?? 1) > 1;
export const hasWindow = () => Boolean(offered?.window);
export const currentSlice = () => (hasSlices() ? view.slice ?? offered.slice : null);
const currentWindow = () => view.window ?? offered.window;

// In the server's format.
export function chosen() {
  const wanted = new URLSearchParams();
  if (view.window) wanted.set("window", view.window.join(","));
  if (view.slice !== null) wanted.set("slice", view.slice);
  return wanted;
}

// Another image starts without a choice.
export function offer(choices) {
  offered = choices;
  view = { window: null, slice: null };
  draw();
}

async function refresh() {
  draw();
  outdated = true;
  if (showing) return;
  showing = true;
  while (outdated) {
    outdated = false;
    await showIt();
  }
  showing = false;
  changed();
}

function showSlice(slice) {
  const kept = Math.min(Math.max(slice, 0), offered.slices - 1);
  if (kept === currentSlice()) return;
  view.slice = kept;
  refresh();
}

export const sliceUp = () => showSlice(currentSlice() + 1);
export const sliceDown = () => showSlice(currentSlice() - 1);

function showWindow(center, width) {
  const [low, high] = offered.values;
  view.window = [center, Math.max(width, (high - low) / 1000, Number.EPSILON)];
  refresh();
}

const tidy = (value) => Number(value.toPrecision(4)).toString();

function draw() {
  $("viewing").hidden = !hasSlices() && !hasWindow();
  $("slice-tool").hidden = !hasSlices();
  $("window-tool").hidden = !hasWindow();
  if (hasSlices()) {
    const number = t("slice_of", { number: currentSlice() + 1, count: offered.slices });
    $("slice").max = offered.slices - 1;
    $("slice").value = currentSlice();
    $("slice").setAttribute("aria-valuetext", number);
    $("slice-number").textContent = number;
  }
  if (hasWindow()) {
    const [center, width] = currentWindow();
    const [low, high] = offered.values;
    Object.assign($("center"), { min: Math.min(low, offered.window[0]), max: Math.max(high, offered.window[0]), value: center });
    Object.assign($("width"), { min: 0, max: Math.max(high - low, offered.window[1]), value: width });
    $("center-value").textContent = tidy(center);
    $("width-value").textContent = tidy(width);
    $("window-reset").disabled = !view.window;
  }
}

$("slice").oninput = () => showSlice($("slice").valueAsNumber);
$("center").oninput = () => showWindow($("center").valueAsNumber, currentWindow()[1]);
$("width").oninput = () => showWindow(currentWindow()[0], $("width").valueAsNumber);
$("window-reset").onclick = () => {
  view.window = null;
  refresh();
};

// With Shift, these run before the wheel and dragging of zoom.js.
const before = { capture: true, passive: false };
let dragged = null;
$("stage").addEventListener("wheel", (event) => {
  if (!event.shiftKey || !hasSlices()) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  // With Shift, browsers report a wheel as turning sideways.
  showSlice(currentSlice() - Math.sign(event.deltaY || event.deltaX));
}, before);
$("stage").addEventListener("pointerdown", (event) => {
  if (!event.shiftKey || !hasWindow()) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  $("stage").setPointerCapture(event.pointerId);
  dragged = { pointer: event.pointerId, x: event.clientX, y: event.clientY, window: currentWindow() };
}, before);
$("stage").addEventListener("pointermove", (event) => {
  if (dragged?.pointer !== event.pointerId) return;
  event.stopImmediatePropagation();
  const [center, width] = dragged.window;
  const wider = width * Math.exp((event.clientX - dragged.x) / DRAG);
  // Up is brighter.
  showWindow(center + (width * (event.clientY - dragged.y)) / DRAG, wider);
}, before);
for (const end of ["pointerup", "pointercancel"])
  $("stage").addEventListener(end, (event) => {
    if (dragged?.pointer === event.pointerId) dragged = null;
  }, before);
