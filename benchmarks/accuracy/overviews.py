# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages that cover all questions: goals, ensembles, probes of the frozen network, recalls, and all other runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from monai_fgssl.metrics import STRENGTHS
from monai_fgssl.report.style import readable

from .methods import FINE_TUNINGS, PRETRAININGS, Run, default
from .protocol import BUDGETS, DATA_SETS
from .questions import FEW, ONE_VIEW_LIGHT, QUESTIONS, SCALES, Entry, scaled
from .results import Results, best_other
from .scoring import Interval, difference, interval
from .words import SCALE_TITLES, TITLES, cell, in_words, label, listed, table

__all__ = ["Goal", "all_goals", "ensembles", "frozen", "goals", "others", "recalls"]

ON_IMAGENET = """On ImageNet weights

EfficientNet-Lite0, 96 px, with FG-SSL on top of the weights and without. Both are fine-tuned as plain training does. On
ISIC 2018, fine-tunings and probes of FG-SSL come from two pre-trainings with the same settings on two machines."""
"""Heading of a section of :func:`ensembles`, and what its table shows."""
COMPARED = ["data set", "this", "minus", "metric", "difference", "macro AUC, difference", "seeds"]
"""Header of the table whose rows :func:`compared` returns."""


def compared(results: Results, run: Run, other: Run) -> tuple[list[str], Interval] | None:
    """Compare two runs; return the cells of a row, and the difference in the main metric."""
    metric = DATA_SETS[run.data_set].metrics[0]
    gain = results.difference(run, other, metric)
    if gain is None:
        return None
    seeds = len({*results.seeds(run)} & {*results.seeds(other)})
    sizes = [side.changes().get("image_size", default("image_size")) for side in (run, other)]
    both = [
        in_words(side) + f", {size} px" * (sizes[0] != sizes[1]) for side, size in zip((run, other), sizes, strict=True)
    ]
    names = [TITLES[run.data_set], *both, readable(metric)]
    ranking = cell(results.difference(run, other, "macro_auc"), signed=True)
    return [*names, cell(gain, signed=True), ranking, str(seeds)], gain


@dataclass(frozen=True)
class Goal:
    """A gain that was the goal, and the gain that was measured.

    Attributes:
        least: smallest gain that reaches the goal.
        gain: gain that was measured.
        cells: cells of the row of this goal.
    """

    least: float
    gain: Interval
    cells: list[str]

    @property
    def reached(self) -> bool:
        """True if the mean gain over seeds is at least :attr:`least`."""
        return self.gain["value"] >= self.least

    @property
    def beyond_chance(self) -> bool:
        """True if the whole interval is above 0."""
        return self.gain["low"] > 0


def all_goals(results: Results, scale: str) -> list[Goal]:
    """List the goals that were set before the first run, if a scale has runs for them."""
    found = []
    for name, data_set in DATA_SETS.items():
        run, supervised = (
            scaled(Run(name, *methods), scale) for methods in (("fgssl", "progressive"), ("none", "plain"))
        )
        smallest = scaled(Run(name, "none", "plain"), "small")
        least = 0.05 if data_set.metrics[0] == "macro_f1" else 0.03
        few = run.but(budget=FEW)
        pairs = [(run.but(budget=share), supervised.but(budget=share), least) for share in (1.0, FEW)]
        if best := best_other(results, few, ("progressive", "plain")):
            pairs.append((few, best, 0.0))
        pairs.append((few, supervised.but(budget=0.3), 0.0))
        if supervised != smallest:
            # Plain training may be better at the small scale.
            pairs.append((run, smallest, least))
        for ours, other, hoped in pairs:
            if compared_ones := compared(results, ours, other):
                cells, gain = compared_ones
                found.append(Goal(hoped, gain, cells))
    return found


def goals(results: Results) -> list[str]:
    """Make the page of the goals."""
    lines = [
        "# Goals\n",
        "Differences that were hoped for before the first run. The other pre-training is the best on the validation "
        "part. [How to read this](../README.md#how-to-read).\n",
    ]
    for scale, title in SCALE_TITLES.items():
        yes = {True: "yes", False: "no"}
        rows = [
            [*goal.cells, f"{goal.least:g}", yes[goal.reached], yes[goal.beyond_chance]]
            for goal in all_goals(results, scale)
        ]
        if rows:
            lines += [f"## {title}\n", *table(rows, [*COMPARED, "goal: at least", "reached", "above 0"]), ""]
    return lines


