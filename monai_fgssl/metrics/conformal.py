# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Prediction sets that contain the true class with a given probability (conformal prediction), and selective risk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from .triage import reasons_to_refer

__all__ = ["SET_SCORES", "PredictionSets", "binomial_interval", "fit_prediction_sets", "risk_coverage"]

SET_SCORES = ("raps", "threshold")
"""Names of the scores: see :func:`fit_prediction_sets`."""
ROUNDING = 1e-9
"""Amount by which a score may exceed its threshold, since sums of the same probabilities differ in their last
digits."""


@dataclass(frozen=True)
class PredictionSets:
    """Rule that turns probabilities into a set of possible classes.

    Attributes:
        coverage: target share of images whose set contains the true class, in (0, 1).
        thresholds: largest score with which each class is in a set; None: the class is in every set, because it had too
            few images for a threshold.
        score: name of the score, one of :data:`SET_SCORES`.
        penalty: penalty of RAPS, added for each rank after ``free_ranks``.
        free_ranks: number of ranks without a penalty in RAPS.
    """

    coverage: float
    thresholds: tuple[float | None, ...]
    score: str = "raps"
    penalty: float = 0.1
    free_ranks: int = 1

    def contains(self, probabilities: ArrayLike, decided: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Return which classes are in the set of each image.

        Args:
            probabilities: predictions ``(N, num_classes)``, calibrated like the predictions that the rule was fitted
                to.
            decided: class ``(N,)`` that is decided for, if it may be another than the likeliest one. It is in the set,
                so that the decision is always possible; larger sets contain the true class no less often.

        Returns:
            True for each class in the set, ``(N, num_classes)``. The likeliest class is in every set, so no set is
            empty.
        """
        values = np.asarray(probabilities, dtype=np.float64)
        limits = np.array([math.inf if limit is None else limit for limit in self.thresholds])
        inside = set_scores(values, self.score, self.penalty, self.free_ranks) <= limits + ROUNDING
        for classes in (values.argmax(1), decided):
            if classes is not None:
                inside[np.arange(len(values)), np.asarray(classes)] = True
        return inside

    def reasons(
        self, probabilities: ArrayLike, decided: ArrayLike, scores: ArrayLike | None
    ) -> list[tuple[str, ...]] | None:
        """Reasons to refer each image, see :func:`~monai_fgssl.metrics.reasons_to_refer` and :meth:`contains`."""
        return reasons_to_refer(self.contains(probabilities, decided), scores)

    def to_record(self) -> dict[str, Any]:
        """Return plain values for a JSON file; :meth:`from_record` reads them."""
        return asdict(self) | {"thresholds": list(self.thresholds)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], num_classes: int) -> PredictionSets:
        """Make the rule from the result of :meth:`to_record`.

        Raises:
            ValueError: when the record is anything else, or is for another number of classes; the message names the
                fault.
        """
        if not isinstance(record, Mapping) or set(record) != set(cls.__dataclass_fields__):
            raise ValueError(f"prediction_sets must have {', '.join(cls.__dataclass_fields__)}")
        limits = record["thresholds"]
        if not isinstance(limits, list) or len(limits) != num_classes:
            raise ValueError(f"prediction_sets needs {num_classes} thresholds, one for each class")
        if not all(limit is None or _is_finite(limit) for limit in limits):
            raise ValueError("prediction_sets has a threshold that is not a number")
        if not (_is_finite(record["coverage"]) and 0 < record["coverage"] < 1):
            raise ValueError("prediction_sets has a coverage outside (0, 1)")
        if record["score"] not in SET_SCORES:
            raise ValueError(f"prediction_sets has a score that is not one of {', '.join(SET_SCORES)}")
        if not (_is_finite(record["penalty"]) and record["penalty"] >= 0):
            raise ValueError("prediction_sets has a penalty that is not a number of 0 or more")
        if type(record["free_ranks"]) is not int or record["free_ranks"] < 0:
            raise ValueError("prediction_sets has free_ranks that is not a whole number of 0 or more")
        return cls(**{**record, "thresholds": tuple(limits)})


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def set_scores(probabilities: NDArray[np.float64], score: str, penalty: float, free_ranks: int) -> NDArray[np.float64]:
    """Nonconformity of each class for each image: a large score means that the class does not fit the image.

    Args:
        probabilities: predictions, ``(N, num_classes)``.
        score: see :func:`fit_prediction_sets`.
        penalty: see :func:`fit_prediction_sets`.
        free_ranks: see :func:`fit_prediction_sets`.

    Returns:
        ``(N, num_classes)``.
    """
    if score == "threshold":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    summed = np.take_along_axis(probabilities, order, axis=1).cumsum(1)
    ranks = np.arange(1, probabilities.shape[1] + 1)
    scores = np.empty_like(summed)
    np.put_along_axis(scores, order, summed + penalty * np.maximum(ranks - free_ranks, 0), axis=1)
    return scores


def fit_prediction_sets(
    probabilities: ArrayLike,
    labels: ArrayLike,
    coverage: float = 0.9,
    by_class: bool = False,
    score: str = "raps",
    penalty: float = 0.1,
    free_ranks: int = 1,
) -> PredictionSets:
    """Fit prediction sets to labeled images that were not trained on (split conformal prediction).

    The sets of new images contain the true class with at least the probability ``coverage``. This holds for any
    network, as long as the new images come from the same source as the labeled images. The probability is an average
    over all images. With ``by_class`` it holds for the images of each class, and the sets are larger.

    Args:
        probabilities: predictions, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0.
        coverage: probability that a set contains the true class, in (0, 1).
        by_class: True: each class has its own threshold. A class with fewer than about ``1 / (1 - coverage)`` images is
            in every set, since no smaller sets can guarantee the probability for this class.
        score: ``raps`` sums the probabilities down to the class, with a penalty for each rank, so that hard images get
            larger sets and easy ones small ones; ``threshold`` takes all classes above one probability, which gives the
            smallest sets on average.
        penalty: penalty of ``raps``. A larger penalty makes the largest sets smaller.
        free_ranks: number of ranks without a penalty in ``raps``.

    Raises:
        ValueError: when the coverage is outside (0, 1), the score is unknown, there are no images, or a probability is
            NaN.

    Source:
        Vovk et al., Algorithmic Learning in a Random World, 2005; Angelopoulos et al., Uncertainty Sets for Image
        Classifiers using Conformal Prediction, ICLR 2021 (RAPS, here without its random part: the same image gets the
        same set each time, and the coverage is rather too high than too low): https://arxiv.org/abs/2009.14193; Sadinle
        et al., Least Ambiguous Set-Valued Classifiers, JASA 2019 (``threshold``, ``by_class``).
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, got {coverage}.")
    if score not in SET_SCORES:
        raise ValueError(f"score must be one of {', '.join(SET_SCORES)}, got {score!r}.")
    values, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if len(truth) == 0:
        raise ValueError("prediction sets can't be fitted to no images: give labeled validation images.")
    if np.isnan(values).any():
        raise ValueError("prediction sets can't be fitted to probabilities that are NaN.")
    of_truth = set_scores(values, score, penalty, free_ranks)[np.arange(len(values)), truth]
    classes = range(values.shape[1])
    groups = [of_truth[truth == label] for label in classes] if by_class else [of_truth] * values.shape[1]
    return PredictionSets(
        coverage, tuple(upper_quantile(group, coverage) for group in groups), score, penalty, free_ranks
    )


def upper_quantile(scores: NDArray[np.float64], coverage: float) -> float | None:
    """Return the ceil((n + 1) coverage)-th smallest of n scores; None when this position exceeds n."""
    # Without this rounding, 9.000000000000002 would become 10.
    position = math.ceil(round((len(scores) + 1) * coverage, 9))
    return float(np.sort(scores)[position - 1]) if position <= len(scores) else None


def binomial_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a share, by Clopper and Pearson. Its true level is never lower than ``level``.

    Args:
        hits: number of hits among ``count``.
        count: number of trials, above 0.
        level: level of the confidence.
    """
    interval = binomtest(hits, count).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Error of the predictions that are kept when the least confident predictions are referred to a person.

    Args:
        confidence: confidence of each prediction, ``(N,)``; the predictions with the highest confidence are kept.
        right: True for each right prediction, ``(N,)``.

    Returns:
        Shares of predictions that are kept, from 1 / N to 1, ``(N,)``; the error for each share, ``(N,)``; and the area
        under this curve (0: no prediction is wrong). Predictions with the same confidence have no order, so each gets
        the mean of their errors.

    Source:
        Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017, sec. 2.
    """
    values, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    _, place, counts = np.unique(-values, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=1 - hits) / counts
    kept = np.arange(1, len(values) + 1)
    risk = np.repeat(means, counts).cumsum() / kept
    return kept / len(values), risk, float(risk.mean())
