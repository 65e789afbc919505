// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Show an image and the model's suggestion, and save the class that a person chooses.
"use strict";

// What lies before "/fgssl/" in the page's address, for a server behind a proxy.
const ROOT = location.pathname.replace(/\/fgssl(\/.*)?$/, "");
const POLL_MS = 1000;
const $ = (id) => document.getElementById(id);

const state = {
  info: null,
  // Images of this visit, oldest first, and which of them is shown; -1: none.
  history: [],
  position: -1,
  label: null,
  prediction: null,
  predicting: false,
  heat: false,
  busy: true,
  training: false,
};

const current = () => state.history[state.position] ?? null;
const percent = (share) => `${Math.round(100 * share)} %`;
const sameName = (a, b) => a.toLowerCase() === b.toLowerCase();
const quoted = encodeURIComponent;

// ---------------------------------------------------------------- server

class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(ROOT + path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new ServerError("the server can't be reached; check that it is running");
  }
  if (response.status === 401) {
    await signIn();
    return request(path, options);
  }
  if (!response.ok) throw new ServerError(await reason(response), response.status);
  return response;
}

async function reason(response) {
  const content = await response.json().catch(() => null);
  if (typeof content?.detail === "string" && content.detail) return content.detail.trim().slice(0, 300);
  return `the server answered with error ${response.status}; its log says why`;
}

const getJson = async (path, options) => (await request(path, options)).json();

let signingIn = null;

function signIn() {
  // Several requests may fail at once: they wait for the same dialog.
  signingIn ??= new Promise((done, failed) => {
    const form = $("sign-in").querySelector("form");
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        const response = await fetch(`${ROOT}/auth/token`, { method: "POST", body: new URLSearchParams(new FormData(form)) });
        if (response.status === 401) throw new ServerError("User and password were not accepted.");
        if (!response.ok) throw new ServerError(await reason(response));
        sessionStorage.setItem("token", (await response.json()).access_token);
        form.reset();
        $("sign-in").close();
        signingIn = null;
        done();
      } catch (error) {
        $("sign-in-error").textContent = error instanceof ServerError ? error.message : "The server can't be reached.";
      }
    };
    $("sign-in").oncancel = () => {
      signingIn = null;
      failed(new ServerError("sign in first"));
    };
    $("sign-in-error").textContent = "";
    $("sign-in").showModal();
  });
  return signingIn;
}

// ---------------------------------------------------------------- messages

let retry = null;

function showError(what, error, again = null) {
  const sentence = `${what}: ${error.message}`;
  $("error-text").textContent = /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
  retry = again;
  $("retry").hidden = !again;
  $("error").hidden = false;
}

function hideError() {
  $("error").hidden = true;
}

async function attempt(what, action, again = null) {
  try {
    await action();
    hideError();
    return true;
  } catch (error) {
    showError(what, error, again);
    return false;
  }
}

// One thing at a time: what is pressed meanwhile is not meant for the image that comes next.
async function act(what, action, again = null) {
  if (state.busy) return false;
  state.busy = true;
  $("main").setAttribute("aria-busy", "true");
  const done = await attempt(what, action, again);
  state.busy = false;
  $("main").setAttribute("aria-busy", "false");
  render();
  return done;
}

// ---------------------------------------------------------------- images and labels

async function refreshInfo() {
  state.info = await getJson("/fgssl/info");
  const shownClasses = [...$("classes").children].map((button) => button.dataset.name);
  if (String(shownClasses) !== String(state.info.classes)) fillClasses();
}

async function start() {
  await act("The page can't start", async () => {
    await refreshInfo();
    fillStrategies();
    await goForward();
  }, start);
  if (state.info) pollTraining();
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
    request(`/fgssl/image/${quoted(id)}`).then((response) => response.blob()),
    getJson(`/fgssl/label/${quoted(id)}`),
  ]);
  // Only now, so that a picture and its label never belong to different images.
  state.history[position] = id;
  Object.assign(state, { position, label: saved.class, prediction: null });
  showPicture(picture);
  suggest();
  if (state.heat) showHeatMap();
}

