# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Number of labels that each strategy of active learning needs, on ISIC 2018.

    python -m benchmarks.active_learning --dataset_dir DIR

The bundle `fgssl` pre-trains on all training images without their labels. Its network is then frozen.
In each round a strategy chooses images to label, and a linear classifier is fitted to the pooled features of each
stage. The logits of all stages are added, as in PMG eq. 7. Macro F1 is measured on the same test part for all
strategies. Nothing is tuned per strategy. A run is skipped if its file exists already.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import monai
import numpy as np
import torch
from matplotlib.ticker import MultipleLocator
from monai.bundle import ConfigWorkflow
from monai.networks.utils import eval_mode
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.data import CachedImages, SplitPlan, make_loader, prepare_data
from monai_fgssl.metrics import classification_metrics
from monai_fgssl.metrics.acquisition import STRATEGIES, choose
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.report.style import COLORS, INK, readable, save_figure, style
from monai_fgssl.utils.files import atomic_write

from .timing import processor

RESULTS = Path(__file__).parent / "results"
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
FIRST, BATCH, LAST = 40, 20, 600
BUDGETS = range(FIRST, LAST + 1, BATCH)
TARGETS = (200, 400, 600)
REACH = 0.6
# Candidate settings of the probe. The choice among them uses random labels.
PENALTIES, CLASS_WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0), (None, "balanced")
TUNING_LABELS, TUNING_SEEDS = 300, range(3)
# Logarithm of the probability of a class without any label so far.
UNSEEN = -20.0
# Position in the figure of a target that was not reached.
OUTSIDE = 1.6

Array = NDArray[np.float64]


@torch.no_grad()
def encode(network: HierarchicalNet, images: CachedImages) -> list[Tensor]:
    """Features of each stage, averaged over the image: ``(N, channels)``."""
    batches = []
    with eval_mode(network):
        for batch in make_loader(images, batch_size=256):
            maps = network.backbone(network.normalize(batch["image"].float() / 255))
            batches.append([maps[index].mean((2, 3)) for index in network.stage_indices])
    return [torch.cat(stage) for stage in zip(*batches, strict=True)]


