# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_fgssl.data.layouts.class_names import check_vectors


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
