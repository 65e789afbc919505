# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_fgssl.bundle import SettingsError, copy_bundle
from monai_fgssl.label.options import check_task, read_options, train_settings


def test_conf_as_text() -> None:
    options = read_options({"classes": " nevus, melanoma,", "image_size": "128", "grids": "[4, 2, 1]", "zoo": "x"})
    assert options.classes == ("nevus", "melanoma")
    assert options.bundle is None
    assert options.settings == {"image_size": 128, "grids": [4, 2, 1]}
    assert read_options({"max_upload_mb": "0.5"}).max_upload_mb == 0.5


def test_a_bundle_by_folder_and_by_name(tmp_path: Path) -> None:
    folder = copy_bundle("fgssl", tmp_path / "own")
    assert read_options({"bundle": str(folder)}).bundle == folder
    assert read_options({"bundle": "fgssl_volume"}).bundle_name == "fgssl_volume"


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"classes": "a,A"}, "names a class twice"),
        ({"bundle": "/nowhere"}, "neither the folder of a bundle"),
        ({"max_upload_mb": "much"}, "must be a positive number, in megabytes"),
        ({"max_upload_mb": "-1"}, "must be a positive number, in megabytes"),
        ({"max_upload_mb": "inf"}, "must be a positive number, in megabytes"),
        ({"max_upload_mb": "nan"}, "must be a positive number, in megabytes"),
        ({"task": "multilabel"}, "needs the names of two findings or more"),
        ({"task": "multilabel", "classes": "Mass"}, "needs the names of two findings or more"),
    ],
)
def test_what_can_not_be_used(conf: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_options(conf)


@pytest.mark.parametrize(
    "value",
    [
        "$__import__('os').system('id')",
        "@run",
        "%/etc/passwd",
        "../../x",
        "/etc/passwd",
        ["$1"],
        {"train": "$1"},
        "a b",
    ],
)
def test_no_setting_is_code_or_a_path(value: Any) -> None:
    with pytest.raises(SettingsError, match="backbone must be a number"):
        train_settings({"backbone": value})


def test_other_parts_of_a_request_are_left_out() -> None:
    request = {"model": "train", "max_epochs": 3, "output_dir": "/", "run": "$1", "backbone": "timm:resnet18.a1_in1k"}
    assert train_settings(request) == {"max_epochs": 3, "backbone": "timm:resnet18.a1_in1k"}


def test_a_server_for_several_findings() -> None:
    options = read_options({"task": "multilabel", "classes": "Mass,Edema"})
    assert options.several
    assert options.settings == {"task": "multilabel"}
    assert not read_options({"task": "ordinal", "classes": "absent,mild"}).several
    assert not read_options({}).several


def test_a_training_of_another_kind_of_labels_is_refused() -> None:
    for settings, several in (({"task": "multilabel"}, True), ({"task": "ordinal"}, False), ({}, True), ({}, False)):
        check_task(settings, several)
    for task, several in (("multilabel", False), ("ordinal", True), ("multiclass", True)):
        with pytest.raises(SettingsError, match=f"task {task} does not fit the labels here"):
            check_task({"task": task}, several)
