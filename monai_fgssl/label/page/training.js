// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Starts and stops trainings, and follows them.
import { $ } from "./dom.js";
import { refreshInfo, suggest } from "./labeling.js";
import { attempt, showError } from "./messages.js";
import { refreshTrainings } from "./progress.js";
import { getJson, request, sendJson, ServerError } from "./server.js";
import { changed, onChange, state } from "./state.js";
import { t } from "./texts.js";

const POLL_MS = 1000;
// Somebody else may start a training.
const IDLE_POLL_MS = 15_000;
const ENDS = { DONE: "finished", ERROR: "failed", STOPPED: "stopped" };

// Lines that the trainer prints before the first epoch, the last one first.
const PHASES = [
  [/^\s*(near-duplicates:|train \d+ )/, "phase_first"],
  [/^\s*\d+ images in /, "phase_read"],
  [/^\s*checking \d+ images/, "phase_look"],
];
// Frames, bars and rules that programs draw with characters.
const DRAWN = /^\s*[+|│]|[+|=~│─█]{2,}/;

const train = (task) => attempt(t(`${task}_not_started`), async () => {
  const started = await sendJson("POST", `/train/${task}`);
  state.training = true;
  show(started);
  later();
});

const stop = () => attempt(t("train_not_stopped"), () => request("/train/", { method: "DELETE" }));

let timer = 0;

function later() {
  clearTimeout(timer);
  timer = setTimeout(follow, state.training ? POLL_MS : IDLE_POLL_MS);
}

export async function follow() {
  let task;
  try {
    task = await getJson("/train/");
  } catch (error) {
    // 404: nothing was trained since the server started.
    if (error.status !== 404) showError(t("train_not_known"), error);
    later();
    return;
  }
  const running = ["SUBMITTED", "RUNNING"].includes(task.status);
  const finished = state.training && !running;
  state.training = running;
  show(task);
  later();
  if (!finished) return;
  try {
    await refreshTrainings();
    await refreshInfo();
    changed();
    await suggest();
  } catch (error) {
    showError(t("not_up_to_date"), error);
  }
}

function show(task) {
  const name = task.request?.model === "pretrain" ? "pretrain" : "train";
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
  $("training-text").textContent = state.training ? going(name, lines, epochs) : t(`${name}_${ENDS[task.status] ?? "stopped"}`);
  if (task.status === "ERROR") {
    // Without the name that Python puts before the message of an error.
    const reason = lines.filter((line) => /\p{L}{2}/u.test(line) && !DRAWN.test(line)).pop()?.trim().replace(/^(error|[\w.]*(Error|Exception)): /, "");
    showError(t(`${name}_failed`), new ServerError(reason || t("log_says_why")));
  }
  changed();
}

function going(name, lines, epochs) {
  if (epochs) return t(`${name}_epochs`, { done: epochs[1], total: epochs[2] });
  const phase = PHASES.find(([start]) => lines.some((line) => start.test(line)))?.[1];
  return phase ? `${t(`${name}_starts`)} ${t(phase)}` : t(`${name}_starts`);
}

function draw() {
  $("train").disabled = state.training || state.info.training_refused !== null;
  $("refusal").hidden = state.training || state.info.training_refused === null || state.info.num_labeled === 0;
  $("refusal").textContent = state.info.training_refused ?? "";
  $("pretrain").disabled = state.training || state.info.num_images === 0;
  $("stop").hidden = !state.training;
}

onChange(draw);
$("train").onclick = () => train("train");
$("pretrain").onclick = () => train("pretrain");
$("stop").onclick = stop;
