// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Labels of both kinds, and the findings that a person has ticked but not saved yet. A label is the name of a class; or,
// if an image may have several findings, a list of names, which is empty if there are none; null: there is no label.
import { visibleClass } from "./blinding.js";
import { sameName, state } from "./state.js";
import { t } from "./texts.js";

export const several = () => Boolean(state.info?.multilabel);

export const namesOf = (label) => (label === null || label === undefined ? [] : [label].flat());

export const hasName = (label, name) => namesOf(label).some((own) => sameName(own, name));

export function sameLabel(a, b) {
  if (a === null || b === null) return a === b;
  const [first, second] = [namesOf(a), namesOf(b)];
  return first.length === second.length && first.every((name) => hasName(second, name));
}

// The names of a label, as the server's list spells them.
export const textOf = (label) =>
  namesOf(label).map((name) => state.info.classes.find((listed) => sameName(listed, name)) ?? name).join(", ") || t("nothing");

// A label with a finding more or less, in the order of the server's list.
export function toggled(label, name) {
  const there = hasName(label, name);
  return state.info.classes.filter((listed) => (sameName(listed, name) ? !there : hasName(label, listed)));
}

// Ticked findings by image, where they differ from the label. They stay while a person looks at other images.
const drafts = new Map();

export const ticked = () => drafts.get(state.image?.id) ?? namesOf(visibleClass());

export const isUnsaved = () => drafts.has(state.image?.id);

export const dropDraft = (id) => drafts.delete(id);

// Returns whether the finding is ticked now.
export function tick(name) {
  const next = toggled(ticked(), name);
  if (sameLabel(next, namesOf(visibleClass()))) drafts.delete(state.image.id);
  else drafts.set(state.image.id, next);
  return hasName(next, name);
}