def pretrain(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Pre-train on the training part without labels, and encode all parts."""
    configs = shipped_bundle("fgssl") / "configs"
    work_dir = Path(arguments.work_dir).resolve()
    split_file = work_dir / "split.json"
    if not split_file.is_file():
        prepare_data(
            arguments.dataset_dir,
            arguments.image_size,
            SplitPlan(FRACTIONS),
            split_file,
            cache_dir=work_dir / "images",
        )
    start = time.time()
    workflow = ConfigWorkflow(
        config_file=[str(configs / "train.json"), str(configs / "pretrain.json")],
        dataset_dir=arguments.dataset_dir,
        output_dir=str(work_dir / f"pretraining_{seed}"),
        cache_dir=str(work_dir / "images"),
        split_from=str(split_file),
        image_size=arguments.image_size,
        pretrain_epochs=arguments.pretrain_epochs,
        pretrain_batch_size=64,
        seed=seed,
    )
    workflow.initialize()
    workflow.run()
    seconds = time.time() - start
    data = workflow.parser.get_parsed_content("data")
    network = workflow.parser.get_parsed_content("network")
    result: dict[str, Any] = {"seconds": seconds, "class_names": list(data.class_names)}
    for part in ("train", "validation", "test"):
        images = getattr(data, part)
        result[part] = {"features": encode(network, images), "labels": images.labels}
    return result


def probe(
    stages: list[Array], labels: NDArray[np.int64], num_classes: int, setting: dict[str, Any]
) -> Callable[[list[Array]], Array]:
    """Fit a linear classifier to the features of each stage, and return a function from features to logits.

    The shape of the logits is ``(N, num_stages, num_classes)``.
    """
    models = [LogisticRegression(**setting, tol=1e-3, max_iter=300).fit(stage, labels) for stage in stages]

    def logits(others: list[Array]) -> Array:
        scores = np.full((len(others[0]), len(models), num_classes), UNSEEN)
        for k, (model, stage) in enumerate(zip(models, others, strict=True)):
            scores[:, k, model.classes_] = model.predict_log_proba(stage).clip(UNSEEN)
        return scores

    return logits


def standardized(features: dict[str, Any]) -> dict[str, list[Array]]:
    """Scale the features of each part to mean 0 and standard deviation 1 over the training images, without labels."""
    parts: dict[str, list[Array]] = {"train": [], "validation": [], "test": []}
    for k, stage in enumerate(features["train"]["features"]):
        center, scale = stage.double().mean(0), stage.double().std(0, correction=0).clamp_min(1e-6)
        for part, stages in parts.items():
            stages.append(((features[part]["features"][k].double() - center) / scale).numpy())
    return parts


def rows_of(stages: list[Array], rows: NDArray[np.int64]) -> list[Array]:
    """Select the features of some images."""
    return [stage[rows] for stage in stages]


def score(logits: Array, labels: Tensor) -> float:
    """Macro F1 of the prediction, which is the sum of the logits of all stages."""
    return classification_metrics(logits.sum(1), labels)["macro_f1"]


def tune(features: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure macro F1 of each probe setting on the validation part, with random labels; the best comes first."""
    parts, num_classes = standardized(features), len(features["class_names"])
    labels = features["train"]["labels"].numpy()
    results = []
    for setting in ({"C": c, "class_weight": weight} for c in PENALTIES for weight in CLASS_WEIGHTS):
        values = []
        for seed in TUNING_SEEDS:
            rows = np.random.default_rng([seed, 1]).permutation(len(labels))[:TUNING_LABELS]
            logits = probe(rows_of(parts["train"], rows), labels[rows], num_classes, setting)
            values.append(score(logits(parts["validation"]), features["validation"]["labels"]))
        results.append({"setting": setting, "macro_f1": mean(values)})
    return sorted(results, key=lambda result: -result["macro_f1"])


def learn(features: dict[str, Any], strategy: str, setting: dict[str, Any], network: int, seed: int) -> dict[str, Any]:
    """Label images round by round, and measure macro F1 on the test part for each number of labels.

    For a given network and seed, all strategies start from the same random images.
    """
    start = time.time()
    parts, num_classes = standardized(features), len(features["class_names"])
    pool = parts["train"]
    # Distances are computed on the concatenated features of all stages.
    flat = torch.from_numpy(np.concatenate(pool, axis=1)).float()
    labels = features["train"]["labels"].numpy()
    generator = torch.Generator().manual_seed(1000 * network + seed)
    chosen = torch.randperm(len(flat), generator=generator)[:FIRST]
    curve, counts = [], []
    for budget in BUDGETS:
        known = chosen.numpy()
        logits = probe(rows_of(pool, known), labels[known], num_classes, setting)
        curve.append(score(logits(parts["test"]), features["test"]["labels"]))
        counts.append(np.bincount(labels[known], minlength=num_classes).tolist())
        if budget == LAST:
            break
        free = torch.ones(len(flat), dtype=torch.bool)
        free[chosen] = False
        rows = free.nonzero().flatten()
        scores = logits(rows_of(pool, rows.numpy()))
        picked = choose(
            strategy,
            len(rows),
            BATCH,
            # The mean of the logits is as confident as one stage. The sum would be far too confident.
            prob=torch.from_numpy(scores.mean(1)).softmax(-1),
            stage_prob=torch.from_numpy(scores).softmax(-1),
            features=flat[rows],
            labeled_features=flat[chosen],
            generator=generator,
        )
        chosen = torch.cat([chosen, rows[picked]])
    return {"macro_f1": curve, "counts": counts, "seconds": time.time() - start}


def learn_all(features: dict[str, Any], setting: dict[str, Any]) -> float:
    """Macro F1 on the test part with all labels."""
    parts, labels = standardized(features), features["train"]["labels"].numpy()
    logits = probe(parts["train"], labels, len(features["class_names"]), setting)
    return score(logits(parts["test"]), features["test"]["labels"])


def labels_needed(curve: Array, target: float) -> float | None:
    """Number of labels at which a curve first reaches a macro F1; None if it never does.

    Values between two rounds are interpolated linearly. The curve is first replaced by the closest curve that never
    falls (isotonic regression), so that a single lucky round does not count.
    """
    budgets = np.array(BUDGETS, dtype=np.float64)
    rising = IsotonicRegression().fit_transform(budgets, curve)
    if rising[-1] < target:
        return None
    after = int(np.argmax(rising >= target))
    if after == 0:
        return float(budgets[0])
    share = (target - rising[after - 1]) / (rising[after] - rising[after - 1])
    return float(budgets[after - 1] + share * BATCH)


def ratios(curves: dict[str, Array], target: int) -> dict[str, list[float | None]]:
    """Labels that each strategy needs, divided by the labels that random choice needs, for each run.

    The ratio is None if the strategy needs more labels than the run had.

    Args:
        curves: macro F1 of each strategy, ``(num_runs, num_rounds)``.
        target: number of labels; random choice with that many labels sets the macro F1 to reach.
    """
    place = BUDGETS.index(target)
    result: dict[str, list[float | None]] = {strategy: [] for strategy in curves}
    for run, reference in enumerate(curves["random"]):
        aim = IsotonicRegression().fit_transform(np.array(BUDGETS), reference)[place]
        at_random = labels_needed(reference, aim)
        assert at_random is not None
        for strategy, values in curves.items():
            needed = labels_needed(values[run], aim)
            result[strategy].append(None if needed is None else needed / at_random)
    return result


def averaged(curves: dict[str, Array]) -> dict[str, Array]:
    """Average the curves of each strategy to a single run."""
    return {strategy: values.mean(0, keepdims=True) for strategy, values in curves.items()}


def describe(curves: dict[str, Array], target: int, strategy: str) -> str:
    """Describe the ratio of the mean curves, and the range of the ratios of single runs."""
    (of_means,) = ratios(averaged(curves), target)[strategy]
    single = ratios(curves, target)[strategy]
    known = [value for value in single if value is not None]
    text = "not reached" if of_means is None else f"{of_means:.2f}"
    span = [f"{min(known):.2f} to {max(known):.2f}"] if known else []
    if len(known) < len(single):
        span.append(f"not reached in {len(single) - len(known)} of {len(single)}")
    return f"{text} ({', '.join(span)})"


def draw_figure(curves: dict[str, Array], ceiling: float) -> None:
    """Draw curves and label ratios, and write the picture to a file."""
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(3, 2), layout="constrained")
        for strategy, color in zip(curves, (INK, *COLORS), strict=False):
            values = curves[strategy]
            middle = values.mean(0)
            left.plot(BUDGETS, middle, color=color, lw=2 if strategy == "random" else 1.4, label=readable(strategy))
            if strategy == "random":
                left.fill_between(BUDGETS, values.min(0), values.max(0), color=color, alpha=0.12, lw=0)
        left.axhline(ceiling, color=INK, lw=0.8, ls=":")
        left.annotate("all labels", (FIRST, ceiling), (0, -11), textcoords="offset points", color=INK)
        left.set(xlabel="labels", ylabel="macro F1 on the test part", title="Mean of the runs (shade: range of random)")
        left.yaxis.set_major_locator(MultipleLocator(0.05))
        left.legend(ncols=2, loc="lower right")
        single, of_means = (ratios(some, TARGETS[-1]) for some in (curves, averaged(curves)))
        for place, (strategy, color) in enumerate(zip(curves, (INK, *COLORS), strict=False)):
            for shares, size, alpha in ((single[strategy], 4, 0.5), (of_means[strategy], 9, 1.0)):
                for share in shares:
                    position, marker = (OUTSIDE, ">") if share is None else (share, "o")
                    right.plot(position, place, marker, color=color, ms=size, alpha=alpha, mec="none")
        right.axvline(1, color=INK, lw=0.8)
        right.axvline(REACH, color=INK, lw=0.8, ls="--")
        right.set(
            yticks=range(len(curves)),
            yticklabels=[readable(strategy) for strategy in curves],
            xlim=(0, OUTSIDE + 0.05),
            xlabel="labels needed / labels that random needs",
            title=f"To reach random with {TARGETS[-1]} labels",
        )
        right.invert_yaxis()
        save_figure(figure, RESULTS / "active_learning.png")
        plt.close(figure)


