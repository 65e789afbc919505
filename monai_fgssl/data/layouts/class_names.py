# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of classes: their order, and checks for names that may be mistakes."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from monai_fgssl.utils.errors import first_names

__all__ = ["check_similar_names", "check_vectors", "in_order"]


COPY = re.compile(r" (copy( \d+)?|kopie|\(\d+\))$")
"""End of the name of a copy on macOS and Windows."""


def in_order(labels: Iterable[str]) -> list[str]:
    """The different names without the empty one: first numbers by size, then other names by the alphabet.

    Example:
        >>> in_order(["10", "b", "2", "", "2"])
        ['2', '10', 'b']
    """

    def key(name: str) -> tuple[bool, float, str]:
        try:
            return False, float(name), name
        except ValueError:
            return True, 0.0, name

    return sorted({label for label in labels if label}, key=key)


def check_similar_names(counts: Mapping[str, int]) -> list[str]:
    """Report classes whose names differ only by case, spaces, signs between and after words, or as copies do.

    Args:
        counts: images by class.

    Example:
        >>> check_similar_names({"Nevus": 5, "nevus": 1, "melanoma": 3})
        ['Nevus (5 images) and nevus (1 images) are nearly the same name: write them alike, or name them differently.']
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        # Format characters, such as a space of no width, are invisible.
        seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
        plain = unicodedata.normalize("NFKC", seen).casefold()
        # ... and what systems add to the names of copies.
        plain = COPY.sub("", re.sub(r"[\s_-]+", " ", plain).strip(" .,;:"))
        alike[plain].append(name)
    return [
        f"{' and '.join(f'{name} ({counts[name]} images)' for name in names)} are nearly the same name: write them "
        "alike, or name them differently."
        for names in alike.values()
        if len(names) > 1
    ]


def check_vectors(labels: Sequence[str]) -> list[str]:
    """Report labels that name several classes at once.

    Example:
        >>> check_vectors(["Mass", "Mass|Edema", "grade 1, well"])
        ['1 images have several classes at once (Mass|Edema), which is not supported: keep the images of one class.']
    """
    known = set(labels)
    vectors = [label for label in labels if _is_vector(label, known)]
    if not vectors:
        return []
    return [
        f"{len(vectors)} images have several classes at once ({first_names(sorted(set(vectors)))}), which is not "
        "supported: keep the images of one class."
    ]


def _is_vector(label: str, known: set[str]) -> bool:
    if "|" in label:
        return True
    # No pattern has two parts that match the same text: otherwise a long text that nearly matches would take forever.
    if label.startswith("[") and label.endswith("]") and re.search(r"[,\s]", label[1:-1]):
        return True
    if "," in label and re.fullmatch(r"\([\d.,\s]*\)", label):
        return True
    # A comma may be part of a name, unless the texts beside it are names of classes too.
    pieces = [piece.strip() for piece in re.split(r"[;,+/&]|\band\b", label)]
    return len(pieces) > 1 and all(piece in known for piece in pieces)
