// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Saves and removes labels and marks on the server, and takes the last changes back.
import { quoted } from "./dom.js";
import { dropDraft, sameLabel } from "./findings.js";
import { getJson, request, sendJson } from "./server.js";
import { state } from "./state.js";

// The server's record of an image: { id, class, user, unsure, skipped }.
export const lookUp = (id) => getJson(`/fgssl/images/${quoted(id)}`);

// Null removes the label.
async function putClass(id, name) {
  if (name === null) {
    await request(`/fgssl/label/${quoted(id)}`, { method: "DELETE" });
    return;
  }
  const body = new FormData();
  body.append("params", JSON.stringify({ class: name }));
  // MONAI Label requires a file, but the class is taken from the parameters.
  body.append("label", new Blob([]), "label.json");
  await request(`/datastore/label?image=${quoted(id)}&tag=final`, { method: "PUT", body });
}

const putMarks = (id, marks) => sendJson("PUT", `/fgssl/images/${quoted(id)}/marks`, marks);

// Changes that can be taken back, the last one at the end: each is a list of images as they were before.
const undoable = [];

export const canUndo = () => undoable.length > 0;

// Whether a label must be sent: it is another one, or this person is another reader who says the same.
function isNew(image, label) {
  if (!sameLabel(label, image.class ?? null)) return true;
  return label !== null && state.info.user !== null && !sameLabel(label, image.readings?.[state.info.user] ?? null);
}

// Gives the images a class or findings (null: no label) or marks; a function says what each image gets.
export async function change(images, what) {
  const before = [];
  try {
    for (const image of images) {
      const { class: label, ...marks } = typeof what === "function" ? what(image) : what;
      if (label !== undefined && isNew(image, label)) await putClass(image.id, label);
      if (Object.keys(marks).length > 0) await putMarks(image.id, marks);
      before.push({ ...image });
      if (label !== undefined) dropDraft(image.id);
      Object.assign(image, label === undefined ? {} : { class: label }, label ? { skipped: false } : {}, marks);
    }
  } finally {
    // Some of the images may have been changed before one failed.
    if (before.length > 0) undoable.push(before);
  }
}

// Returns the images that are again as they were.
export async function undo() {
  const images = undoable.at(-1) ?? [];
  for (const { id, class: name = null, unsure = false, skipped = false } of images) {
    const now = await lookUp(id);
    if (!sameLabel(now.class ?? null, name)) await putClass(id, name);
    dropDraft(id);
    if (Boolean(now.unsure) !== unsure || Boolean(now.skipped) !== skipped) await putMarks(id, { unsure, skipped });
  }
  undoable.pop();
  return images;
}
