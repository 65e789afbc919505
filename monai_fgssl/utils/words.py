# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Readable forms of names in the code."""

from __future__ import annotations

__all__ = ["readable"]


def readable(name: str) -> str:
    """Return the name of a metric or series in a readable form.

    Example:
        >>> readable("macro_f1"), readable("knn_accuracy")
        ('macro F1', 'kNN accuracy')
    """
    return name.replace("_", " ").replace("f1", "F1").replace("auc", "AUC").replace("knn", "kNN")