async function suggest() {
  const id = current();
  if (!id || !state.info.has_model) return;
  state.predicting = true;
  try {
    const prediction = await getJson(`/infer/${quoted(state.info.model)}?image=${quoted(id)}&output=json`, { method: "POST" });
    if (current() !== id) return;
    Object.assign(state, { prediction, predicting: false });
    render();
    const [first] = ranked();
    announce(`Suggestion: ${first.name}, ${percent(first.score)}.`);
  } catch (error) {
    if (current() !== id) return;
    state.predicting = false;
    render();
    showError("There is no suggestion for this image", error, suggest);
  }
}

async function save(name) {
  const id = current();
  if (!id) return;
  const saved = await act("The label was not saved", async () => {
    const body = new FormData();
    body.append("params", JSON.stringify({ class: name }));
    // MONAI Label asks for a file, and takes the class from the parameters.
    body.append("label", new Blob([]), "label.json");
    await request(`/datastore/label?image=${quoted(id)}&tag=final`, { method: "PUT", body });
    state.label = name;
    announce(`${name} saved.`);
  });
  if (saved) await next();
}

const removeLabel = () => act("The label was not removed", async () => {
  if (!current() || !state.label) return;
  await request(`/fgssl/label/${quoted(current())}`, { method: "DELETE" });
  state.label = null;
  announce("Label removed.");
  await refreshInfo();
});

const back = () => state.position > 0 && act("The image can't be shown", () => open(state.position - 1));
const forward = () => state.position < state.history.length - 1 && act("The image can't be shown", goForward);
const next = () => act("The next image can't be shown", async () => {
  await refreshInfo();
  await goForward();
}, next);

// Another strategy chooses another image, unless this one is labeled or an earlier one.
const changeStrategy = () => act("The next image can't be shown", async () => {
  localStorage.setItem("strategy", $("strategy").value);
  if (state.label !== null || state.position < state.history.length - 1) return;
  const id = await chooseNext();
  if (!id) return;
  await open(Math.max(state.position, 0), id);
}, changeStrategy);

// ---------------------------------------------------------------- training

const train = (task, name) => attempt(`${name} did not start`, async () => {
  const headers = { "Content-Type": "application/json" };
  const started = await getJson(`/train/${task}`, { method: "POST", headers, body: "{}" });
  state.training = true;
  showTraining(started);
  setTimeout(pollTraining, POLL_MS);
});

const stop = () => attempt("Training did not stop", async () => {
  await request("/train/", { method: "DELETE" });
});

async function pollTraining() {
  let task;
  try {
    task = await getJson("/train/");
  } catch (error) {
    // 404: nothing was trained since the server started.
    if (error.status === 404) return;
    showError("Progress of the training is not known", error);
    if (state.training) setTimeout(pollTraining, POLL_MS);
    return;
  }
  const running = ["SUBMITTED", "RUNNING"].includes(task.status);
  const finished = state.training && !running;
  state.training = running;
  showTraining(task);
  if (running) setTimeout(pollTraining, POLL_MS);
  if (!finished) return;
  try {
    await refreshInfo();
    render();
    await suggest();
    if (state.heat) await showHeatMap();
  } catch (error) {
    showError("The page is not up to date", error);
  }
}

function showTraining(task) {
  const name = task.request?.model === "pretrain" ? "Pre-training" : "Training";
  const lines = [...(task.details ?? [])];
  // The trainer writes a line for each epoch, as "pre-train 3/10: ...".
  const epochs = lines.map((line) => line.match(/\b(\d+)\/(\d+):/)).filter(Boolean).pop();
  const bar = $("training-bar");
  bar.hidden = !state.training;
  if (epochs) {
    bar.max = Number(epochs[2]);
    bar.value = Number(epochs[1]);
  } else {
    bar.removeAttribute("value");
  }
  const ends = { DONE: "finished", ERROR: "failed", STOPPED: "stopped" };
  $("training-text").textContent = state.training
    ? `${name} ${epochs ? `${epochs[1]} of ${epochs[2]} epochs` : "starts …"}`
    : `${name} ${ends[task.status] ?? task.status}`;
  if (task.status === "ERROR") {
    // Without the name that Python puts before the message of an error.
    const reason = lines.pop()?.trim().replace(/^(error|[\w.]*(Error|Exception)): /, "");
    showError(`${name} failed`, new ServerError(reason || "the server's log says why"));
  }
  render();
}

