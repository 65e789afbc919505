# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Labels that people give an image: its class; or, if it may have several, its findings.

In the index and on the wire a class is a text, and findings are a list of texts, which is empty if there are none. So
an image without findings and an image without a label are different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["ASKED", "MAX_NAME", "Answers", "Label", "answers_of", "check_label", "count_labels", "label_of", "names_of"]

Label = str | tuple[str, ...]
"""Class of an image, or the findings that it has."""

Answers = Mapping[str, bool]
"""Findings of an image: True: it is there; False: it is not. What is missing is not known."""

ASKED = "asked"
"""Key of a label's information: the findings that there were to choose from. Of others that are added later, the label
says nothing."""

MAX_NAME = 64
"""Largest length of a name."""


def label_of(value: Any, several: bool) -> Label | None:
    """Read a label from the index or from a file; None: it is no label of this kind.

    Args:
        value: what is stored.
        several: True: findings; False: one class.
    """
    if not several:
        return value if isinstance(value, str) else None
    if isinstance(value, str):
        # A class of a time when each image had one: it says nothing about the others, see answers_of.
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None


def answers_of(value: Any, asked: Any) -> Answers:
    """Return what a label says about findings.

    Args:
        value: the label as it is stored.
        asked: the findings that there were to choose from, as stored; anything else: those of the label only.
    """
    found = label_of(value, True) or ()
    known = asked if isinstance(asked, list) and all(isinstance(name, str) for name in asked) else []
    return {**dict.fromkeys(known, False), **dict.fromkeys(found, True)}


def check_label(value: Any, names: Sequence[str], several: bool) -> Label:
    """Check a label that somebody sends, and spell its names as the list does.

    Args:
        value: a name, or a list of names.
        names: the allowed names; empty: any. For findings there must be some.
        several: True: findings; False: one class.

    Returns:
        The label; findings are in the order of ``names``.

    Raises:
        ValueError: when it is no such label; the message says how to send one.
    """
    if not several:
        return _listed(value, names)
    if not isinstance(value, list | tuple):
        raise ValueError('an image may have several findings here: send params={"class": ["name", "name"]}, or [].')
    found = {_listed(one, names) for one in value}
    return tuple(name for name in names if name in found)


def _listed(name: Any, names: Sequence[str]) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise ValueError(f'the class is missing: send params={{"class": "its name"}}, up to {MAX_NAME} characters.')
    name = name.strip()
    if not names:
        return name
    for known in names:
        if known.lower() == name.lower():
            return known
    raise ValueError(f"there is no class {name!r}; there are: {', '.join(names)}.")


def names_of(label: Label) -> tuple[str, ...]:
    """Classes of a label: one, or the findings.

    Example:
        >>> names_of("nevus"), names_of(("Mass", "Edema")), names_of(())
        (('nevus',), ('Mass', 'Edema'), ())
    """
    return (label,) if isinstance(label, str) else label


def count_labels(labels: Iterable[Label]) -> Counter[str]:
    """Count the images of each class, or with each finding.

    Example:
        >>> count_labels([("Mass", "Edema"), ("Mass",), ()])
        Counter({'Mass': 2, 'Edema': 1})
    """
    return Counter(name for label in labels for name in names_of(label))
