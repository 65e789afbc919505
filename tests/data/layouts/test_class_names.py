# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_fgssl.data.layouts.class_names import check_similar_names, check_vectors, similar_names


@pytest.mark.parametrize("label", ["Mass|Edema", "[0, 1]", "[0 1]", "(0, 1)", "(0.5,0.5)", "a,b", "a; b"])
def test_several_classes_at_once_are_told(label: str) -> None:
    assert "1 images have several classes at once" in check_vectors(["a", "b", label])[0]


@pytest.mark.parametrize("label", ["grade 1, well", "[nevus]", "(1)", "(a, 1)", "[0, 1", "0, 1]", "[]", "()", "a"])
def test_other_names_with_signs_are_names(label: str) -> None:
    assert check_vectors(["a", "b", label]) == []


@pytest.mark.parametrize("label", ["[" + ", " * 200_000, "(" + "1," * 200_000 + "x", "," * 200_000])
def test_long_texts_end(label: str) -> None:
    """A pattern with two parts that match the same would take hours."""
    assert check_vectors(["a", label]) == []


@pytest.mark.parametrize(
    "names",
    [
        ("1", "01"),
        ("grade 2", "Grade_02"),
        ("mel", "m\u0435l"),
        ("P1", "p1"),
        ("T-cell", "T\u2013cell"),
        ("Bowen's", "Bowen\u2019s"),
        ("-2", "\u22122"),
    ],
)
def test_names_that_look_alike_are_told(names: tuple[str, str]) -> None:
    assert similar_names([*names, "nevus"]) == [list(names)]
    assert "are nearly the same name" in check_similar_names(dict.fromkeys(names, 1))[0]


def test_other_names_are_not_alike() -> None:
    assert not similar_names(["1", "10", "100", "0", "00.5", "1.5", "1.05", "T1", "T10", "case (1)", "case (2)"])


def test_words_that_are_classes_are_several_classes() -> None:
    assert "0 1" in check_vectors(["0", "1", "0 1"])[0]
    assert "with hyphens" in check_vectors(["haze", "primary", "haze primary"])[0]
    assert not check_vectors(["nevus", "atypical nevus"])


def test_a_semicolon_beside_one_class_that_is_known_is_several_classes() -> None:
    assert "Edema;Mass" in check_vectors(["Mass", "Edema;Mass"])[0]
    assert not check_vectors(["Mass", "Edema; severe", "Mass;"])


def test_equal_numbers_are_alike() -> None:
    for names in (("1", "+1"), ("1", "1e0"), ("1", "1,0"), ("0.5", "0.50"), ("0", "-0"), ("1", "True")):
        assert similar_names(sorted({*names, "2"})) == [sorted(names)]
    assert not similar_names(["-2", "2", "1_0", "10", "12345678901234567890", "12345678901234567891", "1e", "e1"])
