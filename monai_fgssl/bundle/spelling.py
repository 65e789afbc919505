# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find misspelled settings, wherever they come from. MONAI accepts any name, and ignores a name that nothing uses."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from monai_fgssl.utils.command import in_bundle_command
from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.run_log import tell

from .locate import CONFIG_SUFFIXES, command_config_files, command_line_overrides, workflows
from .settings_table import by_name

__all__ = ["check_config", "check_overrides", "without_effect"]

# Arguments of `python -m monai.bundle run` itself.
RUN_ARGUMENTS = {
    "args_file",
    "config_file",
    "final_id",
    "init_id",
    "logging_file",
    "meta_file",
    "properties_path",
    "run_id",
    "tracking",
    "workflow_name",
    "workflow_type",
}

RENAMED_SETTINGS = {"features": "embedding_dim", "heads_first": "freeze_backbone"}
"""Former names of settings, which work for one more release, and their present names."""

RENAMED_IDS = RENAMED_SETTINGS | {"calibration_dataloader": "batch_norm_dataloader"}

OF_TRACKING = tuple(DEFAULT_EXP_MGMT_SETTINGS["mlflow"]["configs"])
"""Ids that MONAI adds with ``--tracking``."""

SETTINGS_GROUP = "settings"
"""Id that has the values of all settings."""
RECORD = "record"
"""Id of commands that use a trained model: its record tells network, images and classes."""
HOW_TO_RUN = ("device", "amp", "checkpoint_minutes", "progress_seconds")
"""Settings that change no result, so a command without a use for them takes them too."""

SIMILARITY = 0.8
"""Similarity of two names from which on one is taken for a misspelling of the other."""


def _known_ids(bundle_root: str | Path, with_command: bool = True) -> dict[str, Any]:
    """Ids of all configs of the bundle, and of other configs on the command line."""
    files = [file for file in sorted((Path(bundle_root) / "configs").iterdir()) if file.suffix in CONFIG_SUFFIXES]
    if with_command and in_bundle_command():
        files += [file for file in command_config_files() if file.is_file()]
    known: dict[str, Any] = {}
    for file in files:
        if file.name != "metadata.json":
            # A plus merges with the value of another file, and # names a part of a value.
            for name, value in ConfigParser.load_config_file(file).items():
                first, *rest = name.removeprefix("+").replace("::", "#").split("#")
                if not rest:
                    known[first] = _merged(known.get(first), value)
                else:
                    known.setdefault(first, {})
                    if len(rest) == 1 and isinstance(known[first], dict):
                        known[first] = {rest[0]: value, **known[first]}
    return known