def report(
    arguments: argparse.Namespace,
    all_features: list[dict[str, Any]],
    tuned: list[dict[str, Any]],
    runs: dict[str, list[dict[str, Any]]],
    ceilings: list[float],
) -> str:
    """Return the results as a Markdown page, and draw the picture."""
    curves = {strategy: np.array([run["macro_f1"] for run in of_strategy]) for strategy, of_strategy in runs.items()}
    draw_figure(curves, mean(ceilings))
    classes = all_features[0]["class_names"]
    sizes = {part: len(all_features[0][part]["labels"]) for part in ("train", "validation", "test")}
    others = [strategy for strategy in runs if strategy != "random"]
    of_means = ratios(averaged(curves), TARGETS[-1])
    needed = {strategy: share for strategy in others for share in of_means[strategy] if share is not None}
    best = min(needed, key=lambda strategy: needed[strategy])
    reached = needed[best] <= REACH
    reference = averaged(curves)["random"][0]
    aim = IsotonicRegression().fit_transform(np.array(BUDGETS), reference)[-1]
    labels_of_best, labels_of_random = (labels_needed(averaged(curves)[s][0], aim) for s in (best, "random"))
    # The seeds of one network are consecutive runs.
    by_network = [
        {strategy: values[start : start + len(arguments.seeds)] for strategy, values in curves.items()}
        for start in range(0, len(arguments.networks) * len(arguments.seeds), len(arguments.seeds))
    ]
    per_strategy = len(arguments.networks) * len(arguments.seeds)
    setting = tuned[0]["setting"]
    lines = [
        "# Active learning on ISIC 2018\n",
        f"`python -m benchmarks.active_learning --dataset_dir DIR --image_size {arguments.image_size} "
        f"--pretrain_epochs {arguments.pretrain_epochs} --networks {' '.join(map(str, arguments.networks))} --seeds "
        f"{' '.join(map(str, arguments.seeds))}`, {time.strftime('%Y-%m-%d')}, {processor()}, "
        f"{torch.get_num_threads()} thread(s), beside other work, torch {torch.__version__}, monai "
        f"{monai.__version__}. Pre-training took {sum(f['seconds'] for f in all_features) / 60:.0f} minutes, the "
        f"{per_strategy * len(runs)} runs {sum(run['seconds'] for r in runs.values() for run in r) / 60:.0f}.\n",
        "![Macro F1 against the number of labels, and label ratios](active_learning.png)\n",
        f"**For the macro F1 that random has with {TARGETS[-1]} labels, the best strategy, {readable(best)}, needs "
        f"{describe(curves, TARGETS[-1], best)} of random's labels. The reach of at most {REACH:g} is "
        f"{'met' if reached else 'not met'}.** The first figure is that of the mean curves of {per_strategy} runs "
        f"({labels_of_best:.0f} labels against {labels_of_random:.0f} for a macro F1 of {aim:.3f}), in brackets are "
        f"the lowest and the highest of the single runs. It is the best of {len(others)} strategies, picked after "
        f"the fact, on one data set. Of the {len(arguments.seeds)} runs of each network alone: "
        + ", ".join(describe(of_network, TARGETS[-1], best) for of_network in by_network)
        + ".\n",
        "## What was measured\n",
        f"- ISIC 2018 Task 3, {arguments.image_size} px, split by lesion, the same for all: {sizes['train']} images to "
        f"label, {sizes['validation']} for validation, {sizes['test']} to test on. Nothing was chosen on the test "
        "part.",
        f"- The network is a ResNet-18 from random weights, pre-trained by FG-SSL for {arguments.pretrain_epochs} "
        f"epochs on the images to label, without labels; {len(arguments.networks)} of them. **It is frozen then**: a "
        "round fits logistic regressions to the pooled features of each stage, and adds their logits. The MONAI Label "
        "app fine-tunes the whole network instead, which is too slow to repeat here; figures for it would differ.",
        "- The backbone's pooled features were taken rather than the vectors `z` or the blocks' pooled vectors, since "
        "the probe was better on them on the validation part, with random labels.",
        f"- A run starts with {FIRST} random images and adds {BATCH} a round up to {LAST}. The {len(arguments.seeds)} "
        "seeds are of the first images, the same for all strategies, and of random's choices.",
        f"- The probe's penalty and class weights were chosen once, on the validation part, with {TUNING_LABELS} "
        f"random labels on the first network: C = {setting['C']:g}, class_weight = {setting['class_weight']}. Macro "
        "F1 of all settings: "
        + ", ".join(f"{r['setting']['C']:g} {r['setting']['class_weight']} {r['macro_f1']:.3f}" for r in tuned)
        + ". That favors random, if anything.",
        "- Labels needed: where the curve, made non-falling by isotonic regression, first reaches the aim. Random's "
        "own curve is measured in the same way.",
        f"- With all {sizes['train']} labels the same probe has a macro F1 of {mean(ceilings):.3f}.\n",
        "## Labels needed, as a share of random's\n",
        "Of the mean curves (single runs); the aim is random's macro F1 with so many labels.\n",
        "| strategy | " + " | ".join(f"aim: random with {target}" for target in TARGETS) + " |",
        "| --- " * (1 + len(TARGETS)) + "|",
    ]
    for strategy in others:
        cells = [describe(curves, target, strategy) for target in TARGETS]
        lines.append(f"| {readable(strategy)} | " + " | ".join(cells) + " |")
    shown = (100, *TARGETS)
    lines += [
        "\n## Macro F1 by number of labels\n",
        "Mean [lowest, highest run].\n",
        "| strategy | " + " | ".join(map(str, shown)) + " | mean over rounds, and its standard deviation over runs |",
        "| --- " * (2 + len(shown)) + "|",
    ]
    for strategy, values in curves.items():
        cells = [
            f"{column.mean():.3f} [{column.min():.3f}, {column.max():.3f}]"
            for column in (values[:, BUDGETS.index(n)] for n in shown)
        ]
        areas = values.mean(1)
        cells.append(f"{areas.mean():.3f} ± {areas.std(ddof=1):.3f}")
        lines.append(f"| {readable(strategy)} | " + " | ".join(cells) + " |")
    lines += [
        f"\n## What was labeled\n\nImages of each class among {LAST} labels, mean over all runs.\n",
        "| strategy | " + " | ".join(classes) + " |",
        "| --- " * (1 + len(classes)) + "|",
    ]
    for strategy, of_strategy in runs.items():
        counts = np.mean([run["counts"][-1] for run in of_strategy], axis=0)
        lines.append(f"| {readable(strategy)} | " + " | ".join(f"{count:.0f}" for count in counts) + " |")
    return "\n".join(lines) + "\n"