def frozen(results: Results) -> list[str]:
    """Make the page of linear probes, which show how good features are before any label has changed the network."""
    lines = [
        "# Frozen features\n",
        "A linear probe on the frozen network, as pre-trained. [How to read this](../README.md#how-to-read).\n",
    ]
    for scale, title in SCALE_TITLES.items():
        if rows := _frozen_rows(results, scale):
            lines += [f"## {title}\n", *table(rows, COMPARED), ""]
    return lines


def _frozen_rows(results: Results, scale: str) -> list[list[str]]:
    rows = []
    for name in DATA_SETS:
        run, plain = (scaled(Run(name, *methods), scale) for methods in (("fgssl", "linear"), ("none", "plain")))
        for share in (FEW, 1.0):
            ours = run.but(budget=share)
            probes = [ours.but(pretraining=pretraining) for pretraining in PRETRAININGS if pretraining != "fgssl"]
            light = ours.but(pretraining="jigsaw").but(ONE_VIEW_LIGHT)
            baselines = dict.fromkeys(
                (plain.but(budget=share), scaled(Run(name, "none", "plain", budget=share), "small"))
            )
            compared_with = [compared(results, ours, other) for other in (*probes, light, *baselines)]
            rows += [found[0] for found in compared_with if found]
    return rows


Scores = dict[int, dict[str, Any]]
"""Scores of a method by seed."""


def ensembles(results: Results) -> list[str]:
    """Make the page about the mean of a fine-tuned network and the probe of the same pre-training."""
    lines = [
        "# Fine-tuned network and probe together\n",
        "`--fine_tuning ensemble`: the model predicts with the logits of the fine-tuned network and of a linear probe "
        "on the frozen network that it started from. Ensemble: mean of their calibrated logits. The bundle fits the "
        "weights of the two on the validation part. The runs have stored no predictions for that part, so the row "
        "with fitted weights predicts each half of the test lesions with weights of the other half. Every other start "
        "gets the same probe. [How to read this](../README.md#how-to-read).\n",
        "No network was trained for this page: it combines the stored predictions of the other pages. That network and "
        "probe predict together was chosen on the validation part, with other pre-trainings "
        "([recipes](../../results/fine_tuning_recipes.md)). That logits are averaged, not probabilities, was decided "
        "after the first look at this page; the table has both.\n",
        "Balanced decisions: of each image the class with the highest log p - tau log prior is "
        "predicted, not the likeliest one; the prior is the class shares of the labeled training images (Menon et al., "
        "ICLR 2021). Every method gets it alike. Each half of the test lesions is decided with the tau "
        f"({listed([f'{strength:g}' for strength in STRENGTHS])}) that has the highest macro F1 on the other half, "
        "since no predictions for the validation part are stored. Probabilities, and so the macro AUC, do not change. "
        "**Read it as an exploration:** this rule was first tried on this test part, with these taus and no other "
        "rule, and no other part has confirmed it.\n",
    ]
    sections = [
        (
            title,
            [
                row
                for name in ("isic2018", "aptos2019")
                for share in sorted({*BUDGETS, FEW})
                for row in _ensemble_rows(results, *_on_random_weights(name, share, scale))
            ],
        )
        for scale, title in SCALE_TITLES.items()
    ]
    on_imagenet = [
        row
        for name in ("isic2018", "aptos2019")
        for entry in QUESTIONS["k"].points(name)
        if entry.reference and entry.run.fine_tuning == "plain" and "96 px" in entry.series
        for row in _ensemble_rows(
            results, entry.run, {"ImageNet weights, plain fine-tuning": entry.reference}, _probes_on_imagenet(entry)
        )
    ]
    sections.append((ON_IMAGENET, on_imagenet))
    for heading, rows in sections:
        if rows:
            metrics = ["macro AUC", "macro F1", "macro F1 with balanced decisions"]
            header = ["data set", "% of the labels", "method", *metrics]
            header += [f"{metric}: FG-SSL, ensemble, minus this" for metric in metrics]
            lines += [f"## {heading}\n", *table(rows, [*header, "seeds"]), ""]
    return lines


def _on_random_weights(name: str, share: float, scale: str) -> tuple[Run, dict[str, Run]]:
    """FG-SSL from random weights, and what it is compared with, by title."""
    ours = scaled(Run(name, "fgssl", "progressive", budget=share), scale)
    runs = [
        ours.but(pretraining=start, fine_tuning=fine_tuning)
        for start in ("none", "barlow_twins")
        for fine_tuning in ("plain", "progressive")
    ]
    return ours, {f"{PRETRAININGS[run.pretraining].label}, {FINE_TUNINGS[run.fine_tuning].label}": run for run in runs}


