# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings of a run: their names, and the checks before anything is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from monai.bundle import ConfigParser

from monai_fgssl.data.io.geometry import ImageGeometry
from monai_fgssl.tasks import MULTICLASS
from monai_fgssl.utils.command import in_bundle_command, stop_quietly
from monai_fgssl.utils.errors import SettingsError

from .locate import command_line_overrides
from .settings_table import SETTINGS
from .spelling import RENAMED_SETTINGS, check_config, check_overrides
from .user_errors import print_user_error

__all__ = [
    "as_bool",
    "as_path",
    "check_command",
    "check_settings",
    "check_values",
    "renamed",
    "uses_puzzles",
    "with_new_names",
]


def renamed(old_name: str, old_value: Any, value: Any) -> Any:
    """Value of a setting that may be given by its former name. A warning then names the new one.

    Args:
        old_name: key of :data:`RENAMED_SETTINGS`.
        old_value: value given by the old name; None if it is not given.
        value: value given by the new name.
    """
    if old_value is None:
        return value
    _warn_of_old_name(old_name)
    return old_value


def with_new_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rename settings that have the name of an earlier release.

    If both names of a setting are given, the value of the new name is taken.
    """
    moved = {new: settings[old] for old, new in RENAMED_SETTINGS.items() if old in settings}
    return moved | {name: value for name, value in settings.items() if name not in RENAMED_SETTINGS}


def _warn_of_old_name(old_name: str) -> None:
    if idist.get_rank() == 0:
        new = RENAMED_SETTINGS[old_name]
        print(f"warning: --{old_name} is now called --{new}; the next release will not know --{old_name}.", flush=True)


def as_bool(name: str, value: Any) -> bool:
    """Read a switch from the command line. MONAI passes the value of ``--amp true`` as text.

    Raises:
        SettingsError: when it is neither true nor false.
    """
    text = str(value).lower()
    if text not in ("true", "false"):
        raise SettingsError(f"--{name} must be true or false, got {value!r}.")
    return text == "true"


def as_path(name: str, value: Any) -> str | None:
    """Read a file or folder from the command line. MONAI turns ``--output_dir 2024_05`` into the number 202405.

    Args:
        name: name of the setting.
        value: value that MONAI made of the text.

    Returns:
        Value as it was typed; None if no value was typed.
    """
    if value is None or isinstance(value, str):
        return value
    typed = command_line_overrides().get(name) if in_bundle_command() else None
    return str(value) if typed is None else typed


def check_command(bundle_root: str | Path) -> None:
    """Refuse misspelled settings, and print errors of this package as one readable line.

    Raises:
        SettingsError: on an unknown override, or on an id in a config or from Python that resembles a known id.
    """
    if in_bundle_command():
        stop_quietly()
        sys.excepthook = print_user_error
        overrides = command_line_overrides()
        names = [*overrides]
        if Path(overrides.get("args_file", "")).is_file():
            names += ConfigParser.load_config_file(overrides["args_file"])
        check_overrides(bundle_root, names)
    check_config(bundle_root)


def check_values(settings: Mapping[str, Any]) -> None:
    """Check values of settings, each by itself.

    Args:
        settings: values by the names of the top-level ids.

    Raises:
        SettingsError: on a value that can't work.
    """
    for setting in SETTINGS:
        if setting.check is not None and setting.name in settings:
            setting.check(setting.name, settings[setting.name])


def check_settings(bundle_root: str, settings: Mapping[str, Any]) -> None:
    """Check the command line (see :func:`check_command`) and the settings of a run before anything is loaded.

    Args:
        bundle_root: the bundle's folder.
        settings: values by the names of the top-level ids.

    Raises:
        SettingsError: on an unknown override or a value that can't work.
    """
    check_command(bundle_root)
    check_values(settings)
    if settings.get("labels_per_class") is not None and settings.get("label_fraction") is not None:
        raise SettingsError("--labels_per_class and --label_fraction both say how many labels are kept: give one.")
    if (fold := settings.get("fold")) not in (None, 0) and settings.get("num_folds") is None:
        raise SettingsError(f"--fold {fold} needs --num_folds, the number of folds, such as 5.")
    if settings.get("split_from") is not None and settings.get("num_folds") is not None:
        raise SettingsError("--split_from and --num_folds both say how the images are split: give one.")
    if settings.get("split_from") is not None and in_bundle_command() and "fractions" in command_line_overrides():
        raise SettingsError("--split_from and --fractions both say how the images are split: give one.")
    if settings.get("subgroup_columns") is not None and settings.get("dataset_dir") is None:
        raise SettingsError("--subgroup_columns needs --dataset_dir: synthetic images have no columns.")
    if settings.get("subgroup_file") is not None and settings.get("subgroup_columns") is None:
        raise SettingsError("--subgroup_file needs --subgroup_columns: the names of its columns to score by.")
    if settings.get("task") not in (None, MULTICLASS) and settings.get("dataset_dir") is None:
        raise SettingsError(f"--task {settings['task']} needs images with such labels: name them with --dataset_dir.")
    dims = settings["spatial_dims"]
    size = _per_axis("image_size", settings["image_size"], dims, whole=True)
    if settings["spacing"] is not None:
        if dims == 2:
            raise SettingsError("--spacing is for volumes: leave it out, or add --spatial_dims 3.")
        _per_axis("spacing", settings["spacing"], dims, whole=False)
    for name in ("window", "frame", "channel", "time", "max_pixels"):
        try:
            ImageGeometry.check(dims, **{name: settings.get(name)})
        except (TypeError, ValueError) as error:
            raise SettingsError(f"--{name}: {error}") from error
    if settings["fine_tuning"] in ("probe", "lp_ft") and str(settings["puzzles"]).lower() == "true":
        raise SettingsError(
            f"--puzzles true needs --fine_tuning full or ensemble: with {settings['fine_tuning']} one classifier reads "
            "all stages of the whole image."
        )
    # A network that is only fine-tuned may need an image size that no grid divides, such as DINOv2's 518 px.
    for grid in settings["grids"] if uses_puzzles(settings["pretrain_epochs"], settings["puzzles"]) else []:
        for axis_grid, axis_size in zip(_per_axis("grids", grid, dims, whole=True), size, strict=True):
            if axis_size % axis_grid:
                raise SettingsError(
                    f"--grids {settings['grids']}: {axis_grid!r} does not divide --image_size {settings['image_size']} "
                    "into whole tiles."
                )


def uses_puzzles(pretrain_epochs: int, puzzles: Any) -> bool:
    """True if a run cuts images into puzzles, so that ``grids`` matter.

    Args:
        pretrain_epochs: setting of the run.
        puzzles: setting of the run.
    """
    return bool(pretrain_epochs) or as_bool("puzzles", puzzles)


def _per_axis(name: str, value: Any, dims: int, whole: bool) -> tuple[Any, ...]:
    """Read a positive number for each axis, given as one number for all axes or as a list."""
    numbers = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    if len(numbers) != dims or not all(
        isinstance(number, int if whole else (int, float)) and number > 0 for number in numbers
    ):
        raise SettingsError(
            f"--{name} must be a positive {'whole ' if whole else ''}number, or a list of {dims} (one for each "
            f"axis), got {value!r}."
        )
    return numbers
