// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Goes from image to image, and saves the class that a person chooses.
import { $, percent, quoted } from "./dom.js";
import { act, announce, showError } from "./messages.js";
import { showPicture } from "./picture.js";
import { getBlob, getJson, request } from "./server.js";
import { changed, current, onChange, state } from "./state.js";
import { ranked } from "./suggestion.js";
import { t } from "./texts.js";

export async function refreshInfo() {
  state.info = await getJson("/fgssl/info");
}

export async function start() {
  await act(t("cannot_start"), async () => {
    await refreshInfo();
    fillStrategies();
    await goForward();
  }, start);
  return Boolean(state.info);
}

// The server answers with nothing when there is nothing left to label.
async function chooseNext() {
  return (await getJson(`/activelearning/${quoted($("strategy").value)}`, { method: "POST" })).id;
}

async function goForward() {
  const id = state.history[state.position + 1] ?? await chooseNext();
  await open(id ? Math.min(state.position + 1, state.history.length) : state.history.length, id);
}

async function open(position, id = state.history[position]) {
  if (!id) {
    Object.assign(state, { position, label: null, prediction: null });
    showPicture(null);
    return;
  }
  const [picture, saved] = await Promise.all([
    getBlob(`/fgssl/image/${quoted(id)}`),
    getJson(`/fgssl/label/${quoted(id)}`),
  ]);
  // Only now, so that a picture and its label never belong to different images.
  state.history[position] = id;
  Object.assign(state, { position, label: saved.class, prediction: null });
  showPicture(picture);
  suggest();
}

export async function suggest() {
  const id = current();
  if (!id || !state.info.has_model) return;
  state.predicting = true;
  try {
    const path = `/infer/${quoted(state.info.model)}?image=${quoted(id)}&output=json`;
    const prediction = await getJson(path, { method: "POST" });
    if (current() !== id) return;
    Object.assign(state, { prediction, predicting: false });
    changed();
    const [first] = ranked();
    announce(t("suggestion_spoken", { name: first.name, score: percent(first.score) }));
  } catch (error) {
    if (current() !== id) return;
    state.predicting = false;
    changed();
    showError(t("no_suggestion"), error, suggest);
  }
}

export async function save(name) {
  const id = current();
  if (!id) return;
  const saved = await act(t("not_saved"), async () => {
    await putLabel(id, name);
    state.label = name;
    announce(t("saved", { name }));
  });
  if (saved) await next();
}

async function putLabel(id, name) {
  const body = new FormData();
  body.append("params", JSON.stringify({ class: name }));
  // MONAI Label asks for a file, and takes the class from the parameters.
  body.append("label", new Blob([]), "label.json");
  await request(`/datastore/label?image=${quoted(id)}&tag=final`, { method: "PUT", body });
}

export const removeLabel = () => act(t("not_removed"), async () => {
  if (!current() || !state.label) return;
  await request(`/fgssl/label/${quoted(current())}`, { method: "DELETE" });
  state.label = null;
  announce(t("removed"));
  await refreshInfo();
});

export const back = () => state.position > 0 && act(t("image_not_shown"), () => open(state.position - 1));

export const forward = () => state.position < state.history.length - 1 && act(t("image_not_shown"), goForward);

const next = () => act(t("next_not_shown"), async () => {
  await refreshInfo();
  await goForward();
}, next);

// Another strategy chooses another image, unless this one is labeled or an earlier one.
const changeStrategy = () => act(t("next_not_shown"), async () => {
  localStorage.setItem("strategy", $("strategy").value);
  if (state.label !== null || state.position < state.history.length - 1) return;
  const id = await chooseNext();
  if (!id) return;
  await open(Math.max(state.position, 0), id);
}, changeStrategy);

function fillStrategies() {
  const { strategies } = state.info;
  $("strategy").replaceChildren(...strategies.map((name) => new Option(t(`strategy_${name}`), name)));
  const preferred = localStorage.getItem("strategy");
  if (strategies.includes(preferred)) $("strategy").value = preferred;
}

function draw() {
  const { num_images: total, num_labeled: done, notices } = state.info;
  const id = current();
  $("done-text").textContent = t("done", { done, total });
  $("done-bar").max = Math.max(total, 1);
  $("done-bar").value = done;
  const notice = notices.join(" ");
  $("notice").hidden = !notice;
  if ($("notice").textContent !== notice) $("notice").textContent = notice;
  $("nothing").hidden = Boolean(id);
  $("nothing").textContent = t(total === 0 ? "no_images" : done >= total ? "all_labeled" : "no_next", { total });
  $("name").textContent = id ?? "";
  $("name").title = id ?? "";
  $("back").disabled = state.position <= 0;
  $("forward").disabled = state.position >= state.history.length - 1;
  $("remove").hidden = !state.label;
}

onChange(draw);
$("back").onclick = back;
$("forward").onclick = forward;
$("remove").onclick = removeLabel;
$("strategy").onchange = changeStrategy;
