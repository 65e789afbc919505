# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Distance of an image from the training images in the features of each stage: is it out of distribution?"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FeatureDistances", "fit_feature_distances"]

MIN_STD = 0.1
"""Smallest standard deviation of a feature, relative to the root mean square of its stage's. A feature that is constant
on the training images would make any other value infinitely far."""

FLOATS = np.dtype("<f4")
"""Type of the numbers in a record."""


@dataclass(frozen=True, eq=False)
class FeatureDistances:
    """Rule that tells how far an image is from the training images.

    Each stage has a distance: the mean over its features of the squared difference from the training images' mean,
    divided by their variance (Mahalanobis distance with a diagonal covariance). It is divided by its median over the
    validation images, so that stages can be compared. The farthest stage counts: noise is far in shallow stages only,
    and another kind of object in deep ones.

    Attributes:
        widths: number of features of each stage; they add up to ``D``.
        mean: mean of each feature over the training images, ``(D,)`` float32.
        std: standard deviation of each feature, ``(D,)`` float32, above 0.
        medians: median of each stage's distance over the validation images, above 0.
        limit: largest distance of an image that counts as like the training images, above 0.
        share: share of the validation images that may be above the limit, in (0, 1).

    Source:
        Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018 (distances in the
        mean features of several layers, there with one full covariance for each layer and means by class):
        https://arxiv.org/abs/1807.03888
    """

    widths: tuple[int, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    medians: tuple[float, ...]
    limit: float
    share: float

    def stage_distances(self, features: ArrayLike) -> NDArray[np.float64]:
        """Distance of each stage, ``(N, K)``, divided by its median over the validation images.

        Args:
            features: means of the stages, concatenated from shallow to deep, ``(N, D)``.

        Raises:
            ValueError: when the features are of another number than the rule was fitted to.
        """
        return _distances(features, self.widths, self.mean, self.std) / np.array(self.medians)

    def scores(self, features: ArrayLike) -> NDArray[np.float64]:
        """Distance of the farthest stage divided by the limit, ``(N,)``. Above 1, an image is out of distribution.

        Args:
            features: see :meth:`stage_distances`.
        """
        return self.stage_distances(features).max(1) / self.limit

    def to_record(self) -> dict[str, Any]:
        """Return plain values for a JSON file; :meth:`from_record` reads them."""
        return {
            "widths": list(self.widths),
            "mean": _as_text(self.mean),
            "std": _as_text(self.std),
            "medians": list(self.medians),
            "limit": self.limit,
            "share": self.share,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FeatureDistances:
        """Make the rule from the result of :meth:`to_record`.

        Raises:
            ValueError: when the record is anything else; the message names the fault.
        """
        if not isinstance(record, Mapping) or set(record) != set(cls.__dataclass_fields__):
            raise ValueError(f"feature_distances must have {', '.join(cls.__dataclass_fields__)}")
        widths, medians = record["widths"], record["medians"]
        if not (isinstance(widths, list) and widths and all(type(one) is int and one > 0 for one in widths)):
            raise ValueError("feature_distances has widths that are not whole numbers above 0")
        if not (isinstance(medians, list) and len(medians) == len(widths) and all(map(_is_positive, medians))):
            raise ValueError("feature_distances needs a median above 0 for each stage")
        if not _is_positive(record["limit"]):
            raise ValueError("feature_distances has a limit that is not a number above 0")
        if not (_is_positive(record["share"]) and record["share"] < 1):
            raise ValueError("feature_distances has a share outside (0, 1)")
        mean, std = (_from_text(name, record[name], sum(widths)) for name in ("mean", "std"))
        if not (std > 0).all():
            raise ValueError("feature_distances has a std that is not above 0")
        return cls(tuple(widths), mean, std, tuple(medians), record["limit"], record["share"])


def fit_feature_distances(
    train: ArrayLike, validation: ArrayLike, widths: Sequence[int], share: float = 0.02
) -> FeatureDistances:
    """Fit distances to the training images, and the limit to images that were not trained on.

    New images from the same source are above the limit with at most the probability ``share``, if there are at least
    ``1 / share`` validation images. With fewer, the largest distance of a validation image is the limit.

    Args:
        train: features of the training images, ``(N, D)``; see :meth:`FeatureDistances.stage_distances`.
        validation: features of the validation images, ``(M, D)``.
        widths: number of features of each stage; they add up to ``D``.
        share: share of images that may be above the limit, in (0, 1).

    Raises:
        ValueError: when the share is outside (0, 1), there are no images, or a feature is NaN or infinite.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}.")
    known, held_out = np.asarray(train, dtype=np.float64), np.asarray(validation, dtype=np.float64)
    if len(known) == 0 or len(held_out) == 0:
        raise ValueError("distances can't be fitted to no images: give training and validation images.")
    if not (np.isfinite(known).all() and np.isfinite(held_out).all()):
        raise ValueError("distances can't be fitted to features that are NaN or infinite.")
    std = known.std(0)
    ends = np.cumsum(widths)
    for stage in np.split(std, ends[:-1]):
        # A view, so this changes `std`. A stage that is constant altogether keeps 1.
        size = math.sqrt(np.square(stage).mean())
        np.maximum(stage, MIN_STD * size or 1.0, out=stage)
    mean32, std32 = known.mean(0).astype(FLOATS), std.astype(FLOATS)
    distances = _distances(held_out, widths, mean32, std32)
    medians = np.median(distances, axis=0)
    medians = np.where(medians > 0, medians, 1.0)
    farthest = np.sort((distances / medians).max(1))
    # Split conformal prediction: the ceil((M + 1) (1 - share))-th smallest. Rounding: 9.000000000000002 is 9.
    position = math.ceil(round((len(farthest) + 1) * (1 - share), 9))
    limit = float(farthest[min(position, len(farthest)) - 1])
    return FeatureDistances(tuple(widths), mean32, std32, tuple(medians.tolist()), limit or 1.0, share)


def _distances(
    features: ArrayLike, widths: Sequence[int], mean: NDArray[Any], std: NDArray[Any]
) -> NDArray[np.float64]:
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != sum(widths):
        raise ValueError(f"features must be (N, {sum(widths)}), got {values.shape}: they are of another network.")
    squares = np.square((values - mean) / std)
    return np.stack([part.mean(1) for part in np.split(squares, np.cumsum(widths)[:-1], axis=1)], axis=1)


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0


def _as_text(values: NDArray[np.float32]) -> str:
    """Float32 values as Base64: thousands of numbers on one line."""
    return base64.b64encode(values.astype(FLOATS).tobytes()).decode("ascii")


def _from_text(name: str, text: Any, size: int) -> NDArray[np.float32]:
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype=FLOATS)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError(f"feature_distances has a {name} that is not float32 numbers in Base64") from None
    if len(values) != size or not np.isfinite(values).all():
        raise ValueError(f"feature_distances needs {size} finite numbers as its {name}")
    return values
