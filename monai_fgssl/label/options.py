# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Options of the app, from the server's `--conf` or from a training request."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_fgssl.bundle import BUNDLES, SettingsError, with_new_names
from monai_fgssl.bundle.settings_table import SETTINGS, by_name
from monai_fgssl.tasks import MULTILABEL

from .origins import Sites, origin_of

__all__ = ["IMAGE_OPTIONS", "TRAIN_SETTINGS", "AppOptions", "check_task", "read_options", "train_settings"]

TRAIN_SETTINGS = tuple(sorted(setting.name for setting in SETTINGS if setting.label_app))
"""Settings of the bundle's ``train.json`` that a request may change. None of them names a file."""

IMAGE_OPTIONS = frozenset({"window", "frame", "channel", "time", "max_pixels"})
"""Settings that decide which image is read from a file, and so whether it can be read."""

FEWEST_FINDINGS = 2
"""Smallest number of findings of a server for several in one image."""

# MONAI runs text that begins with $ as Python, and takes @ and % for references.
WORD = re.compile(r"[A-Za-z0-9][\w.:-]*")


@dataclass(frozen=True)
class AppOptions:
    """Options that the app was started with.

    Attributes:
        classes: names that labels may have; empty: any name.
        bundle: folder of the bundle, trained or not; None: a copy is made in the folder of the studies.
        bundle_name: name of the bundle of this package that is copied.
        settings: settings of the bundle, for every training.
        sites: names of the server, and websites that may use it.
        max_upload_mb: largest request, in megabytes.
        decode_seconds: time limit for decoding a file, in seconds; see :class:`~monai_fgssl.data.DecoderPool`.
        decode_gb: memory for decoding, in gigabytes, all files together; None: half of what is free.
    """

    classes: tuple[str, ...] = ()
    bundle: Path | None = None
    bundle_name: str = "fgssl"
    settings: dict[str, Any] = field(default_factory=dict)
    sites: Sites = field(default_factory=Sites)
    max_upload_mb: float = 1024.0
    decode_seconds: float = 60.0
    decode_gb: float | None = None

    @property
    def several(self) -> bool:
        """True if an image may have several findings, or none."""
        return self.settings.get("task") == MULTILABEL


def read_options(conf: Mapping[str, str]) -> AppOptions:
    """Read the options of `--conf`. Those of MONAI Label itself are ignored.

    Args:
        conf: ``classes``, ``hosts`` and ``origins``: names with commas between them; with ``task: ordinal`` the classes
            are in the order of their grades, from the lowest to the highest, and with ``task: multilabel`` they are
            findings, of which an image may have several. ``max_upload_mb``: a number;
            ``bundle``: a folder, or the name of a bundle of this package; any of :data:`TRAIN_SETTINGS`.

    Raises:
        SettingsError: when a value can't be used.

    Example:
        >>> read_options({"classes": "nevus, melanoma", "image_size": "128"}).classes
        ('nevus', 'melanoma')
    """
    classes = _names(conf, "classes")
    if len(set(map(str.lower, classes))) < len(classes):
        raise SettingsError(f"--conf classes names a class twice: {', '.join(classes)}.")
    settings = train_settings(conf)
    if settings.get("task") == MULTILABEL and len(classes) < FEWEST_FINDINGS:
        raise SettingsError(
            "--conf task multilabel needs the names of two findings or more, since an image without findings names "
            'none of them: add --conf classes "Mass,Edema".'
        )
    bundle = conf.get("bundle", "fgssl")
    is_name = bundle in BUNDLES
    if not is_name and not (Path(bundle) / "configs" / "train.json").is_file():
        raise SettingsError(
            f"--conf bundle {bundle} is neither the folder of a bundle (with configs/train.json) nor one of "
            f"{', '.join(BUNDLES)}."
        )
    try:
        origins = [origin_of(address) for address in _names(conf, "origins")]
    except ValueError as error:
        raise SettingsError(f"--conf origins: {error}") from error
    return AppOptions(
        classes,
        None if is_name else Path(bundle).resolve(),
        bundle if is_name else "fgssl",
        _with_class_order(settings, classes),
        Sites(_names(conf, "hosts"), origins),
        _positive(conf, "max_upload_mb", "megabytes") or AppOptions.max_upload_mb,
        _positive(conf, "decode_seconds", "seconds") or AppOptions.decode_seconds,
        _positive(conf, "decode_gb", "gigabytes"),
    )


def _with_class_order(settings: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Let the names of the classes tell their order, if they are grades and no setting tells it."""
    if settings.get("task") == "ordinal" and classes:
        return {"class_order": list(classes), **settings}
    return settings


def _positive(conf: Mapping[str, str], name: str, unit: str) -> float | None:
    """Read a number above 0; None if none is given."""
    if name not in conf:
        return None
    try:
        value = float(conf[name])
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"--conf {name} {conf[name]} must be a positive number, in {unit}.")
    return value


def _names(conf: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in conf.get(name, "").split(",") if one.strip())


def train_settings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Read the bundle's settings in a request. Its other entries belong to MONAI Label.

    Raises:
        SettingsError: when a value is out of range, or is not a number, switch, list of numbers or plain word.
    """
    request = with_new_names(request)
    settings = {name: _literal(request[name]) for name in TRAIN_SETTINGS if request.get(name) is not None}
    if settings.get("frame") == "all":
        raise SettingsError("frame must be a number here: each file has one label, so one frame of it is the image.")
    for name, value in settings.items():
        if not _is_plain(value):
            raise SettingsError(f"{name} must be a number, a switch, a plain word or a list of these, got {value!r}.")
        check = by_name()[name].check
        if check is not None:
            check(name, value)
    return settings


def check_task(settings: Mapping[str, Any], several: bool) -> None:
    """Refuse a training of another kind of labels than the server has.

    Args:
        settings: settings of a request.
        several: see :attr:`AppOptions.several`.

    Raises:
        SettingsError: when the task does not fit.
    """
    task = settings.get("task")
    if task is not None and (task == MULTILABEL) != several:
        kind = "several findings in an image" if several else "one class for each image"
        raise SettingsError(f"task {task} does not fit the labels here, {kind}: start the server with --conf task.")


def _literal(value: Any) -> Any:
    """Convert a text of `--conf` to the value that it spells."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(key) and _is_plain(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and WORD.fullmatch(value) is not None)