// ---------------------------------------------------------------- what is seen

// Addresses of what is on the screen, to be given back when something else is shown.
let shown = [];

function show(...blobs) {
  shown.forEach((url) => URL.revokeObjectURL(url));
  shown = blobs.map((blob) => URL.createObjectURL(blob));
  return shown;
}

let original = null;

function showPicture(blob) {
  original = blob;
  const picture = $("picture");
  $("heat-maps").hidden = true;
  picture.hidden = !blob;
  picture.alt = blob ? `Image ${current()}` : "";
  if (blob) [picture.src] = show(blob);
  else picture.removeAttribute("src");
}

async function showHeatMap() {
  const id = current();
  if (!id || !state.info.has_model) return;
  try {
    const strip = await createImageBitmap(await (await request(`/fgssl/heat_maps/${quoted(id)}`)).blob());
    const panels = await cut(strip);
    if (current() === id && state.heat) showPanels(id, panels);
  } catch (error) {
    if (current() !== id) return;
    state.heat = false;
    render();
    showError("There is no heat map of this image", error);
  }
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
  box.setAttribute("aria-label", `Heat maps of image ${id}: what each stage of the network looked at`);
  box.replaceChildren(...show(...panels).map((url, index) => {
    const panel = element("span", "panel");
    const image = new Image();
    image.src = url;
    image.alt = "";
    panel.append(image, element("span", "caption", index ? `stage ${index}` : "image"));
    return panel;
  }));
  $("picture").hidden = true;
  box.hidden = false;
}

function toggleHeat() {
  if ($("heat").disabled) return;
  state.heat = !state.heat;
  render();
  if (state.heat) showHeatMap();
  else showPicture(original);
}

function announce(sentence) {
  $("announcement").textContent = sentence;
}

