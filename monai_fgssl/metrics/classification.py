# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures of a classifier, with intervals that know that images of one lesion are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.metrics import f1_score

__all__ = ["METRICS", "bootstrap_difference", "bootstrap_intervals", "classification_metrics"]
