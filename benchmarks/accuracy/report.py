# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Make README.md of the accuracy benchmark from the files of the finished runs.

    python -m benchmarks.accuracy report --data_dir DIR

DIR is needed for the labels and lesions of the test parts, which are not kept in the runs' files; no image is read.
Every row names the files that it was made from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_fgssl.report.style import COLORS, INK, readable, save_figure, style
from monai_fgssl.utils.files import atomic_write

from . import PACKAGE
from .methods import FINE_TUNINGS, PRETRAININGS, Run, default
from .protocol import BUDGETS, DATA_SETS, SPLITS, read_parts, split_file
from .questions import FEW, ONE_VIEW_LIGHT, ONE_VIEW_LIGHT_NAME, QUESTIONS, SCALES, Entry, Question, scaled
from .scoring import Interval, difference, interval, measure, resample_weights

HERE = Path(__file__).resolve().parent
SCALE_TITLES = {
    "small": "64 px, 20 epochs of pre-training (a CPU will do)",
    "medium": "128 px, 80 epochs of pre-training (minutes of a GPU)",
    "large": "ResNet-50, 224 px, 100 epochs of pre-training (hours of a GPU)",
}
TITLES = {"isic2018": "ISIC 2018", "isic2017": "ISIC 2017", "aptos2019": "APTOS 2019"}


@dataclass
class Results:
    """All finished runs, with what is measured on them.

    Attributes:
        data_dir: see :func:`protocol.read_parts`.
        splits: folder of the split files.
        runs: contents of the files by name.
    """

    data_dir: Path
    splits: Path
    runs: dict[str, dict[str, Any]]
    _truth: dict[tuple[str, str], tuple[list[int], NDArray[np.float64]]] = field(default_factory=dict)
    _scores: dict[str, dict[str, Any]] = field(default_factory=dict)

    def truth(self, name: str, split: str) -> tuple[list[int], NDArray[np.float64]]:
        """Labels of the test part, and the resamples of its lesions."""
        if (name, split) not in self._truth:
            items = read_parts(self.data_dir, name, split, self.splits)["test"]
            weights = resample_weights([item["group"] for item in items])
            self._truth[name, split] = [item["label"] for item in items], weights
        return self._truth[name, split]

    def scores(self, run: Run) -> dict[str, Any] | None:
        """Metrics on the test part of one run: ``values`` and ``draws``; None when it is not there."""
        name = run.name()
        if name not in self.runs:
            return None
        if name not in self._scores:
            labels, weights = self.truth(run.data_set, run.split)
            prob = np.array(self.runs[name]["test_prob_times_10000"]) / 1e4
            classes = DATA_SETS[run.data_set].class_names
            values = {metric: value.item() for metric, value in measure(prob, labels, classes).items()}
            self._scores[name] = {"values": values, "draws": measure(prob, labels, classes, weights)}
        return self._scores[name]

    def seeds(self, run: Run) -> list[int]:
        """Seeds of which the run is there."""
        found = sorted({content["run"]["seed"] for content in self.runs.values()})
        return [seed for seed in found if run.but(seed=seed).name() in self.runs]

    def by_seed(self, run: Run) -> dict[int, dict[str, Any]]:
        """Scores of all seeds."""
        scores = {seed: self.scores(run.but(seed=seed)) for seed in self.seeds(run)}
        return {seed: score for seed, score in scores.items() if score is not None}

    def interval(self, run: Run, metric: str) -> Interval:
        """A metric over all seeds."""
        scores = self.by_seed(run)
        return interval([s["values"][metric] for s in scores.values()], [s["draws"][metric] for s in scores.values()])

    def difference(self, run: Run, reference: Run | None, metric: str) -> Interval | None:
        """Run minus reference over the seeds of both."""
        if reference is None:
            return None
        return difference(self.by_seed(run), self.by_seed(reference), metric)

    def validation(self, run: Run, metric: str) -> float:
        """Mean over seeds on the validation part."""
        contents = [self.runs[run.but(seed=seed).name()] for seed in self.seeds(run)]
        return float(np.mean([content["metrics"]["validation"][metric] for content in contents]))

    def mean(self, run: Run, kind: str) -> float:
        """Mean over seeds of seconds or images, all phases together."""
        return float(np.mean([sum(self.runs[run.but(seed=seed).name()][kind].values()) for seed in self.seeds(run)]))

    def rank(self, run: Run) -> float:
        """Mean over seeds of the effective rank of the last step's vectors after pre-training; NaN without any."""
        histories = [self.runs[run.but(seed=seed).name()]["history"] for seed in self.seeds(run)]
        series = [history.get("pretrain", {}).get("rank_concat") for history in histories]
        return float(np.mean([values[-1][1] for values in series if values] or [np.nan]))

    @cached_property
    def machines(self) -> list[str]:
        """Machines, versions and commits that the runs were made with."""
        runs = self.runs.values()
        return sorted({f"{run['machine']}, {run['commit']}, torch {run['versions']['torch']}" for run in runs})


