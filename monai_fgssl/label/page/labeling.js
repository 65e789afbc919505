// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Goes from image to image, and saves the class or the findings that a person chooses.
import { isHidden, visibleClass } from "./blinding.js";
import { $, percent, quoted } from "./dom.js";
import { dropDraft, isUnsaved, several, textOf, tick, ticked } from "./findings.js";
import { canUndo, change, lookUp, undo } from "./labels.js";
import { act, announce, showError } from "./messages.js";
import { countLabel } from "./progress.js";
import { showPicture } from "./picture.js";
import { getJson, getPicture } from "./server.js";
import { findSimilar } from "./similar.js";
import { changed, current, onChange, state } from "./state.js";
import { ranked } from "./suggestion.js";
import { t } from "./texts.js";
import { inReview, onView } from "./views.js";

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

async function goForward(unreadable = []) {
  const before = state.history[state.position + 1];
  const id = before ?? state.queue[0] ?? await chooseNext();
  try {
    await open(id ? Math.min(state.position + 1, state.history.length) : state.history.length, id);
  } catch (error) {
    // An image that can't be read: the server has noted it, and does not choose it again.
    if (error.status !== 422 || before || unreadable.includes(id)) throw error;
    state.queue = state.queue.filter((waiting) => waiting !== id);
    announce(t("passed_over", { name: id }));
    await refreshInfo();
    await goForward([...unreadable, id]);
  }
}

async function open(position, id = state.history[position]) {
  if (!id) {
    Object.assign(state, { position, image: null, prediction: null });
    showPicture(null);
    return;
  }
  const [picture, image] = await Promise.all([getPicture(`/fgssl/image/${quoted(id)}`), lookUp(id)]);
  // Only now, so that a picture and its label never belong to different images.
  state.history[position] = id;
  state.queue = state.queue.filter((waiting) => waiting !== id);
  Object.assign(state, { position, image, prediction: null });
  showPicture(picture);
  suggest();
  findSimilar();
}

// Opens an image, and then those of a list one after another.
export const openList = (id, rest = []) => act(t("image_not_shown"), async () => {
  state.queue = rest;
  await open(state.history.length, id);
});

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
    if (isHidden()) return;
    const [first] = ranked();
    if (several()) announce(t("suggestion_spoken_findings", { names: textOf(prediction.findings) }));
    else announce(t("suggestion_spoken", { name: first.name, score: percent(first.score) }));
  } catch (error) {
    if (current() !== id) return;
    state.predicting = false;
    changed();
    showError(t("no_suggestion"), error, suggest);
  }
}

// What a click on a class or its key does: with several findings, the person goes on choosing.
export async function choose(name) {
  if (!several()) {
    await save(name);
    return;
  }
  if (!state.image || state.busy) return;
  announce(t(tick(name) ? "ticked" : "unticked", { name }));
  changed();
}

export const saveFindings = () => several() && save(ticked());

async function save(label) {
  if (!state.image) return;
  const saved = await act(t("not_saved"), async () => {
    await change([state.image], { class: label });
    countLabel();
    announce(t("saved", { name: textOf(label) }));
  });
  if (saved) await next();
}

export async function skip() {
  if (!state.image) return;
  if (await act(t("not_skipped"), () => change([state.image], { skipped: true }))) await next();
}

export const toggleUnsure = () => act(t("not_marked"), async () => {
  if (!state.image) return;
  await change([state.image], { unsure: !state.image.unsure });
  announce(t(state.image.unsure ? "marked_unsure" : "marked_sure"));
});

function dropTicked() {
  dropDraft(state.image.id);
  announce(t("draft_dropped"));
  changed();
}

export const removeLabel = () => act(t("not_removed"), async () => {
  if (!state.image?.class) return;
  await change([state.image], { class: null });
  announce(t("removed"));
  await refreshInfo();
});

// First what was ticked and not saved, then the last change. Shows what was taken back, if it was one image.
export const takeBack = () => (isUnsaved() ? dropTicked() : takeBackChange());

const takeBackChange = () => act(t("not_undone"), async () => {
  const images = await undo();
  if (images.length === 0) return;
  announce(t("undone", { count: images.length }));
  await refreshInfo();
  if (images.length > 1) return;
  const known = state.history.lastIndexOf(images[0].id);
  await open(known < 0 ? state.history.length : known, images[0].id);
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
  if (state.image?.class || state.position < state.history.length - 1) return;
  const id = await chooseNext();
  if (!id) return;
  await open(Math.max(state.position, 0), id);
}, changeStrategy);

const endList = () => {
  state.queue = [];
  changed();
};

function fillStrategies() {
  const { strategies } = state.info;
  $("strategy").replaceChildren(...strategies.map((name) => new Option(t(`strategy_${name}`), name)));
  const preferred = localStorage.getItem("strategy");
  if (strategies.includes(preferred)) $("strategy").value = preferred;
}

function draw() {
  const { num_images: total, num_labeled: done, num_unreadable: unreadable, notices } = state.info;
  const { image } = state;
  $("done-text").textContent = t("done", { done, total });
  $("done-bar").max = Math.max(total, 1);
  $("done-bar").value = done;
  const notice = [...notices, unreadable ? t("unreadable_images", { count: unreadable }) : ""].filter(Boolean).join(" ");
  $("notice").hidden = !notice;
  if ($("notice").textContent !== notice) $("notice").textContent = notice;
  $("nothing").hidden = Boolean(image);
  $("nothing").textContent = t(total === 0 ? "no_images" : done >= total ? "all_labeled" : "no_next", { total });
  $("name").textContent = image?.id ?? "";
  $("name").title = image?.id ?? "";
  $("back").disabled = state.position <= 0;
  $("forward").disabled = state.position >= state.history.length - 1;
  $("skip").disabled = !image;
  $("unsure").disabled = !image;
  $("unsure").setAttribute("aria-pressed", String(Boolean(image?.unsure)));
  $("undo").disabled = !canUndo() && !isUnsaved();
  $("save").hidden = !several();
  $("save").disabled = !image;
  $("save-text").textContent = t(ticked().length > 0 ? "save_findings" : "save_none");
  $("unsaved").hidden = !isUnsaved();
  $("unsaved").textContent = isUnsaved() ? t("unsaved") : "";
  $("remove").hidden = visibleClass() === null;
  $("queue").hidden = state.queue.length === 0;
  $("queue-text").textContent = t("queue", { count: state.queue.length });
}

onChange(draw);
let wasInReview = false;
onView(() => {
  const isBack = wasInReview && !inReview();
  wasInReview = inReview();
  // Its label may have been changed in the grid.
  if (isBack && state.image && !state.busy) act(t("image_not_shown"), async () => {
    state.image = await lookUp(state.image.id);
  });
});
$("back").onclick = back;
$("forward").onclick = forward;
$("skip").onclick = skip;
$("unsure").onclick = toggleUnsure;
$("undo").onclick = takeBack;
$("save").onclick = saveFindings;
$("remove").onclick = removeLabel;
$("queue-end").onclick = endList;
$("strategy").onchange = changeStrategy;
