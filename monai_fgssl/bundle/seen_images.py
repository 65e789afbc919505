# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images that a model has learned from: a test on them looks better than the model is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_fgssl.utils.errors import first_names
from monai_fgssl.utils.files import from_json
from monai_fgssl.utils.run_log import tell

__all__ = ["tell_seen_images"]

SPLIT = "split.json"


def tell_seen_images(names: Sequence[str], *weights: object) -> None:
    """Print a note if images to test on belong to the training or validation part of the run that has made the weights.

    That run is known by its split, in the folder of the weights, or in ``output`` beside that folder, as in a bundle.
    For a model of all folds, the splits of all folds count.

    Args:
        names: names of the images to test on.
        weights: files of weights; anything else, such as None, has no split.
    """
    for file in weights:
        _tell_seen_by(file, names)


def _tell_seen_by(weights: object, names: Sequence[str]) -> None:
    if not isinstance(weights, str) or not Path(weights).is_file():
        return
    folder = Path(weights).resolve().parent
    for place in (folder, folder.parent / "output"):
        splits = [place / SPLIT] if (place / SPLIT).is_file() else sorted(place.glob(f"fold_*/{SPLIT}"))
        if not splits:
            continue
        known = set[str]().union(*map(_learned_from, splits))
        if seen := [name for name in names if name in known]:
            run = splits[0] if len(splits) == 1 else f"the {SPLIT} of {len(splits)} folds in {place}"
            tell(
                f"note: {len(seen)} of the {len(names)} test images ({first_names(seen)}) have the names of images "
                f"that {weights} has learned from, by {run}: if they are the same, the results will look better than "
                "they are (--split_from takes the split of that run)"
            )
        return


def _learned_from(split: Path) -> set[str]:
    """Names in the training and validation parts of a split; empty if it is none."""
    try:
        content = from_json(split.read_text(encoding="utf-8"))
        return {str(name) for part in ("train", "validation") for name in content[part]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
