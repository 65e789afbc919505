// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Starts and stops trainings, and follows them.
import { $ } from "./dom.js";
import { refreshInfo, suggest } from "./labeling.js";
import { attempt, showError } from "./messages.js";
import { showHeatMap } from "./picture.js";
import { getJson, request, sendJson, ServerError } from "./server.js";
import { changed, onChange, state } from "./state.js";
import { t } from "./texts.js";

const POLL_MS = 1000;
const ENDS = { DONE: "finished", ERROR: "failed", STOPPED: "stopped" };

const train = (task) => attempt(t(`${task}_not_started`), async () => {
  const started = await sendJson("POST", `/train/${task}`);
  state.training = true;
  show(started);
  setTimeout(follow, POLL_MS);
});

const stop = () => attempt(t("train_not_stopped"), () => request("/train/", { method: "DELETE" }));

export async function follow() {
  let task;
  try {
    task = await getJson("/train/");
  } catch (error) {
    // 404: nothing was trained since the server started.
    if (error.status === 404) return;
    showError(t("train_not_known"), error);
    if (state.training) setTimeout(follow, POLL_MS);
    return;
  }
  const running = ["SUBMITTED", "RUNNING"].includes(task.status);
  const finished = state.training && !running;
  state.training = running;
  show(task);
  if (running) setTimeout(follow, POLL_MS);
  if (!finished) return;
  try {
    await refreshInfo();
    changed();
    await suggest();
    if (state.heat) await showHeatMap();
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
  $("training-text").textContent = state.training
    ? t(epochs ? `${name}_epochs` : `${name}_starts`, { done: epochs?.[1], total: epochs?.[2] })
    : t(`${name}_${ENDS[task.status] ?? "stopped"}`);
  if (task.status === "ERROR") {
    // Without the name that Python puts before the message of an error.
    const reason = lines.pop()?.trim().replace(/^(error|[\w.]*(Error|Exception)): /, "");
    showError(t(`${name}_failed`), new ServerError(reason || t("log_says_why")));
  }
  changed();
}

function draw() {
  $("train").disabled = state.training || state.info.num_labeled === 0;
  $("pretrain").disabled = state.training || state.info.num_images === 0;
  $("stop").hidden = !state.training;
}

onChange(draw);
$("train").onclick = () => train("train");
$("pretrain").onclick = () => train("pretrain");
$("stop").onclick = stop;
