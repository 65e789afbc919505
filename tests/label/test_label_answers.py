# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from monai_fgssl.label.answers import answers_of, check_label, label_of

NAMES = ("Mass", "Edema", "Effusion")


def test_findings_are_spelled_and_ordered_as_the_list() -> None:
    assert check_label(["effusion", " Mass ", "MASS"], NAMES, True) == ("Mass", "Effusion")
    assert check_label([], NAMES, True) == ()
    assert check_label("mass", NAMES, False) == "Mass"
    assert check_label(" any ", (), False) == "any"


@pytest.mark.parametrize(
    ("value", "several", "reason"),
    [
        ("Mass", True, "several findings here: send"),
        (None, True, "several findings here: send"),
        (["Mass", 3], True, "the class is missing"),
        (["Mass", "Nodule"], True, "no class 'Nodule'; there are: Mass, Edema, Effusion"),
        (["Mass"], False, "the class is missing"),
        ("Nodule", False, "no class 'Nodule'"),
    ],
)
def test_other_labels_are_refused(value: Any, several: bool, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_label(value, NAMES, several)


def test_no_finding_and_no_label_are_different() -> None:
    assert label_of([], True) == ()
    assert label_of(None, True) is None
    assert label_of(["Mass", 3], True) is None
    # Of the time when each image had one class, and the other way round.
    assert label_of("Mass", True) == ("Mass",)
    assert label_of(["Mass"], False) is None


def test_a_label_says_nothing_about_findings_that_were_not_asked_for() -> None:
    assert answers_of(["Mass"], ["Mass", "Edema"]) == {"Mass": True, "Edema": False}
    assert answers_of("Mass", None) == {"Mass": True}
    assert answers_of([], ["Mass"]) == {"Mass": False}