def _merged(before: Any, value: Any) -> Any:
    """Merge the values of an id that several configs have: two dictionaries become one with all keys."""
    return {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value


def check_overrides(bundle_root: str | Path, names: Sequence[str]) -> None:
    """Refuse overrides of ids that no config of the bundle has. MONAI itself accepts and ignores them.

    Raises:
        SettingsError: on an unknown id; the message names it and the nearest known ids.
    """
    known = _known_ids(bundle_root)
    for former, today in RENAMED_SETTINGS.items():
        if former in names and today in names:
            raise SettingsError(f"--{former} is the former name of --{today}: give --{today} only.")
    for name in names:
        # A component accepts any argument of its class, so only the first part of an id is checked here.
        top_level = name.replace("::", "#").split("#")[0]
        if top_level not in known and top_level not in RUN_ARGUMENTS and top_level != "_meta_":
            new = RENAMED_IDS.get(top_level)
            nearest = [new] if new else difflib.get_close_matches(top_level, known, n=3)
            hint = f" Did you mean --{' or --'.join(nearest)}?" if nearest else ""
            raise SettingsError(f"unknown setting --{top_level}.{hint} All settings are described in docs/README.md.")


def check_config(bundle_root: str | Path) -> None:
    """Look for misspelled ids in the config that is being evaluated: from a file, from Python or from a command.

    An id has no effect if no config of the bundle has it and nothing refers to it. If it resembles a known id, it is
    refused; otherwise a note is printed. The arguments of components are not checked here, since their classes do so.
    A setting of another config of the bundle, such as ``decision`` in an inference, has no effect either, nor has one
    that no step of the run needs, such as ``decision`` in an evaluation.

    Raises:
        SettingsError: on an id that resembles a known id, where the message names both, and on a setting without an
            effect.
    """
    workflow = next(iter(workflows()), None)
    if workflow is None:
        return
    config = workflow["parser"].config
    known = _known_ids(bundle_root, with_command=False)
    whole = _referred_to(config)
    used: set[str | None] = {
        "#".join(name.split("#")[:depth]) for name in whole for depth in range(1, name.count("#") + 2)
    }
    used.update(workflow.get(name) for name in ("init_id", "run_id", "final_id"))
    used.update(OF_TRACKING)
    idle = [name for name in config if name in by_name() and name not in used]
    runs = [str(workflow.get(name) or default) for name, default in (("init_id", "initialize"), ("run_id", "run"))]
    given = [name for name in _given(bundle_root, config) if name not in HOW_TO_RUN]
    unneeded = without_effect(config, given, runs)
    if RECORD in config:
        # The result would be taken for that of the setting, and it is that of the model.
        idle += unneeded
    elif unneeded:
        # The same settings may be given to several commands, such as a pre-training and then a training.
        told = ", ".join(f"--{name}" for name in unneeded)
        tell(f"note: without effect in this command: {told}")
    if idle:
        raise SettingsError(
            f"--{idle[0]} has no effect in this command: nothing in its config uses it, or the model tells it. Leave "
            "it out."
        )
    for name, candidates in _unknown(config, known):
        # A group that a reference takes as a whole, such as @autocast, holds arguments of another function.
        taken_whole = "#" in name and name.split("#")[0] in whole
        if name in used or taken_whole or name in RENAMED_IDS or name in RUN_ARGUMENTS:
            continue
        last = name.split("#")[-1]
        nearest = difflib.get_close_matches(last, candidates, n=1, cutoff=SIMILARITY)
        prefix = name.removesuffix(last)
        if nearest:
            raise SettingsError(
                f"unknown setting {name}: nothing uses it. Did you mean {prefix}{nearest[0]}? If it is an id of your "
                "own, give it a name that is less similar. docs/README.md of the bundle describes all settings."
            )
        tell(f"note: nothing uses the setting {name}")


def _given(bundle_root: str | Path, config: Mapping[str, Any]) -> list[str]:
    """Settings and nested ids that come from the user: they are in the command, or differ from all configs."""
    shipped = [
        ConfigParser.load_config_file(file)
        for file in sorted((Path(bundle_root) / "configs").iterdir())
        if file.suffix in CONFIG_SUFFIXES
    ]
    typed = [name.replace("::", "#") for name in command_line_overrides()] if in_bundle_command() else []
    given = [
        name
        for name in by_name()
        if name in config and (name in typed or _text(config[name]) not in [_text(one.get(name)) for one in shipped])
    ]
    # A nested id of the command, such as --train#loss#label_smoothing.
    return given + [name for name in typed if "#" in name and name.split("#")[0] in config]


def without_effect(config: Mapping[str, Any], names: Iterable[str], runs: Iterable[str] = ("run",)) -> list[str]:
    """Find settings that no step of a run needs.

    Args:
        config: content of the config files of a command, as one.
        names: names of settings, or nested ids such as ``train#loss#label_smoothing``.
        runs: ids of the steps.

    Returns:
        Those of the names that nothing leads to from the steps, by way of the references in each id.
    """
    reached: set[str] = set()
    left = list(runs)
    while left:
        name = left.pop()
        # The group of all settings only tells what was set: the log, the report and the checks take it as a whole.
        if name in reached or name == SETTINGS_GROUP:
            continue
        reached.add(name)
        value: Any = config
        for key in name.split("#"):
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                break
        if value is not config:
            left += _referred_to({"": value})
    # An id is needed with the whole that it is a part of, and for each of its parts.
    return [
        name
        for name in names
        if not any(f"{name}#".startswith(f"{one}#") or one.startswith(f"{name}#") for one in reached)
    ]


def _unknown(config: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[tuple[str, Iterable[str]]]:
    """Find ids that the bundle lacks, at the top level and in groups, each with the known ids of the same level."""
    for name, value in config.items():
        if name == "_meta_":
            continue
        if name not in known:
            yield name, known
        elif isinstance(value, dict) and isinstance(known[name], dict) and known[name] and "_target_" not in value:
            yield from ((f"{name}#{key}", known[name]) for key in value if key not in known[name])


def _referred_to(config: Mapping[str, Any]) -> set[str]:
    """Ids that an expression, a reference or a macro in a config names."""
    text = _text({name: value for name, value in config.items() if name != "_meta_"})
    return set(re.findall(r"[@%](\w+(?:#\w+)*)", text))


def _text(value: Any) -> str:
    """Content of a config as text, with ids in one spelling: MONAI makes ``a::b`` of ``a#b`` when it reads a config."""
    return json.dumps(value, default=str).replace("::", "#")