def _probes_on_imagenet(entry: Entry) -> dict[str, Run]:
    """Probes without FG-SSL, and after another pre-training of it, by title."""
    probe = entry.run.but(fine_tuning="linear")
    start = {name: value for name, value in probe.changes().items() if name in ("backbone", "image_size")}
    again = Run(probe.data_set, probe.pretraining, "linear", budget=probe.budget, pretrain_seed=1).but(start)
    return {
        "ImageNet weights, probe": probe.but(pretraining="none"),
        "FG-SSL pre-trained again (other seed, 40 epochs, default views), probe": again,
    }


def _ensemble_rows(
    results: Results, ours: Run, others: Mapping[str, Run], probes: Mapping[str, Run] | None = None
) -> list[list[str]]:
    """Compare the ensemble of one fine-tuning with its members, with others and their ensembles, and with probes."""
    ensemble = results.ensembles(ours)
    if not ensemble:
        return []
    methods: dict[str, Scores] = {"FG-SSL, ensemble": ensemble}
    methods["FG-SSL, ensemble with fitted weights"] = results.ensembles(ours, "fitted")
    methods["FG-SSL, mean of the probabilities"] = results.ensembles(ours, "probabilities")
    methods["FG-SSL, fine-tuned"] = results.by_seed(ours)
    methods["FG-SSL, probe"] = results.by_seed(ours.but(fine_tuning="linear"))
    for title, run in others.items():
        methods[title] = results.by_seed(run)
        methods[f"{title}, ensemble"] = results.ensembles(run)
    methods |= {title: results.by_seed(run) for title, run in (probes or {}).items()}
    rows = []
    decided = results.balanced(ours, ensemble)
    for title, scores in methods.items():
        if scores:
            balanced = results.balanced(ours, scores)
            shown = ((ensemble, scores, "macro_auc"), (ensemble, scores, "macro_f1"), (decided, balanced, "macro_f1"))
            cells = [cell(_mean(of_this, metric)) for _, of_this, metric in shown]
            gains = [
                "-" if scores is ensemble else cell(difference(of_ours, of_this, metric), signed=True)
                for of_ours, of_this, metric in shown
            ]
            rows.append([TITLES[ours.data_set], f"{100 * ours.budget:g}", title, *cells, *gains, str(len(scores))])
    return rows


def _mean(scores: Scores, metric: str) -> Interval:
    return interval([s["values"][metric] for s in scores.values()], [s["draws"][metric] for s in scores.values()])


def recalls(results: Results) -> list[str]:
    """Make the page of the recall of every class, for the runs of question (a)."""
    sections = [_recall_rows(results, name) for name in DATA_SETS]
    lines = ["# Recall of each class\n", "Runs of question (a). [How to read this](../README.md#how-to-read).\n"]
    return [*lines, *chain.from_iterable(sections)]


def _recall_rows(results: Results, data_set: str) -> list[str]:
    classes = DATA_SETS[data_set].class_names
    rows = []
    for entry in QUESTIONS["a"].points(data_set):
        if results.seeds(entry.run):
            cells = (cell(results.interval(entry.run, f"recall_{name}")) for name in classes)
            rows.append([label(entry.x), entry.series, *cells])
    return [f"## {TITLES[data_set]}\n", *table(rows, ["pre-training", "", *classes]), ""] if rows else []


def others(results: Results) -> list[str]:
    """Make the page of runs that do not belong to a question: trials, and runs with earlier defaults."""
    seeds = sorted({content["run"]["seed"] for content in results.runs.values()})
    shown = {
        run.name()
        for scale in SCALES
        for question in QUESTIONS.values()
        for run in question.runs(DATA_SETS, seeds, scale, former=True)
    }
    rows = []
    for name, content in sorted(results.runs.items()):
        if name not in shown:
            fields, metric = content["run"], DATA_SETS[content["run"]["data_set"]].metrics[0]
            settings = json.dumps(fields["settings"]) if fields["settings"] else "the defaults of then"
            rows.append(
                [
                    f"`{name}`",
                    PRETRAININGS[fields["pretraining"]].label,
                    FINE_TUNINGS[fields["fine_tuning"]].label,
                    f"{100 * fields['budget']:g}",
                    settings.replace("|", "\\|"),
                    f"{readable(metric)} {content['metrics']['validation'][metric]:.3f}",
                ]
            )
    header = ["run", "pre-training", "fine-tuning", "% of the labels", "settings", "validation part"]
    return [
        "# Other runs\n",
        "Trials of settings, and runs with defaults that have changed since. Only the validation part is shown.\n",
        *table(rows, header),
        "",
    ]
