# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure on public photographs how far the agreement of the stages can be believed.

    python -m benchmarks.stage_agreement --data_dir DIR --data_sets aptos2019 isic2018

``DIR`` has a folder in the official layout for each data set. For each, this runs the bundle with its default settings
and 10 % of the labels, and writes what the report of that run says of agreement to
``benchmarks/results/stage_agreement.md``. A data set whose run exists in ``--work_dir`` is not run again. All other
words are settings of the bundle.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.report.agreement import plot_agreement, sentence_on_agreement
from monai_fgssl.utils.files import atomic_write
from monai_fgssl.utils.words import interval_text

from .synthetic import RESULTS, machine

SETTINGS = {"label_fraction": "0.1", "compare": "false", "linear_probe": "false"}
"""Settings that differ from the defaults of the bundle."""
PAGE = "stage_agreement"


def run(folder: Path, output_dir: Path, options: Sequence[str]) -> dict[str, Any]:
    """Train on a data set if that has not been done, and return the content of ``metrics.json``."""
    result = output_dir / "metrics.json"
    if not result.is_file():
        config = shipped_bundle("fgssl") / "configs" / "train.json"
        settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
        places = ["--output_dir", str(output_dir), "--model_path", str(output_dir / "model.pt")]
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--resume", "true"]
        subprocess.run([*command, "--dataset_dir", str(folder), *settings, *places, *options], check=True)
    return json.loads(result.read_text())


def section(name: str, content: Mapping[str, Any]) -> list[str]:
    """Lines of a data set."""
    found, settings = content["agreement"], content["settings"]
    labeled = content["data"]["train"]["labeled"]
    epochs = f"{settings['pretrain_epochs']} epochs of pre-training, {settings['max_epochs']} of fine-tuning"
    lines = [
        f"## {name}\n",
        f"{content['num_test_images']:,} test images; {labeled:,} labeled training images of {settings['image_size']} "
        f"px, {epochs}, one run (seed {settings['seed']}).\n",
        f"{sentence_on_agreement(found)}\n",
        f"| steps that agree, of {found['steps']} | images | right | mean probability |",
        "| ---: | ---: | --- | ---: |",
    ]
    for row in found["rows"]:
        right = interval_text(row["accuracy"])
        lines.append(f"| {row['agreeing']} | {row['images']:,} | {right} | {row['probability']:.3f} |")
    return [*lines, f"\n![Accuracy by the number of steps that agree, {name}]({PAGE}_{name}.png)\n"]


def report(contents: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """Return the page as Markdown."""
    lines = [
        "# Does the agreement of the stages tell when to believe a prediction?\n",
        f"`{command}`, {time.strftime('%Y-%m-%d')}, {machine()}.\n",
        "The network has a classifier at each stage and one on all stages together: the steps. For each test image we "
        "count the steps that alone decide for the predicted class. In brackets: 95 % intervals (Clopper-Pearson) over "
        "the images. An AUC of 0.5 would tell nothing.\n",
    ]
    for name, content in contents.items():
        lines += section(name, content)
    return "\n".join(lines)


def main() -> None:
    """Make the runs that are missing, and write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder that has a folder for each data set")
    parser.add_argument("--data_sets", nargs="+", default=["aptos2019", "isic2018"])
    parser.add_argument("--work_dir", type=Path, default=Path("stage_agreement_runs"), help="folder of the runs")
    parser.add_argument("--results_dir", type=Path, default=RESULTS, help="folder that gets the page")
    arguments, options = parser.parse_known_args()
    contents = {}
    for name in arguments.data_sets:
        output_dir = arguments.work_dir.resolve() / name
        contents[name] = run(arguments.data_dir / name, output_dir, options)
        plot_agreement(contents[name]["agreement"], arguments.results_dir / f"{PAGE}_{name}.png", title=name)
    words = ["--data_dir", "DIR", "--data_sets", *arguments.data_sets, *options]
    command = shlex.join(["python", "-m", f"benchmarks.{PAGE}", *words])
    with atomic_write(arguments.results_dir / f"{PAGE}.md") as temporary:
        temporary.write_text(report(contents, command))


if __name__ == "__main__":
    main()