// Scores under the names that the server lists, the likeliest first.
function ranked() {
  return state.prediction.prediction
    .map(({ label, score }) => ({ name: state.info.classes.find((name) => sameName(name, label)) ?? label, score }))
    .sort((a, b) => b.score - a.score);
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

const keyOf = (index) => (index < 10 ? String((index + 1) % 10) : "");

function fillStrategies() {
  const { strategies } = state.info;
  $("strategy").replaceChildren(...strategies.map((name) => new Option(name.replaceAll("_", " "), name)));
  const preferred = localStorage.getItem("strategy");
  if (strategies.includes(preferred)) $("strategy").value = preferred;
}

function fillClasses() {
  const { classes } = state.info;
  $("number-keys").textContent = classes.length > 1 ? `1–${Math.min(classes.length, 9)}` : "1";
  $("classes").replaceChildren(...classes.map((name, index) => {
    const button = element("button", "class");
    button.type = "button";
    button.dataset.name = name;
    const key = element("kbd", "", keyOf(index));
    key.ariaHidden = "true";
    if (keyOf(index)) button.setAttribute("aria-keyshortcuts", keyOf(index));
    const label = element("span", "label", name);
    label.append(" ", element("span", "note"));
    const track = element("span", "track");
    track.append(element("span", "bar"));
    button.append(key, label, track, element("span", "score"));
    button.onclick = () => save(name);
    return button;
  }));
}

function render() {
  if (!state.info) return;
  const { num_images: total, num_labeled: done, has_model: hasModel } = state.info;
  const id = current();
  $("done-text").textContent = `${done} of ${total} labeled`;
  $("done-bar").max = Math.max(total, 1);
  $("done-bar").value = done;

  const notice = state.info.notices.join(" ");
  $("notice").hidden = !notice;
  if ($("notice").textContent !== notice) $("notice").textContent = notice;
  $("no-classes").hidden = state.info.classes.length > 0;
  $("nothing").hidden = Boolean(id);
  $("nothing").textContent = total === 0
    ? "There are no images: put some into the folder that the server was started with, and load this page again."
    : done >= total ? `All ${total} images are labeled.` : "There is no next image.";
  $("name").textContent = id ?? "";
  $("name").title = id ?? "";
  $("back").disabled = state.position <= 0;
  $("forward").disabled = state.position >= state.history.length - 1;
  $("heat").disabled = !id || !hasModel;
  $("heat").setAttribute("aria-pressed", String(state.heat));

  renderClasses(id);
  $("remove").hidden = !state.label;
  renderSuggestion(id, hasModel);

  $("train").disabled = state.training || done === 0;
  $("pretrain").disabled = state.training || total === 0;
  $("stop").hidden = !state.training;
}

function renderClasses(id) {
  const scores = state.prediction ? ranked() : [];
  for (const button of $("classes").children) {
    const name = button.dataset.name;
    const score = scores.find((entry) => entry.name === name)?.score;
    const suggested = scores[0]?.name === name;
    const chosen = state.label !== null && sameName(state.label, name);
    button.disabled = !id;
    button.setAttribute("aria-pressed", String(chosen));
    button.classList.toggle("scored", score !== undefined);
    button.classList.toggle("suggested", suggested);
    button.querySelector(".bar").style.width = score === undefined ? "0" : `${100 * score}%`;
    button.querySelector(".score").textContent = score === undefined ? "" : percent(score);
    button.querySelector(".note").textContent = chosen ? "✓ your label" : suggested ? "suggested" : "";
  }
}

function renderSuggestion(id, hasModel) {
  const { prediction } = state;
  const text = $("suggestion");
  $("stages").hidden = !prediction?.stages;
  $("uncertainty").hidden = !prediction;
  if (!prediction) {
    text.textContent = suggestionInWords(id, hasModel);
    return;
  }
  const [first] = ranked();
  text.replaceChildren(element("b", "", first.name), ` with ${percent(first.score)}`);
  const rows = Object.entries(prediction.stages ?? {}).map(([stage, scores]) => stageRow(stage, scores, first.name));
  $("stages").tBodies[0].replaceChildren(...rows);
  const agreeing = rows.filter((row) => row.dataset.agrees === "true").length;
  if (rows.length) text.append(`. ${agreeing} of ${rows.length} stages agree.`);
  for (const [place, value] of [["entropy", prediction.entropy], ["disagreement", prediction.stage_disagreement]]) {
    $(place).textContent = typeof value === "number" ? percent(value) : "–";
  }
}

function suggestionInWords(id, hasModel) {
  if (!id) return "";
  if (!hasModel) return "No model yet: label some images of each class, then press Train.";
  return state.predicting ? "…" : "None for this image.";
}

function stageRow(stage, scores, suggested) {
  const [name, score] = Object.entries(scores).sort((a, b) => b[1] - a[1])[0];
  const agrees = sameName(name, suggested);
  const row = document.createElement("tr");
  row.dataset.agrees = String(agrees);
  const listed = state.info.classes.find((other) => sameName(other, name)) ?? name;
  const head = element("th", "", stage.replace(/(\d+)$/, " $1").replaceAll("_", " "));
  head.scope = "row";
  row.append(head, element("td", agrees ? "" : "other", agrees ? `${listed} ✓` : `${listed} ≠`), element("td", "", percent(score)));
  return row;
}

// ---------------------------------------------------------------- keys and buttons

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if ($("sign-in").open) return;
  // A list has its own use for letters and arrows.
  if (event.target.matches("select") && !/^(\d|Backspace|Delete)$/.test(event.key)) return;
  const keys = {
    h: toggleHeat,
    Backspace: back,
    ArrowLeft: back,
    ArrowRight: forward,
    Delete: removeLabel,
    Escape: hideError,
  };
  const index = state.info?.classes.findIndex((_, i) => keyOf(i) === event.key) ?? -1;
  const action = index >= 0 ? () => save(state.info.classes[index]) : keys[event.key] ?? keys[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

document.addEventListener("keydown", onKey);
$("back").onclick = back;
$("forward").onclick = forward;
$("heat").onclick = toggleHeat;
$("remove").onclick = removeLabel;
$("train").onclick = () => train("train", "Training");
$("pretrain").onclick = () => train("pretrain", "Pre-training");
$("stop").onclick = stop;
$("dismiss").onclick = hideError;
$("retry").onclick = () => {
  hideError();
  retry();
};
$("strategy").onchange = changeStrategy;
$("picture").onerror = () => showError("The image can't be shown", new ServerError("what the server sent is no picture"));

state.busy = false;
start();
