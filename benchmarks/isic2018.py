# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""FG-SSL, the same fine-tuning from random weights, plain supervised training and plain Barlow Twins on ISIC 2018.

    python benchmarks/isic2018.py --dataset_dir DIR

Every method runs the bundle `fgssl` with other settings: same images, split by lesion, optimizer, number of epochs
and choice of the best epoch by macro F1 on the validation part. The test part is scored once. A method whose
`predictions.json` is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigWorkflow

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.data.atomic import atomic_write
from monai_fgssl.metrics import METRICS, bootstrap_difference, bootstrap_intervals

RESULTS = Path(__file__).parent / "results"
# The defaults of the bundle when these results were made; it distorts colour more strongly now, uses larger tiles and
# other schedules.
VIEW = {
    "_target_": "monai_fgssl.transforms.RandDistortedView",
    "crop_scale": [0.5, 1.0],
    "rotate_prob": 0.5,
    "rotate_range": 20.0,
    "jitter_prob": 0.8,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.2,
    "grayscale_prob": 0.1,
    "blur_prob": 0.3,
    "solarize_prob": 0.1,
}
FGSSL: dict[str, Any] = {
    "grids": [8, 4, 2],
    "distorted_view": VIEW,
    "pretrain_schedule": "progressive",
    "schedule": "progressive",
    "puzzles": True,
}
PLAIN: dict[str, Any] = {
    "distorted_view": VIEW,
    "network_def": {
        "_target_": "monai_fgssl.networks.PlainNet",
        "backbone": "@backbone",
        "spatial_dims": 2,
        "in_channels": 3,
        "num_classes": "$len(@class_names)",
        "features": "@features",
        "stem": "@stem",
        "weights": "@weights",
    },
    "grids": [],
}
METHODS: dict[str, dict[str, Any]] = {
    "FG-SSL": FGSSL,
    "random weights, same fine-tuning": FGSSL | {"pretrain_epochs": 0},
    "plain Barlow Twins": PLAIN | {"regularized_view": VIEW},
    "plain supervised": PLAIN | {"pretrain_epochs": 0},
}


def run(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train and test one method, and return its predictions and what was seen on the way."""
    start = time.time()
    workflow = ConfigWorkflow(
        config_file=str(shipped_bundle("fgssl") / "configs" / "train.json"),
        **{"compare": False, "output_dir": str(folder), "model_path": str(folder / "model.pt")} | settings,
    )
    workflow.initialize()
    workflow.run()
    predictions = workflow.parser.get_parsed_content("test#predictions")
    history = json.loads((folder / "metrics.json").read_text())["history"]
    return {
        "names": predictions.names,
        "groups": predictions.groups,
        "labels": predictions.labels.tolist(),
        "probabilities": predictions.probabilities.tolist(),
        "history": history,
        "seconds": time.time() - start,
    }


def last(result: dict[str, Any], phase: str, series: str) -> str:
    """Last value of a series of a phase's history, or a dash."""
    values = result["history"].get(phase, {}).get(series)
    return f"{values[-1][1]:.3g}" if values else "-"


def report(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    """The results as a Markdown page."""
    reference = next(iter(results.values()))
    header = "| method | " + " | ".join(METRICS) + " | minutes |"
    lines = [
        "# FG-SSL on ISIC 2018 Task 3\n",
        f"`python benchmarks/isic2018.py --dataset_dir DIR --image_size {arguments.image_size} --epochs "
        f"{arguments.epochs} --seed {arguments.seed}`: {arguments.epochs} epochs of pre-training where there is one "
        f"and {arguments.epochs} of fine-tuning, {arguments.image_size} px, ResNet-18 from random weights, one seed, "
        f"{len(reference['labels'])} test images that no choice was made on, split from the training part by lesion. "
        "95 % intervals by bootstrap over lesions: they hold the chance of the test images, not that of the seed.\n",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, monai {monai.__version__}.\n",
        header,
        "| --- " * (len(METRICS) + 2) + "|",
    ]
    for method, result in results.items():
        intervals = bootstrap_intervals(result["probabilities"], result["labels"], result["groups"])
        cells = (f"{c['value']:.3f} [{c['low']:.3f}, {c['high']:.3f}]" for c in (intervals[name] for name in METRICS))
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {result['seconds'] / 60:.1f} |")
    lines += ["\nDifferences on the same images, FG-SSL minus the other:\n", header.replace(" minutes |", "")]
    lines.append("| --- " * (len(METRICS) + 1) + "|")
    for method, result in results.items():
        if result is reference:
            continue
        intervals = bootstrap_difference(
            reference["probabilities"], result["probabilities"], reference["labels"], reference["groups"]
        )
        cells = (f"{c['value']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]" for c in (intervals[n] for n in METRICS))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    columns = (
        ("pre-train", "knn_balanced_accuracy"),
        ("pre-train", "weight_growth"),
        ("pre-train", "weight_growth_max"),
        ("fine-tune", "loss_concat"),
        ("fine-tune", "weight_growth"),
        ("fine-tune", "val_macro_f1"),
    )
    lines += ["\nAt the end of each phase (`weight_growth`: median ratio of a layer's norm to that at its start):\n"]
    lines += ["| method | " + " | ".join(f"{phase} {series}" for phase, series in columns) + " |"]
    lines += ["| --- " * (len(columns) + 1) + "|"]
    for method, result in results.items():
        lines.append(f"| {method} | " + " | ".join(last(result, *column) for column in columns) + " |")
    knn = reference["history"].get("pre-train", {}).get("knn_balanced_accuracy", [])
    lines.append(
        "\nBalanced kNN accuracy on the validation part, epoch by epoch of the pre-training: "
        + ", ".join(f"{value:.3f}" for _, value in knn)
        + "."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all methods and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="folder in the layout of ISIC 2018 Task 3")
    parser.add_argument("--work_dir", default="isic2018_runs", help="where the runs are kept")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = {}
    for method, changes in METHODS.items():
        folder = Path(arguments.work_dir) / method.replace(" ", "_").replace(",", "")
        file = folder / "predictions.json"
        if not file.is_file():
            settings = {
                "dataset_dir": arguments.dataset_dir,
                "image_size": arguments.image_size,
                "pretrain_epochs": arguments.epochs,
                "max_epochs": arguments.epochs,
                "pretrain_batch_size": 128,
                "batch_size": 64,
                "seed": arguments.seed,
            }
            result = run(settings | changes, folder)
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(result))
        results[method] = json.loads(file.read_text())
        with atomic_write(RESULTS / "isic2018.md") as temporary:
            temporary.write_text(report(results, arguments))


if __name__ == "__main__":
    main()
