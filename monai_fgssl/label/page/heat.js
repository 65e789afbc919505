// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Heat maps: one over the picture, for a class and a stage, or those of all stages side by side.
import { isHidden } from "./blinding.js";
import { $, element, quoted } from "./dom.js";
import { showError } from "./messages.js";
import { getBlob } from "./server.js";
import { changed, current, onChange, state } from "./state.js";
import { ranked } from "./suggestion.js";
import { t } from "./texts.js";
import { currentSlice } from "./viewing.js";

// Largest height and width of the layer. The browser smooths it when it enlarges it.
const LARGEST = 1024;
const EACH = "each";

// The heat map that is shown or requested; null: none.
let wanted = null;
// The prediction whose most likely class was selected.
let offered = null;
let addresses = [];

function next() {
  if (!state.heat || !state.prediction || !current() || isHidden()) return null;
  const found = { id: current(), prediction: state.prediction, stage: $("heat-stage").value };
  return found.stage === EACH ? found : { ...found, name: $("heat-class").value, slice: currentSlice() };
}

const isSame = (a, b) => a === b || Boolean(a && b && Object.keys({ ...a, ...b }).every((key) => a[key] === b[key]));

async function show() {
  const last = wanted;
  const mine = next();
  if (isSame(mine, last)) return;
  wanted = mine;
  // For the same image, keep the former heat map until the new one has arrived.
  if (!mine || mine.id !== last?.id || mine.stage === EACH || last.stage === EACH) clear();
  if (!mine) return;
  try {
    await (mine.stage === EACH ? showEach(mine) : showLayer(mine));
  } catch (error) {
    if (wanted !== mine) return;
    state.heat = false;
    changed();
    showError(t("no_heat_map"), error);
  }
}

function clear() {
  $("heat-layer").hidden = true;
  $("heat-maps").hidden = true;
  $("picture").hidden = !current();
  addresses.forEach((address) => URL.revokeObjectURL(address));
  addresses = [];
}

// ---------------------------------------------------------------- over the picture

async function showLayer(mine) {
  const query = new URLSearchParams({ class: mine.name });
  if (mine.stage) query.set("stage", mine.stage);
  if (mine.slice !== null) query.set("slice", mine.slice);
  const layer = await createImageBitmap(await getBlob(`/fgssl/heat_layer/${quoted(mine.id)}?${query}`));
  // Its size is known then.
  await $("picture").decode().catch(() => {});
  if (wanted !== mine) return;
  const { naturalWidth: width, naturalHeight: height } = $("picture");
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  const canvas = $("heat-layer");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(layer, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", t("heat_layer_of", { name: mine.name }));
  canvas.hidden = false;
}

// ---------------------------------------------------------------- side by side

async function showEach(mine) {
  const panels = await cut(await createImageBitmap(await getBlob(`/fgssl/heat_maps/${quoted(mine.id)}`)));
  if (wanted === mine) showPanels(mine.id, panels);
}

// The server puts the image and its heat maps side by side: on a screen they are larger in rows.
function cut(strip) {
  const count = state.info.num_stages + 1;
  const width = Math.floor(strip.width / count);
  return Promise.all(Array.from({ length: count }, (_, index) => {
    const canvas = new OffscreenCanvas(width, strip.height);
    canvas.getContext("2d").drawImage(strip, -index * width, 0);
    return canvas.convertToBlob();
  }));
}

function showPanels(id, panels) {
  const box = $("heat-maps");
  const columns = Math.ceil(Math.sqrt(panels.length));
  box.style.setProperty("--columns", columns);
  box.style.setProperty("--rows", Math.ceil(panels.length / columns));
  box.setAttribute("aria-label", t("heat_maps_of", { name: id }));
  addresses = panels.map((panel) => URL.createObjectURL(panel));
  box.replaceChildren(...addresses.map((address, index) => {
    const panel = element("span", "panel");
    const image = new Image();
    image.src = address;
    image.alt = "";
    panel.append(image, element("span", "caption", index ? t("stage", { number: index }) : t("image")));
    return panel;
  }));
  $("picture").hidden = true;
  box.hidden = false;
}

// ---------------------------------------------------------------- what people choose

export function toggleHeat() {
  if ($("heat").disabled) return;
  state.heat = !state.heat;
  changed();
}

function fill(select, entries) {
  const { value } = select;
  if (String([...select.options].map((option) => [option.value, option.text])) === String(entries)) return;
  select.replaceChildren(...entries.map(([key, text]) => new Option(text, key)));
  select.value = entries.some(([key]) => key === value) ? value : entries[0]?.[0] ?? "";
}

function draw() {
  const { num_stages: count, has_model: hasModel } = state.info;
  $("heat").disabled = !current() || !hasModel || isHidden();
  $("heat").setAttribute("aria-pressed", String(state.heat));
  $("heat-tools").hidden = !state.heat || $("heat").disabled || !state.prediction;
  if (state.prediction && !isHidden()) {
    const scores = ranked();
    // The classes that the model knows; the server may have more.
    fill($("heat-class"), scores.map(({ name }) => name).sort().map((name) => [name, name]));
    if (offered !== state.prediction) $("heat-class").value = scores[0].name;
    offered = state.prediction;
  }
  const stages = Array.from({ length: count }, (_, index) => [String(index), t("stage", { number: index + 1 })]);
  fill($("heat-stage"), [["", t("all_stages")], ...stages, [EACH, t("heat_each")]]);
  for (const tool of ["heat-class-tool", "opacity-tool", "legend"]) $(tool).hidden = $("heat-stage").value === EACH;
  show();
}

onChange(draw);
$("heat").onclick = toggleHeat;
$("heat-class").onchange = changed;
$("heat-stage").onchange = changed;
$("opacity").oninput = () => {
  $("heat-layer").style.opacity = $("opacity").valueAsNumber / 100;
};
$("opacity").oninput();
