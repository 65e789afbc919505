// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Labeled images that are similar to this one by the model's features.
import { $, element, percent, quoted } from "./dom.js";
import { getJson } from "./server.js";
import { textOf } from "./findings.js";
import { current, onChange, state } from "./state.js";
import { isHidden } from "./blinding.js";
import { t } from "./texts.js";
import { showThumbnail } from "./thumbnails.js";

// The image, and its neighbors: { id, class, similarity }.
let found = { id: null, neighbors: [] };

export async function findSimilar() {
  const id = current();
  found = { id, neighbors: [] };
  if (!id || !state.info.has_model) return;
  // Without them the page works as well, so show no error.
  const neighbors = await getJson(`/fgssl/images/${quoted(id)}/similar`).catch(() => []);
  if (current() !== id) return;
  found = { id, neighbors };
  draw();
}

function draw() {
  $("similar").hidden = found.neighbors.length === 0 || found.id !== current() || isHidden();
  if ($("similar").hidden) return;
  $("neighbors").replaceChildren(...found.neighbors.map(({ id, class: name, similarity }) => {
    const item = element("li");
    item.dataset.name = id;
    item.title = t("similar_tip", { name: id, similarity: percent(similarity) });
    const picture = element("div", "thumbnail");
    showThumbnail(picture, id);
    item.append(picture, element("span", "label", textOf(name)));
    return item;
  }));
}

onChange(draw);
