# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of classes: their order, and checks for names that may be mistakes."""

from __future__ import annotations

import decimal
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from monai_fgssl.utils.errors import first_names

__all__ = ["check_similar_names", "check_vectors", "in_order", "similar_names"]


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


NUMBER = re.compile(r"[+-]?\d{1,20}([.,]\d{0,20})?(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)

LOOKALIKES = str.maketrans("авекмнорстухіјѕαβεικνορτυχ", "abekmhopctyxijsabeikvoptux")
"""Small Cyrillic and Greek letters that look like Latin ones, small or capital."""


SIGNS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d", "-")
    | dict.fromkeys("\u2018\u2019\u201b`\u00b4\u02bc\u2032\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u2033", '"')
)
"""Signs that keyboards and word processors write for a hyphen and for quotes."""


def similar_names(names: Iterable[str], with_copies: bool = False) -> list[list[str]]:
    """Names that differ only by case, spaces, signs between and after words, leading zeros, alphabets, or the kinds of
    their hyphens and quotes.

    Numbers are alike if they are equal: ``1``, ``+1``, ``1e0``, ``1,0`` and ``True``.

    Args:
        names: different names.
        with_copies: also those that differ as a file and its copy do: ``nevus`` and ``nevus (1)``.

    Returns:
        Lists of two names or more, in the order of the names.

    Example:
        >>> similar_names(["P1", "p1", "01", "1", "2"])
        [['P1', 'p1'], ['01', '1']]
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        # Format characters, such as a space of no width, are invisible.
        seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf").translate(SIGNS)
        if number := _number(seen.strip()):
            alike[number].append(name)
            continue
        plain = unicodedata.normalize("NFKC", seen).casefold().translate(LOOKALIKES)
        plain = re.sub(r"[\s_-]+", " ", plain).strip(" .,;:")
        plain = COPY.sub("", plain) if with_copies else plain
        alike[re.sub(r"(?<![\d.,])0+(?=\d)", "", plain)].append(name)
    return [found for found in alike.values() if len(found) > 1]


def _number(text: str) -> str:
    """A short number in one form for all ways to write it; empty for other texts."""
    text = {"true": "1", "false": "0"}.get(text.casefold(), text)
    if not NUMBER.fullmatch(text):
        return ""
    number = decimal.Decimal(text.replace(",", "."))
    return str(number.normalize() if number else decimal.Decimal(0))


def check_similar_names(counts: Mapping[str, int]) -> list[str]:
    """Report classes with nearly the same name; see :func:`similar_names`.

    Args:
        counts: images by class.

    Example:
        >>> check_similar_names({"Nevus": 5, "nevus": 1, "melanoma": 3})
        ['Nevus (5 images) and nevus (1 images) are nearly the same name: write them alike, or name them differently.']
    """
    return [
        f"{' and '.join(f'{name} ({counts[name]} images)' for name in names)} are nearly the same name: write them "
        "alike, or name them differently."
        for names in similar_names(counts, with_copies=True)
    ]


def check_vectors(labels: Sequence[str]) -> list[str]:
    """Report labels that name several classes at once.

    Example:
        >>> [message.partition(":")[0] for message in check_vectors(["Mass", "Mass|Edema", "grade 1, well"])]
        ['1 images have several classes at once (Mass|Edema)']
    """
    known = set(labels)
    vectors = [label for label in labels if _is_vector(label, known)]
    if not vectors:
        return []
    return [
        f"{len(vectors)} images have several classes at once ({first_names(sorted(set(vectors)))}): for --task "
        "multilabel write names with bars between them (Mass|Edema); otherwise keep the images of one class; or, if "
        "that is one class, write its name with hyphens."
    ]


def _is_vector(label: str, known: set[str]) -> bool:
    if "|" in label:
        return True
    # No pattern has two parts that match the same text: otherwise a long text that nearly matches would take forever.
    if label.startswith("[") and label.endswith("]") and re.search(r"[,\s]", label[1:-1]):
        return True
    if "," in label and re.fullmatch(r"\([\d.,\s]*\)", label):
        return True
    # A semicolon hardly ever is part of a name, so one class that is known is enough.
    pieces = [piece.strip() for piece in label.split(";")]
    if len(pieces) > 1 and all(pieces) and any(piece in known for piece in pieces):
        return True
    # A comma or a space may be part of a name, unless the texts beside it are names of classes too.
    splits = [[piece.strip() for piece in re.split(r"[;,+/&]|\band\b", label)], label.split()]
    return any(len(pieces) > 1 and all(piece in known for piece in pieces) for pieces in splits)
