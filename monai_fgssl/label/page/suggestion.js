// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// The model's suggestion in words, and the answer of each stage of the network.
import { isHidden } from "./blinding.js";
import { $, element, percent } from "./dom.js";
import { several, textOf } from "./findings.js";
import { current, onChange, sameName, state } from "./state.js";
import { t } from "./texts.js";

// Why a person should decide, as the server says it.
const REASONS = {
  "several classes are possible": "reason_several",
  "a finding is undecided": "reason_undecided",
  "unlike the training images": "reason_unlike",
};

// Scores by the names that the server lists, in the server's order: the predicted class first, then the likeliest.
export function ranked() {
  return state.prediction.prediction.map(({ label, score }) => ({ name: listed(label), score }));
}

const listed = (name) => state.info.classes.find((other) => sameName(other, name)) ?? name;

function draw() {
  const prediction = isHidden() ? null : state.prediction;
  const text = $("suggestion");
  // The stages of the network are not calibrated, so no threshold of a finding is meant for them.
  $("stages").hidden = !prediction?.stages || several();
  $("uncertainty").hidden = !prediction;
  if (!prediction) {
    text.textContent = withoutSuggestion();
    return;
  }
  if (several()) text.replaceChildren(element("b", "label", textOf(prediction.findings)));
  else sayClass(prediction, text);
  if (prediction.reasons?.length) {
    const reasons = prediction.reasons.map((reason) => (REASONS[reason] ? t(REASONS[reason]) : reason));
    text.append(" ", element("span", "refer", t("refer", { reasons: reasons.join(", ") })));
  }
  $("entropy").parentElement.title = t(several() ? "entropy_tip_findings" : "entropy_tip");
  for (const [place, value] of [["entropy", prediction.entropy], ["disagreement", prediction.stage_disagreement]]) {
    $(place).textContent = typeof value === "number" ? percent(value) : "–";
  }
}

function sayClass(prediction, text) {
  const [first] = ranked();
  const rows = Object.entries(prediction.stages ?? {}).map(([stage, scores]) => stageRow(stage, scores, first.name));
  $("stages").tBodies[0].replaceChildren(...rows);
  const agreeing = rows.filter((row) => row.dataset.agrees === "true").length;
  text.replaceChildren(element("b", "", first.name), " ", t("with_score", { score: percent(first.score) }));
  if (rows.length) text.append(" ", t("stages_agree", { agreeing, total: rows.length }));
}

function withoutSuggestion() {
  if (!current()) return "";
  if (!state.info.has_model) return t("no_model");
  if (isHidden()) return t("hidden");
  return state.predicting ? "…" : t("none_for_image");
}

function stageRow(stage, scores, suggested) {
  const [name, score] = Object.entries(scores).sort((a, b) => b[1] - a[1])[0];
  const agrees = sameName(name, suggested);
  const row = document.createElement("tr");
  row.dataset.agrees = String(agrees);
  const number = stage.match(/\d+$/)?.[0];
  const head = element("th", "", number ? t("stage", { number }) : t("all_stages"));
  head.scope = "row";
  const class_ = element("td", agrees ? "" : "other", `${listed(name)} ${agrees ? "✓" : "≠"}`);
  row.append(head, class_, element("td", "", percent(score)));
  return row;
}

onChange(draw);
