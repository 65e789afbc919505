# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Every figure of the texts is in a result that a benchmark has written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = [*(ROOT / "benchmarks" / "results").glob("*.md"), *(ROOT / "benchmarks" / "accuracy").rglob("*.md")]
PAGES = [
    "README.md",
    "docs/results.md",
    "docs/concepts.md",
    "docs/guides/start.md",
    "docs/guides/grades.md",
    "docs/comparison.md",
    "docs/design.md",
    "docs/faq.md",
    "docs/promises.md",
]

NUMBER = r"[-+]?\d?\.\d{3}(?!\d)"
INTERVAL = re.compile(rf"({NUMBER})\s+\[({NUMBER}),\s+({NUMBER})\]")
PERCENT = re.compile(r"(\d+)\s?%\s+\[(\d+),\s+(\d+)\]")
SINGLE = re.compile(rf"(?<![\d.])({NUMBER})")

Triple = tuple[float, float, float]


def plain(text: str) -> str:
    """Text without code, on one line."""
    return re.sub(r"`[^`\n]*`", " ", text).replace("\n", " ")


def triples(text: str) -> set[Triple]:
    """Values with their intervals. Whole percents stay as they are."""
    found = (match for pattern in (INTERVAL, PERCENT) for match in pattern.finditer(plain(text)))
    return {tuple(map(float, match.groups())) for match in found}  # type: ignore[misc]


def singles(text: str) -> set[float]:
    """Values of three decimals without an interval, without their signs."""
    return {abs(float(value)) for value in SINGLE.findall(INTERVAL.sub(" ", plain(text)))}


def turned(triple: Triple) -> Triple:
    """The same difference the other way around."""
    value, low, high = triple
    return -value, -high, -low


@pytest.fixture(scope="module")
def results() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in RESULTS)


@pytest.mark.parametrize("page", PAGES)
def test_figures_come_from_results(page: str, results: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    known = triples(results)
    known |= {turned(triple) for triple in known}
    assert sorted(triples(text) - known) == []
    values = singles(results) | {abs(value) for value, _, _ in known}
    assert sorted(singles(text) - values) == []


def test_figures_are_found() -> None:
    text = "rises by 0.217 [0.139,\n0.295] (0.875), a loss of 0.043 [0.007, 0.091], from 2.13.0; 81 % [77,\n85]"
    assert triples(text) == {(0.217, 0.139, 0.295), (0.043, 0.007, 0.091), (81, 77, 85)}
    assert singles(text) == {0.875}
    assert turned((0.043, 0.007, 0.091)) == (-0.043, -0.091, -0.007)
    found = [len(triples((ROOT / page).read_text(encoding="utf-8"))) for page in PAGES[:2]]
    assert min(found) >= 8