def load_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Contents of all files in ``folder/runs`` by name of the run."""
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "runs").glob("*.json"))]
    return {content["name"]: content for content in contents}


def cell(value: Interval | None, signed: bool = False) -> str:
    """A value with its interval; a dash for what is not there or not defined."""
    if value is None or np.isnan(value["value"]):
        return "-"
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(value["value"], value["low"], value["high"])


def chance(p: float) -> str:
    """A p-value; with 1000 resamples there is none between 0 and 0.002."""
    return f", p = {p:.3f}" if p else ", p < 0.002"


def label(x: str | float) -> str:
    """Of a point."""
    return x if isinstance(x, str) else f"{x:g}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def files(results: Results, run: Run) -> str:
    """Links to the files of all seeds."""
    return " ".join(f"[{seed}](runs/{run.but(seed=seed).name()}.json)" for seed in results.seeds(run))


def answer(results: Results, key: str, data_set: str, scale: str, folder: Path) -> list[str]:
    """Table and plot of a question on a data set; nothing as long as there is nothing to compare."""
    question = QUESTIONS[key]
    entries = [entry for entry in question.points(data_set, scale) if results.seeds(entry.run)]
    if len({entry.x for entry in entries}) < 2:
        return []
    metrics = DATA_SETS[data_set].metrics
    picture = f"{key}_{data_set}_{scale}.png"
    draw(results, question, entries, metrics[0], folder / "plots" / picture, TITLES[data_set])
    rows = []
    gains: dict[str, Interval] = {}
    for entry in entries:
        gain = results.difference(entry.run, entry.reference, metrics[0])
        if gain:
            gains[", ".join(filter(None, (label(entry.x), entry.series)))] = gain
        rows.append(
            [
                label(entry.x),
                entry.series,
                *(cell(results.interval(entry.run, metric)) for metric in metrics),
                cell(gain, signed=True) + (chance(gain["p"]) if gain else ""),
                cell(results.difference(entry.run, entry.reference, "macro_auc"), signed=True),
                f"{results.validation(entry.run, metrics[0]):.3f}",
                f"{results.interval(entry.run, 'calibration_error')['value']:.3f}",
                "-" if np.isnan(rank := results.rank(entry.run)) else f"{rank:.0f}",
                f"{results.mean(entry.run, 'images') / 1e3:.1f}",
                f"{results.mean(entry.run, 'seconds') / 60:.1f}",
                files(results, entry.run),
            ]
        )
    header = [
        question.x_name,
        "",
        *map(readable, metrics),
        f"{readable(metrics[0])}: this - {question.reference_name}",
        "macro AUC: the same",
        f"{readable(metrics[0])}, validation",
        "calibration error",
        "rank",
        "thousand images seen",
        "minutes",
        "runs by seed",
    ]
    first, *rest = (entry.run.changes() for entry in entries)
    common = {name: value for name, value in first.items() if all(name in r and r[name] == value for r in rest)}
    settings = f"Settings of all rows: `{json.dumps(common)}`.\n"
    plot = f"![{question.title}](plots/{picture})\n"
    return [f"### {TITLES[data_set]}\n", *verdict(gains), settings, plot, *table(rows, header), ""]


def verdict(gains: Mapping[str, Interval]) -> list[str]:
    """The differences whose interval lies on one side of 0, in words."""
    if not gains:
        return []
    beyond = [f"{name} ({g['value']:+.3f})" for name, g in gains.items() if g["low"] > 0 or g["high"] < 0]
    of = f"{len(beyond)} of {len(gains)} differences are beyond chance (1 in 20 is expected without any effect)"
    return [of + (f": {'; '.join(beyond)}.\n" if beyond else ".\n")]


def draw(results: Results, question: Question, entries: Sequence[Entry], metric: str, path: Path, title: str) -> None:
    """Lines where x is a number, else a row for each x."""
    series = list(dict.fromkeys(entry.series for entry in entries))
    numeric = all(not isinstance(entry.x, str) for entry in entries)
    names = list(dict.fromkeys(entry.x for entry in entries))
    with style():
        figure = Figure(figsize=(8.5, 4.0 if numeric else 1.4 + 0.45 * len(names)), layout="constrained")
        axes = figure.subplots()
        for number, (name, color) in enumerate(zip(series, cycle(COLORS), strict=False)):
            of_series = [entry for entry in entries if entry.series == name]
            points = [results.interval(entry.run, metric) for entry in of_series]
            shift = (number - (len(series) - 1) / 2) / (len(series) + 1)
            draw_series(axes, [entry.x for entry in of_series], points, names, shift, numeric, color, name)
        if numeric:
            if question.log_x:
                axes.set_xscale("log")
            # Not where two would overlap.
            values = sorted(float(x) for x in names)
            shown = [x for before, x in zip([0.0, *values], values, strict=False) if x > 1.3 * before]
            axes.set_xticks(shown, [label(x) for x in shown])
            axes.minorticks_off()
            axes.set(xlabel=question.x_name, ylabel=f"{readable(metric)}, test part")
        else:
            axes.set_yticks(range(len(names)), [label(x) for x in names])
            axes.invert_yaxis()
            axes.set(xlabel=f"{readable(metric)}, test part")
        axes.set_title(f"{title}: {question.title}")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        save_figure(figure, path)


def draw_series(
    axes: Axes,
    xs: Sequence[str | float],
    points: Sequence[Interval],
    names: Sequence[str | float],
    shift: float,
    numeric: bool,
    color: str,
    name: str,
) -> None:
    """One line, or one dot in each row."""
    values = np.array([[p["value"], p["value"] - p["low"], p["high"] - p["value"]] for p in points])
    reach = values[:, 1:].T.clip(0)
    if numeric:
        # Beside each other, so that no interval hides another.
        places = [float(x) * (1 + 0.15 * shift) for x in xs]
        axes.errorbar(places, values[:, 0], reach, fmt="o-", color=color, ms=4, lw=1.2, elinewidth=0.8, label=name)
    else:
        rows = [names.index(x) + shift for x in xs]
        axes.errorbar(values[:, 0], rows, xerr=reach, fmt="o", color=color, ms=4, elinewidth=1, label=name)
        axes.grid(axis="x", color="#DDDDDD", lw=0.5)
    axes.tick_params(colors=INK)


def best_other(results: Results, run: Run, fine_tunings: Sequence[str]) -> Run | None:
    """The best of the other pre-trainings, chosen on the validation part: without a look at the test part."""
    metric = DATA_SETS[run.data_set].metrics[0]
    others = [
        run.but(pretraining=pretraining, fine_tuning=fine_tuning)
        for pretraining in PRETRAININGS
        for fine_tuning in fine_tunings
        if pretraining not in ("none", run.pretraining)
    ]
    there = [other for other in others if results.seeds(other)]
    return max(there, key=lambda other: results.validation(other, metric), default=None)


def in_words(run: Run) -> str:
    """Pre-training, fine-tuning and labels of a run."""
    light = run.pretraining == "jigsaw" and ONE_VIEW_LIGHT.items() <= run.changes().items()
    pretraining = ONE_VIEW_LIGHT_NAME if light else PRETRAININGS[run.pretraining].label
    kind = f"{pretraining}, {FINE_TUNINGS[run.fine_tuning].label}"
    return f"{kind}, {100 * run.budget:g} % of the labels"


COMPARED = ["data set", "this", "minus", "metric", "difference", "macro AUC, difference", "seeds"]
"""Header of what :func:`compared` returns."""


def compared(results: Results, run: Run, other: Run) -> tuple[list[str], Interval] | None:
    """First cells of a row, and the difference in the metric that decides."""
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


def goals(results: Results, scale: str) -> list[str]:
    """What was hoped for before, and what the runs of a scale say."""
    rows = []
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
            # Plain training may be better there.
            pairs.append((run, smallest, least))
        for ours, other, least in pairs:
            if found := compared(results, ours, other):
                cells, gain = found
                met = "yes" if gain["value"] >= least else "no"
                rows.append([*cells, f"{least:g}", met, "yes" if gain["low"] > 0 else "no"])
    if not rows:
        return []
    return ["The goals set before:\n", *table(rows, [*COMPARED, "goal: at least", "reached", "above 0"]), ""]


def frozen(results: Results, scale: str) -> list[str]:
    """What the pre-trained network knows before any label has changed it."""
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
    if not rows:
        return []
    return ["A linear probe on the frozen network, as pre-trained:\n", *table(rows, COMPARED), ""]


def in_short(results: Results) -> list[str]:
    """The section that comes first."""
    lines: list[str] = []
    for scale, title in SCALE_TITLES.items():
        if found := goals(results, scale) + frozen(results, scale):
            lines += [f"### {title}\n", *found]
    if not lines:
        return []
    return [
        "## In short\n",
        "The other pre-training of the goals is the best on the validation part. The metric that decides depends on "
        "where a class is called, and on the few images of rare classes; the AUC does not on the first, and less on "
        "the second.\n",
        *lines,
    ]


def recalls(results: Results, data_set: str) -> list[str]:
    """Recall of every class, for the runs of question (a)."""
    classes = DATA_SETS[data_set].class_names
    rows = []
    for entry in QUESTIONS["a"].points(data_set):
        if results.seeds(entry.run):
            cells = (cell(results.interval(entry.run, f"recall_{name}")) for name in classes)
            rows.append([label(entry.x), entry.series, *cells])
    return [f"### {TITLES[data_set]}\n", *table(rows, ["pre-training", "", *classes]), ""] if rows else []


def not_run_yet(results: Results, key: str, seeds: Sequence[int], scale: str) -> list[str]:
    """What a question lacks, with the command that makes it."""
    question = QUESTIONS[key]
    planned = question.runs(DATA_SETS, seeds, scale)
    missing = [run for run in planned if run.name() not in results.runs]
    if not missing:
        return []
    data_sets = [name for name in DATA_SETS if any(run.data_set == name for run in missing)]
    size = "" if scale == "small" else f" --scale {scale}"
    return [
        f"- ({key}) {question.title} {len(missing)} of {len(planned)} runs: `python -m benchmarks.accuracy run "
        f"--data_dir DIR --question {key}{size} --data_sets {' '.join(data_sets)} --seeds {' '.join(map(str, seeds))}`"
    ]


def others(results: Results, shown: set[str]) -> list[str]:
    """Runs that belong to no question: trials, and runs with defaults that have changed since."""
    rows = []
    for name, content in sorted(results.runs.items()):
        if name not in shown:
            fields, metric = content["run"], DATA_SETS[content["run"]["data_set"]].metrics[0]
            settings = json.dumps(fields["settings"]) if fields["settings"] else "the defaults of then"
            rows.append(
                [
                    f"[{name}](runs/{name}.json)",
                    PRETRAININGS[fields["pretraining"]].label,
                    FINE_TUNINGS[fields["fine_tuning"]].label,
                    f"{100 * fields['budget']:g}",
                    settings.replace("|", "\\|"),
                    f"{readable(metric)} {content['metrics']['validation'][metric]:.3f}",
                ]
            )
    if not rows:
        return []
    header = ["run", "pre-training", "fine-tuning", "% of the labels", "settings", "validation part"]
    return [
        "## Other runs\n",
        "Trials of settings, and runs with defaults that have changed since. Only the validation part is shown.\n",
        *table(rows, header),
        "",
    ]


def protocol(results: Results) -> list[str]:
    """The section on what was done."""
    rows = []
    for name, data_set in DATA_SETS.items():
        if not split_file(name, "grouped", results.splits).is_file():
            continue
        parts = read_parts(results.data_dir, name, folder=results.splits)
        sizes = [str(len(parts[part])) for part in ("train", "validation", "test")]
        labels = [item["label"] for item in parts["test"]]
        counts = ", ".join(f"{c} {labels.count(k)}" for k, c in enumerate(data_set.class_names))
        rows.append([TITLES[name], *sizes, counts, ", ".join(map(readable, data_set.metrics))])
    shares = ", ".join(f"{100 * share:g}" for share in BUDGETS)
    small = SCALES["small"]
    return [
        "## Protocol\n",
        *table(rows, ["data set", "train", "validation", "own test", "classes of the test part", "metrics"]),
        "",
        "- Splits are the files in [splits/](splits/). Images of one lesion, and near-duplicates, are in one part. "
        "ISIC 2017 keeps its official validation part; its own test part is 20 % of the official training part. The "
        "official test parts are not used.",
        "- Settings and epochs are chosen on the validation part. The own-test part is scored once by each run.",
        f"- Label budgets: {shares} % of the training labels, stratified, by lesion, at least one of each class, "
        "nested for each seed. Pre-training sees all training images without labels. The validation part keeps all its "
        "labels, for all methods alike.",
        "- All methods run the bundle's `train.json` with other parts (`methods.py`): same backbone, image size, "
        "augmentation, optimizer and number of images seen. Pre-training sees every image once in each of "
        f"{small['pretrain_epochs']} epochs where unchanged; fine-tuning sees sqrt(share of the labels) times as "
        f"many images as with all labels in each of {small['max_epochs']} epochs. Pre-training passes "
        "an image twice through the network, FG-SSL too in its alternating schedule (8 times in the progressive, 5 "
        "times in the joint one); minutes are in the tables, from machines that also ran other work, or several "
        "runs at once.",
        "- Linear probe and kNN read the pooled features of all stages of the frozen backbone.",
        "- Probabilities are calibrated by a temperature that is fitted to the validation part.",
        f"- Rank: effective rank of the {default('embedding_dim')} features that the loss compares last, after "
        "pre-training. With few a method has collapsed: settings are the same for all, and were chosen with FG-SSL.",
        "- In brackets: 95 % intervals by bootstrap, 1000 resamples of lesions and of seeds. They hold the chance of "
        "the test images and, with several seeds, that of the choice of labels and of the fine-tuning. One "
        "pre-training serves the fine-tunings of all seeds, and its chance is not in the intervals, but in (m) and "
        "with ResNet-50 each seed has its own. Differences are paired by image and seed; p is twice the share of "
        "resamples on the other side of 0, without correction for the number of comparisons.",
        "",
    ]


def page(results: Results, seeds: Sequence[int], folder: Path) -> str:
    """The whole page; draws the plots too."""
    lines = [
        "# Accuracy\n",
        "Made by `python -m benchmarks.accuracy report --data_dir DIR` from the files in [runs/](runs/), each of which "
        "has the command that made it. `python -m benchmarks.accuracy run --help` says how to make more.\n",
        *in_short(results),
        *protocol(results),
    ]
    seeds_there = sorted({content["run"]["seed"] for content in results.runs.values()})
    shown: set[str] = set()
    waiting: list[str] = []
    for scale in SCALES:
        waiting += [f"\n{SCALE_TITLES[scale]}:\n"]
        for key, question in QUESTIONS.items():
            shown |= {run.name() for run in question.runs(DATA_SETS, seeds_there, scale)}
            waiting += not_run_yet(results, key, seeds, scale)
            sections = [answer(results, key, name, scale, folder) for name in DATA_SETS if name in question.data_sets]
            if any(sections):
                title = f"## ({key}) {question.title}" + ("" if scale == "small" else f" At {SCALE_TITLES[scale]}")
                lines += [title + "\n", question.text + "\n", *chain.from_iterable(sections)]
    sections = [recalls(results, name) for name in DATA_SETS]
    if any(sections):
        lines += ["## Recall of each class\n", "Runs of question (a).\n", *chain.from_iterable(sections)]
    lines += others(results, shown)
    advice = (
        "`--processes N --threads 1` shares the work: one for each core, or as many as keep a GPU busy. "
        "A stopped command goes on where it was."
    )
    lines += ["## Not run yet\n", advice, *waiting, ""]
    if results.machines:
        lines += ["## Machines\n", *(f"- {name}" for name in results.machines), ""]
    return "\n".join(lines)


def main(words: Sequence[str]) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE} report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="has a folder for each data set")
    parser.add_argument("--splits_dir", type=Path, default=SPLITS)
    parser.add_argument("--output_dir", type=Path, default=HERE, help="has the folder runs; README.md is written to it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="that are planned")
    arguments = parser.parse_args(words)
    results = Results(arguments.data_dir, arguments.splits_dir, load_runs(arguments.output_dir))
    text = page(results, arguments.seeds, arguments.output_dir)
    with atomic_write(arguments.output_dir / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
