// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Saves and removes labels and marks on the server, and takes the last changes back.
import { quoted } from "./dom.js";
import { getJson, request, sendJson } from "./server.js";

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

// Gives the images a class (null: none) or marks.
export async function change(images, { class: name, ...marks }) {
  const before = [];
  try {
    for (const image of images) {
      if (name !== undefined && name !== (image.class ?? null)) await putClass(image.id, name);
      if (Object.keys(marks).length > 0) await putMarks(image.id, marks);
      before.push({ ...image });
      Object.assign(image, name === undefined ? {} : { class: name }, name ? { skipped: false } : {}, marks);
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
    if ((now.class ?? null) !== name) await putClass(id, name);
    if (Boolean(now.unsure) !== unsure || Boolean(now.skipped) !== skipped) await putMarks(id, { unsure, skipped });
  }
  undoable.pop();
  return images;
}
