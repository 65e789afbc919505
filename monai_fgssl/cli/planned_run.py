# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The run that ``doctor`` checks for: the bundle's own settings, with those of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from monai_fgssl.bundle import SettingsError, check_overrides, check_settings, shipped_bundle
from monai_fgssl.bundle.locate import config_path
from monai_fgssl.data import ImageGeometry, SplitPlan

__all__ = ["PlannedRun", "as_settings", "plan_run"]

BUNDLE = {2: "fgssl", 3: "fgssl_volume"}


@dataclass(frozen=True)
class PlannedRun:
    """Settings of a training, and what follows from them.

    Attributes:
        settings: values by the names of the settings.
        given: names of the settings that the command line gave.
        geometry: geometry of the images.
        split: plan of how the data set is split.
    """

    settings: dict[str, Any]
    given: tuple[str, ...]
    geometry: ImageGeometry
    split: SplitPlan


def as_settings(arguments: Sequence[str]) -> dict[str, str]:
    """Read ``--name value`` and ``--name=value``.

    Raises:
        SettingsError: when an argument is neither.

    Example:
        >>> as_settings(["--frame", "0", "--window=[40,400]"])
        {'frame': '0', 'window': '[40,400]'}
    """
    settings: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not name:
            raise SettingsError(f"{argument!r} is not a setting: write --name value.")
        if not (equals or rest):
            raise SettingsError(f"--{name} has no value: write --{name} VALUE.")
        settings[name] = value if equals else rest.pop(0)
    return settings


def plan_run(dataset_dir: str, spatial_dims: int, given: Mapping[str, str]) -> PlannedRun:
    """Work out the settings of a training as its config does, and check them.

    Args:
        dataset_dir: data set of the training.
        spatial_dims: 2 for pictures, 3 for volumes.
        given: other settings, as text.

    Raises:
        SettingsError: when a setting is unknown or can't work.
    """
    root = shipped_bundle(BUNDLE[spatial_dims])
    check_overrides(root, [*given])
    parser = ConfigParser(ConfigParser.load_config_file(config_path(root, "train")))
    paths = parser["paths"]
    parser["bundle_root"] = str(root)
    parser["dataset_dir"] = dataset_dir
    for name, text in given.items():
        # A folder may have a number as its name.
        parser[name.replace("::", "#")] = text if name in paths else DefaultParseValue(text)
    settings = parser.get_parsed_content("settings")
    check_settings(str(root), settings)
    content = {name: parser.get_parsed_content(name) for name in ("geometry", "split_plan")}
    return PlannedRun(settings, tuple(given), content["geometry"], content["split_plan"])
