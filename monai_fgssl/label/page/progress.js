// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Progress: images of each class, speed, labels until training is worthwhile, and results of the last trainings.
import { $, element, percent } from "./dom.js";
import { several } from "./findings.js";
import { showError } from "./messages.js";
import { getBlob, getJson } from "./server.js";
import { changed, onChange, state } from "./state.js";
import { t } from "./texts.js";

const FEWEST = 5;
const LONGEST_PAUSE_MS = 120_000;

// Times of the labels of this visit.
const times = [];

export const countLabel = () => times.push(Date.now());

// Labels per minute since the last long pause; null: too few to tell.
export function pace(moments = times) {
  let first = moments.length - 1;
  while (first > 0 && moments[first] - moments[first - 1] < LONGEST_PAUSE_MS) first -= 1;
  const count = moments.length - 1 - first;
  return count < FEWEST ? null : count / ((moments.at(-1) - moments[first]) / 60_000);
}

// The answer of /fgssl/trainings.
let trainings = { trainings: [], labels_until_better: null };

export async function refreshTrainings() {
  try {
    trainings = await getJson("/fgssl/trainings");
  } catch (error) {
    showError(t("trainings_not_known"), error);
  }
  changed();
}

const measured = ({ value, low, high }) => t("measured", { value: percent(value), low: Math.round(100 * low), high: percent(high) });

function result(name) {
  const [before, after] = trainings.trainings.slice(-2).map((training) => training[name]);
  return after ? t("before_after", { before: measured(before), after: measured(after) }) : measured(before);
}

function drawResult() {
  const last = trainings.trainings.at(-1);
  $("result").hidden = !last;
  if (!last) return;
  $("result-text").textContent = several()
    ? t("result_findings", { auc: result("macro_auc"), f1: result("macro_f1") })
    : t("result", { accuracy: result("accuracy"), balanced: result("balanced_accuracy") });
  // Several findings in one image have no confusion matrix.
  $("show-confusion").hidden = several();
  $("result-text").title = t("result_tip", { count: last.num_test_images });
}

function untilBetter() {
  const { labels_until_better: count } = trainings;
  // The last training has not seen the labels since then.
  if (trainings.trainings.length === 0 || count === null) return "";
  return count > 0 ? t("until_better", { count }) : t("training_pays");
}

function draw() {
  drawResult();
  const speed = pace();
  const parts = [speed === null ? "" : t("pace", { count: Math.round(speed) }), untilBetter()];
  $("pace").textContent = parts.filter(Boolean).join(" ");
  const { counts, classes } = state.info;
  const most = Math.max(1, ...Object.values(counts));
  $("counts").replaceChildren(...classes.map((name) => {
    const row = element("div");
    const track = element("dd", "track");
    const bar = element("span", "bar");
    bar.style.width = `${(100 * counts[name]) / most}%`;
    track.append(bar);
    const term = element("dt", "label", name);
    row.dataset.name = name;
    row.append(term, track, element("dd", "", String(counts[name])));
    return row;
  }));
}

async function showConfusion() {
  try {
    const url = URL.createObjectURL(await getBlob("/fgssl/confusion_matrix"));
    $("confusion-picture").onload = () => URL.revokeObjectURL(url);
    $("confusion-picture").src = url;
    $("confusion").showModal();
  } catch (error) {
    showError(t("no_confusion"), error);
  }
}

onChange(draw);
$("show-confusion").onclick = showConfusion;
$("confusion-close").onclick = () => $("confusion").close();
