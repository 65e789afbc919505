# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of the code as people write them."""

from __future__ import annotations

__all__ = ["readable"]


def readable(name: str) -> str:
    """Name of a metric or series as people write it.

    Example:
        >>> readable("macro_f1"), readable("knn_accuracy")
        ('macro F1', 'kNN accuracy')
    """
    return name.replace("_", " ").replace("f1", "F1").replace("auc", "AUC").replace("knn", "kNN")
