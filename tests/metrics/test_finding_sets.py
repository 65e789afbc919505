# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Possible answers about findings: the promised share, on classifiers of which everything is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monai_fgssl.metrics import UNDECIDED_FINDING, UNLIKE_TRAINING, FindingSets, fit_finding_sets, reasons_to_refer

RULE = FindingSets(0.9, (0.3, None), (0.6, None))


def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a usual and of a rare finding; a tenth of the answers is not known."""
    labels = (rng.random((size, 2)) < (0.5, 0.1)).astype(int)
    probabilities = 1 / (1 + np.exp(-1.5 * (labels - 0.5) - rng.normal(size=(size, 2))))
    labels[rng.random((size, 2)) < 0.1] = -1
    return probabilities, labels


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_the_true_answer_is_possible_as_often_as_promised_for_both_answers(coverage: float) -> None:
    rng = np.random.default_rng(0)
    hits: dict[tuple[int, int], list[float]] = {}
    for _ in range(300):
        sets = fit_finding_sets(*draw(rng, 300), coverage)
        probabilities, labels = draw(rng, 500)
        decided = probabilities > 0.5
        possible = {1: sets.contains(probabilities, decided), 0: sets.may_be_absent(probabilities, decided)}
        for k in range(2):
            for answer, there in possible.items():
                hits.setdefault((k, answer), []).append(there[labels[:, k] == answer, k].mean())
    for values in hits.values():
        error = np.std(values) / np.sqrt(len(values))
        # What is decided is possible too, so the share may be larger, and here it is not by much.
        assert coverage - 3 * error < np.mean(values) < coverage + 0.05


def test_limits_are_those_of_a_count_by_hand() -> None:
    probabilities = np.arange(1, 41)[:, None] / 41
    labels = (np.arange(40) % 2)[:, None]
    sets = fit_finding_sets(probabilities, labels, 0.9)
    # Of 20 images the ceil(21 * 0.9) = 19th: from above the second smallest with the finding, 4 / 41; from below the
    # second largest without it, 37 / 41.
    assert sets.lowest == (pytest.approx(4 / 41),)
    assert sets.highest == (pytest.approx(37 / 41),)


def test_what_is_possible_and_what_is_undecided() -> None:
    probabilities = np.array([[0.1, 0.5], [0.45, 0.5], [0.9, 0.5], [0.55, 0.5]])
    decided = np.array([[False, True], [False, False], [True, True], [True, False]])
    # The second finding has no rule: what is decided is possible, and nothing else.
    assert RULE.contains(probabilities, decided).tolist() == [[False, True], [True, False], [True, True], [True, False]]
    assert RULE.may_be_absent(probabilities, decided)[:, 0].tolist() == [True, True, False, True]
    assert RULE.undecided(probabilities, decided).tolist() == [[False, False], [True, False]] * 1 + [
        [False, False],
        [True, False],
    ]


def test_a_finding_with_few_images_has_no_rule() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random((100, 3)), np.zeros((100, 3), dtype=int)
    # For a coverage of 0.9, nine images are enough: ceil(10 * 0.9) = 9.
    labels[:9, 0], labels[:8, 1], labels[:92, 2] = 1, 1, 1
    sets = fit_finding_sets(probabilities, labels, 0.9)
    assert [limit is None for limit in sets.lowest] == [False, True, True]
    assert [limit is None for limit in sets.highest] == [False, True, True]
    labels[:, 0] = -1
    assert fit_finding_sets(probabilities, labels, 0.9).lowest[0] is None


def test_an_undecided_finding_is_a_reason_to_refer() -> None:
    undecided = [[False, False], [True, False], [False, True]]
    assert reasons_to_refer(None, None, undecided) == [(), (UNDECIDED_FINDING,), (UNDECIDED_FINDING,)]
    both = (UNDECIDED_FINDING, UNLIKE_TRAINING)
    assert reasons_to_refer(None, [0.5, 2, 0.5], undecided) == [(), both, (UNDECIDED_FINDING,)]


def test_the_record_is_the_rule_again() -> None:
    assert FindingSets.from_record(RULE.to_record(), 2) == RULE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coverage": 1}, "coverage outside"),
        ({"coverage": "much"}, "coverage outside"),
        ({"lowest": [0.5]}, "needs 2 values of lowest"),
        ({"highest": [0.5, 2]}, "value of highest that is not a probability"),
        ({"highest": [0.5, float("nan")]}, "value of highest that is not a probability"),
        ({"more": 1}, "must have coverage, lowest, highest"),
    ],
)
def test_a_damaged_record_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FindingSets.from_record(RULE.to_record() | changes, 2)


def test_what_can_not_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="coverage must be between"):
        fit_finding_sets([[0.5]], [[1]], 1.0)
    with pytest.raises(ValueError, match="NaN"):
        fit_finding_sets([[np.nan]], [[1]])
