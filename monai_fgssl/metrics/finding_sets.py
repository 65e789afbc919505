# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Possible answers about each finding, which contain the true one with a given probability (conformal prediction)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .conformal import ROUNDING, upper_quantile
from .triage import reasons_to_refer

__all__ = ["FindingSets", "fit_finding_sets"]


@dataclass(frozen=True)
class FindingSets:
    """Rule that says which answers about each finding are possible: it is there, it is not there, or both.

    Attributes:
        coverage: target share of images for which the true answer is possible, in (0, 1): of those that have a finding,
            and of those that have it not.
        lowest: smallest probability with which each finding may be there; None: there were too few images for a rule.
        highest: largest probability with which it may be absent; None in the same places.
    """

    coverage: float
    lowest: tuple[float | None, ...]
    highest: tuple[float | None, ...]

    def contains(self, probabilities: ArrayLike, decided: ArrayLike) -> NDArray[np.bool_]:
        """Return which findings may be there.

        Args:
            probabilities: predictions ``(N, num_classes)``, calibrated like those that the rule was fitted to.
            decided: True for the findings that are decided for, ``(N, num_classes)``. What is decided is possible.

        Returns:
            True for each finding that may be there, ``(N, num_classes)``. Without a rule, these are the findings that
            are decided for.
        """
        limits = np.array([math.inf if limit is None else limit for limit in self.lowest])
        return np.asarray(decided, dtype=bool) | (np.asarray(probabilities, dtype=np.float64) >= limits - ROUNDING)

    def may_be_absent(self, probabilities: ArrayLike, decided: ArrayLike) -> NDArray[np.bool_]:
        """Return which findings may be absent; see :meth:`contains`."""
        limits = np.array([-math.inf if limit is None else limit for limit in self.highest])
        return ~np.asarray(decided, dtype=bool) | (np.asarray(probabilities, dtype=np.float64) <= limits + ROUNDING)

    def undecided(self, probabilities: ArrayLike, decided: ArrayLike) -> NDArray[np.bool_]:
        """Return the findings of which both answers are possible; see :meth:`contains`."""
        return self.contains(probabilities, decided) & self.may_be_absent(probabilities, decided)

    def reasons(
        self, probabilities: ArrayLike, decided: ArrayLike, scores: ArrayLike | None
    ) -> list[tuple[str, ...]] | None:
        """Reasons to refer each image, see :func:`~monai_fgssl.metrics.reasons_to_refer` and :meth:`undecided`."""
        return reasons_to_refer(None, scores, self.undecided(probabilities, decided))

    def to_record(self) -> dict[str, Any]:
        """Return plain values for a JSON file; :meth:`from_record` reads them."""
        return asdict(self) | {"lowest": list(self.lowest), "highest": list(self.highest)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], num_classes: int) -> FindingSets:
        """Make the rule from the result of :meth:`to_record`.

        Raises:
            ValueError: when the record is anything else, or is for another number of findings; the message names the
                fault.
        """
        if not isinstance(record, Mapping) or set(record) != set(cls.__dataclass_fields__):
            raise ValueError(f"prediction_sets must have {', '.join(cls.__dataclass_fields__)}")
        if not (_is_probability(record["coverage"]) and 0 < record["coverage"] < 1):
            raise ValueError("prediction_sets has a coverage outside (0, 1)")
        for name in ("lowest", "highest"):
            limits = record[name]
            if not isinstance(limits, list) or len(limits) != num_classes:
                raise ValueError(f"prediction_sets needs {num_classes} values of {name}, one for each finding")
            if not all(limit is None or _is_probability(limit) for limit in limits):
                raise ValueError(f"prediction_sets has a value of {name} that is not a probability")
        return cls(record["coverage"], tuple(record["lowest"]), tuple(record["highest"]))


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def fit_finding_sets(probabilities: ArrayLike, labels: ArrayLike, coverage: float = 0.9) -> FindingSets:
    """Fit possible answers to labeled images that were not trained on (split conformal prediction by answer).

    Of new images from the same source that have a finding, it is possible for at least a share of ``coverage``; and of
    those that have it not, its absence is. This holds for each finding by itself, however rare it is. A finding gets a
    rule if enough images have it and enough have it not: about ``1 / (1 - coverage)`` each.

    Args:
        probabilities: predictions, ``(N, num_classes)``.
        labels: 1 (there), 0 (not there) or -1 (not known), ``(N, num_classes)``.
        coverage: wanted share, in (0, 1).

    Raises:
        ValueError: when the coverage is outside (0, 1), or a probability is NaN.

    Source:
        Vovk et al., Algorithmic Learning in a Random World, 2005, sec. 4.5 (Mondrian: a threshold for each label).
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, got {coverage}.")
    values, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if np.isnan(values).any():
        raise ValueError("possible answers can't be fitted to probabilities that are NaN.")
    limits: list[tuple[float | None, float | None]] = []
    for k in range(values.shape[1]):
        # The smaller the probability, the less a finding that is there fits; and the other way round.
        below = upper_quantile(-values[truth[:, k] == 1, k], coverage)
        above = upper_quantile(values[truth[:, k] == 0, k], coverage)
        limits.append((None, None) if below is None or above is None else (-below, above))
    lowest, highest = zip(*limits, strict=True)
    return FindingSets(coverage, lowest, highest)
