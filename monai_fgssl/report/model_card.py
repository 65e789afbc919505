# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Card of a model as Markdown, to publish beside its weights: data, quality, subgroups, doubt and limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_fgssl.tasks import task_named
from monai_fgssl.utils.files import atomic_write
from monai_fgssl.utils.words import interval_text, readable

from .abstention import sentence_on_abstention
from .agreement import sentence_on_agreement
from .chance import sentence_on_chance, sentence_on_folds
from .subgroups import MIN_SUBGROUP, sentences_on_subgroups

__all__ = ["write_model_card"]

PARTS = ("train", "validation", "test")


def write_model_card(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write the card. It has no paths and no names of images. It is never there half-written.

    Args:
        path: file of the card.
        content: content of ``metrics.json`` with results, see :meth:`monai_fgssl.report.Report.write`.

    Source:
        Sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019: https://arxiv.org/abs/1810.03993
    """
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(_lines(content)) + "\n", encoding="utf-8")


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    method, row = next(iter(content["methods"].items()))
    task, seeds = task_named(content["task"]), content["seeds"]
    settings, versions = content["settings"], content["versions"]
    yield "# Model card\n"
    network = f"{settings.get('backbone', 'a network')} at {settings.get('image_size', '?')} px"
    yield f"{method}, {network}, by monai-fgssl {versions['monai-fgssl']}. Research only: not a medical device.\n"
    yield f"Classes: {', '.join(map(_cell, content['class_names']))}. Task: {content['task']}.\n"
    if content["data"]:
        yield "## Data\n"
        yield from _table(
            ["part", "images", "with a label"],
            [
                [part, f"{content['data'][part]['images']:,}", f"{content['data'][part]['labeled']:,}"]
                for part in PARTS
                if part in content["data"]
            ],
        )
    yield "## How good it is\n"
    over = "lesions or patients" + (f" and {seeds} seeds" if seeds > 1 else "")
    yield f"On {content['num_test_images']:,} test images; in brackets 95 % intervals by bootstrap over {over}.\n"
    yield from _table(["metric", "value"], [[readable(name), interval_text(row[name])] for name in task.metrics])
    yield from _paragraphs(content["conclusions"])
    if content["folds"]:
        yield from _paragraphs([sentence_on_folds(content["folds"], content["fold_chance"], task.key_metric)])
    if content["chance"]:
        yield from _paragraphs([sentence_on_chance(content["chance"], task.key_metric, seeds)])
    yield "## Subgroups\n"
    if not content["subgroups"]:
        yield "Not measured: no column of the list was named with `--subgroup_columns`.\n"
    yield from _paragraphs(sentences_on_subgroups(content["subgroups"], task.key_metric))
    for column, found in content["subgroups"].items():
        shown = task.tiles
        rows = [
            [
                name,
                f"{one['images']:,}",
                *(interval_text(one["metrics"][m]) if one["metrics"] else f"fewer than {MIN_SUBGROUP}" for m in shown),
            ]
            for name, one in found["subgroups"].items()
        ]
        gaps = [found["gaps"][metric] for metric in shown]
        rows.append(
            [
                "largest gap",
                "",
                *(f"{interval_text(gap)} ({gap['best']} above {gap['worst']})" if gap else "-" for gap in gaps),
            ]
        )
        yield from _table([column, "images", *map(readable, shown)], rows)
    yield "## Doubt\n"
    doubt = [
        sentence(content[name])
        for name, sentence in (("abstention", sentence_on_abstention), ("agreement", sentence_on_agreement))
        if content[name]
    ]
    yield from _paragraphs(doubt or ["Not measured."])
    yield "## Limits\n"
    yield (
        "The figures hold for images from the same source as the test part. Images of another clinic, camera or group "
        "of patients are another source, and nothing is promised for them."
    )


def _paragraphs(sentences: Iterable[str]) -> Iterator[str]:
    # Names of classes and subgroups come from a list.
    for sentence in sentences:
        yield f"{_cell(sentence)}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_cell, header))} |"
    yield "| --- " * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(text: str) -> str:
    """Text that can't break a table or become markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
