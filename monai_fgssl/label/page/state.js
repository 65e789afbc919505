// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// State of the page. After a change, call changed(): all parts of the page are drawn again.

export const state = {
  // The answer of /fgssl/info.
  info: null,
  // Images of this visit, oldest first, and which of them is shown; -1: none.
  history: [],
  position: -1,
  // The server's record of the image that is shown: { id, class, user, unsure, skipped }; see findings.js for the class.
  image: null,
  // Images to show before the server chooses the next one: those that a filter of the grid selected.
  queue: [],
  prediction: null,
  predicting: false,
  heat: false,
  // True while an action runs, see act() in messages.js.
  busy: true,
  training: false,
};

export const current = () => state.history[state.position] ?? null;
export const sameName = (a, b) => a.toLowerCase() === b.toLowerCase();

const drawers = [];

export const onChange = (draw) => drawers.push(draw);

export function changed() {
  if (state.info) drawers.forEach((draw) => draw());
}
