// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// What the page knows. Whoever changes it calls changed(), and all parts of the page are drawn anew.

export const state = {
  // The answer of /fgssl/info.
  info: null,
  // Images of this visit, oldest first, and which of them is shown; -1: none.
  history: [],
  position: -1,
  // What the server has of the image that is shown: { id, class, user, unsure, skipped }.
  image: null,
  // Images that are shown before the server chooses again: those of a filter in the grid.
  queue: [],
  prediction: null,
  predicting: false,
  heat: false,
  // An action is going on, see act() in messages.js.
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
