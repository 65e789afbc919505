# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Readable forms of names and figures."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["capitalized", "interval_text", "percent_text", "readable"]


def capitalized(text: str) -> str:
    """Return a text with a capital as its first letter. Other capitals stay, unlike with ``str.capitalize``.

    Example:
        >>> capitalized("macro F1")
        'Macro F1'
    """
    return text[:1].upper() + text[1:]


def interval_text(row: Mapping[str, float], sign: str = "") -> str:
    """Return a value and its interval with three decimals.

    Args:
        row: ``value``, ``low`` and ``high``.
        sign: ``"+"`` for a difference, whose numbers all have a sign.

    Example:
        >>> interval_text({"value": 0.5, "low": 0.42, "high": 0.58})
        '0.500 [0.420, 0.580]'
    """
    return f"{row['value']:{sign}.3f} [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"


def percent_text(row: Mapping[str, float]) -> str:
    """Return a share and its interval in percent.

    Args:
        row: ``value``, ``low`` and ``high``, each from 0 to 1.

    Example:
        >>> percent_text({"value": 0.5, "low": 0.42, "high": 0.58})
        '50% [42, 58]'
    """
    return f"{row['value']:.0%} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def readable(name: str) -> str:
    """Return the name of a metric or series in a readable form.

    Example:
        >>> readable("macro_f1"), readable("knn_accuracy")
        ('macro F1', 'kNN accuracy')
    """
    return name.replace("_", " ").replace("f1", "F1").replace("auc", "AUC").replace("knn", "kNN")
