// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// The two views, one image and all images; the address says which one is shown, and with what filter.
import { $ } from "./dom.js";

export const inReview = () => location.hash.startsWith("#review");

// Filter of the grid: names and values.
export const filterOf = () => new URLSearchParams(location.hash.split("?")[1] ?? "");

const listeners = [];

export const onView = (listen) => listeners.push(listen);

export function showView(view, filter = new URLSearchParams()) {
  const text = filter.toString();
  const hash = view === "review" ? `#review${text && `?${text}`}` : "#";
  if (location.hash !== hash && !(hash === "#" && location.hash === "")) history.pushState(null, "", hash);
  draw();
}

export function setFilter(filter) {
  history.replaceState(null, "", `#review?${filter}`);
}

export function draw() {
  $("main").hidden = inReview();
  $("review").hidden = !inReview();
  $("to-label").setAttribute("aria-current", String(!inReview()));
  $("to-review").setAttribute("aria-current", String(inReview()));
  listeners.forEach((listen) => listen());
}

window.addEventListener("popstate", draw);
window.addEventListener("hashchange", draw);
$("to-label").onclick = () => showView("label");
$("to-review").onclick = () => showView("review");
