// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Small pictures for the grid: fetched when they are seen, a few at once, and kept for a while.
import { quoted } from "./dom.js";
import { getBlob } from "./server.js";

const AT_ONCE = 6;
const KEPT = 800;

// Addresses by image, those that were shown last at the end.
const known = new Map();
// Places that wait for a picture, by image. The newest are served first; those that have left the page are dropped.
const waiting = new Map();
const fetching = new Set();

export function showThumbnail(place, id) {
  const url = known.get(id);
  if (url === undefined) {
    waiting.delete(id);
    waiting.set(id, place);
    // After the grid is drawn.
    queueMicrotask(fetchMore);
    return;
  }
  known.delete(id);
  known.set(id, url);
  fill(place, url);
}

function fill(place, url) {
  // Null: an image that can't be read.
  if (url === null) place.classList.add("unreadable");
  else place.style.backgroundImage = `url("${url}")`;
}

async function fetchMore() {
  while (fetching.size < AT_ONCE) {
    const next = [...waiting.keys()].findLast((id) => !fetching.has(id));
    if (next === undefined) return;
    if (waiting.get(next).isConnected) fetchOne(next);
    else waiting.delete(next);
  }
}

async function fetchOne(id) {
  fetching.add(id);
  let url = null;
  try {
    url = URL.createObjectURL(await getBlob(`/fgssl/images/${quoted(id)}/thumbnail`));
  } catch {
    // Its tile says so.
  }
  fetching.delete(id);
  known.set(id, url);
  if (known.size > KEPT) {
    const [oldest, address] = known.entries().next().value;
    known.delete(oldest);
    if (address) URL.revokeObjectURL(address);
  }
  // Look the place up again: the grid may have been drawn again meanwhile.
  if (waiting.has(id)) fill(waiting.get(id), url);
  waiting.delete(id);
  fetchMore();
}