def stored(file: Path, make: Callable[[], Any]) -> Any:
    """Return the content of a JSON file; if the file does not exist, make the content and write it first."""
    if not file.is_file():
        content = json.dumps(make())
        with atomic_write(file) as temporary:
            temporary.write_text(content)
    return json.loads(file.read_text())


def main() -> None:
    """Make all runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="folder in the layout of ISIC 2018 Task 3")
    parser.add_argument("--work_dir", default="active_learning_runs", help="folder where the runs are kept")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--pretrain_epochs", type=int, default=3)
    parser.add_argument("--networks", type=int, nargs="+", default=[0], help="seeds of the pre-training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the first labels")
    arguments = parser.parse_args()
    work_dir = Path(arguments.work_dir)
    all_features = []
    for network in arguments.networks:
        file = work_dir / f"features_{network}.pt"
        if not file.is_file():
            with atomic_write(file) as temporary:
                torch.save(pretrain(arguments, network), temporary)
        all_features.append(torch.load(file))
    tuned = stored(work_dir / "probe.json", partial(tune, all_features[0]))
    setting = tuned[0]["setting"]
    ceilings = []
    runs: dict[str, list[dict[str, Any]]] = {strategy: [] for strategy in STRATEGIES}
    for network, features in zip(arguments.networks, all_features, strict=True):
        ceilings.append(stored(work_dir / f"all_labels_{network}.json", partial(learn_all, features, setting)))
        for seed in arguments.seeds:
            for strategy, of_strategy in runs.items():
                file = work_dir / f"{strategy}_{network}_{seed}.json"
                of_strategy.append(stored(file, partial(learn, features, strategy, setting, network, seed)))
    with atomic_write(RESULTS / "active_learning.md") as temporary:
        temporary.write_text(report(arguments, all_features, tuned, runs, ceilings))


if __name__ == "__main__":
    main()
