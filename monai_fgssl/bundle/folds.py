# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: train every fold of a data set, and report on all images by the models that have not seen them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from monai.bundle import ConfigParser

from monai_fgssl.report import Report
from monai_fgssl.report.chance import measure_folds
from monai_fgssl.report.stored import join_stored, read_stored
from monai_fgssl.tasks import task_named
from monai_fgssl.utils.command import in_bundle_command
from monai_fgssl.utils.errors import SettingsError, first_names
from monai_fgssl.utils.files import atomic_write
from monai_fgssl.utils.run_log import tell

from .identity import OutputInUseError, is_locked, lock_output
from .joined_model import join_models, mean_predictions
from .locate import command_line_overrides
from .repeats import seed_folder
from .workflow import open_log

__all__ = ["ALL_FOLDS", "join_folds", "train_all_folds"]

ALL_FOLDS = "all"
"""Value of the setting ``fold`` that trains every fold."""
ONE_OF_ALL = "FGSSL_ONE_OF_ALL_FOLDS"
"""Variable of the environment that marks the run of one fold as a part of ``--fold all``."""
TAKEN = 75
"""Exit status of such a run if another process trains the fold: "try again later" (``EX_TEMPFAIL`` of sysexits.h)."""
OF_TORCHRUN = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
)
"""Variables of the environment by which ``torchrun`` tells its processes apart; others begin with ``TORCHELASTIC_``."""
PREDICTIONS = "predictions.npz"
BESIDE_SETTINGS = "nested_settings.json"
"""File in the folder of a fold with the nested ids of its command, if ``--args_file`` names a file of settings."""
MAY_DIFFER = (
    *("fold", "output_dir", "model_path", "resume", "synthetic_dir", "cache_dir", "device", "amp"),
    *("checkpoint_minutes", "progress_seconds", "untrusted", "decode_seconds", "decode_gb", "max_pixels"),
)
"""Settings that may differ between the folds of one cross-validation."""


def train_all_folds(bundle_root: str | Path, settings: Mapping[str, Any]) -> None:
    """Train every fold by a command of its own, and report on all of them. Then this process ends.

    Fold k is the same command with ``--fold k --output_dir OUTPUT/fold_k --model_path OUTPUT/fold_k/model.pt --resume
    true``. So each fold can be trained by itself too, on another machine or in a job array. Folds that are finished are
    left as they are, and folds that another process is training are left to it. If that process dies, its fold is free
    again. The last process to end reports. Processes of ``torchrun`` share the folds too, and each uses its own GPU.

    If the settings name one fold, its output folder is locked. While another process trains that fold, this one waits.

    Args:
        bundle_root: the bundle's folder.
        settings: values by the names of the top-level ids. Without ``num_folds``, nothing happens.

    Raises:
        SettingsError: when the command can't train all folds, or a finished fold has other settings.
        SystemExit: when all is done, or with the status of a fold that failed.
    """
    if settings["fold"] != ALL_FOLDS:
        if settings.get("num_folds") is not None and in_bundle_command() and int(os.environ.get("WORLD_SIZE", 1)) == 1:
            _take_fold(settings)
        return
    if not in_bundle_command():
        raise SettingsError("--fold all works in the command python -m monai.bundle run; from Python, run each fold.")
    if dist.is_available() and dist.is_initialized():
        raise SettingsError(
            "--fold all trains each fold in one process, and multi_gpu_train.json trains one model in all of them: "
            "leave multi_gpu_train.json out, then the processes of torchrun share the folds; or start torchrun once "
            "for each fold, with --fold 0, --fold 1 and so on."
        )
    output, num_folds = Path(settings["output_dir"]), int(settings["num_folds"])
    folders = [output / f"fold_{fold}" for fold in range(num_folds)]
    # Before anything is trained.
    for folder in folders:
        _check_settings_of(folder, settings)
        _check_start_of_all(folder, settings)
    told: set[str] = set()
    done: set[Path] = set()
    environment = _environment_of_a_fold(str(settings.get("device")))
    # A fold of another process is looked at again after each pass: that process may have died.
    while _train_free_folds(folders, told, done, environment):
        pass
    if missing := [str(fold) for fold, folder in enumerate(folders) if not _is_finished(folder)]:
        print(
            f"not finished yet: fold {first_names(missing)}. The process that ends last reports on all folds; or run "
            "this command again.",
            flush=True,
        )
        raise SystemExit(0)
    try:
        lock_output(output)
    except OutputInUseError:
        print(f"all folds are finished, and another process reports on them: {output}", flush=True)
        raise SystemExit(0) from None
    open_log(output, settings)
    join_folds(output, bundle_root, settings)
    raise SystemExit(0)


def _check_start_of_all(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse weights that a fold overwrites: the other folds would start from the new ones."""
    for name in ("pretrained", "weights"):
        start = settings.get(name)
        if isinstance(start, str) and folder.resolve() in Path(start).resolve().parents:
            raise SettingsError(
                f"--{name} {start} is in the folder of a fold, which may overwrite it before the other folds start "
                "from it: choose another --output_dir, or name a copy of the file."
            )


def _train_free_folds(folders: Sequence[Path], told: set[str], done: set[Path], environment: Mapping[str, str]) -> bool:
    """Train each fold that is neither finished nor being trained.

    Args:
        folders: folders of the folds.
        told: lines that were printed already; new ones are added.
        done: folders of the folds that this process has trained; new ones are added.
        environment: environment of the commands that train a fold.

    Returns:
        True if one was trained.
    """

    def say(line: str) -> None:
        if line not in told:
            print(line, flush=True)
            told.add(line)

    before = len(done)
    # Processes of torchrun start at the same second: each looks at another fold first.
    first = int(os.environ.get("RANK", 0))
    for place in range(len(folders)):
        fold = (first + place) % len(folders)
        folder, name = folders[fold], f"fold {fold} of {len(folders)}"
        if folder in done:
            continue
        if _is_finished(folder):
            say(f"{name} is finished: {folder}")
        elif is_locked(folder):
            say(f"{name} is being trained by another process: {folder}")
        else:
            print(f"{name}: {folder}", flush=True)
            own = ["--fold", str(fold), "--output_dir", str(folder), "--model_path", str(folder / "model.pt")]
            command = [sys.executable, "-m", "monai.bundle", *sys.argv[1:], *own, "--resume", "true"]
            status = _run(command, environment)
            if status == TAKEN:
                # Both have found the fold free in the same second, and the lock has chosen the other one.
                say(f"{name} was taken by another process: {folder}")
            elif status:
                raise SystemExit(status if status > 0 else 128 - status)
            else:
                done.add(folder)
    return len(done) > before


def _take_fold(settings: Mapping[str, Any]) -> None:
    """Lock the folder of one fold. While another process trains it, wait, or end if this is a run of ``--fold all``."""
    folder = Path(settings["output_dir"])
    try:
        lock_output(folder)
        _write_beside_settings(folder)
        return
    except OutputInUseError:
        if ONE_OF_ALL in os.environ:
            raise SystemExit(TAKEN) from None
    print(f"fold {settings['fold']} is being trained by another process: waiting for its end ({folder})", flush=True)
    lock_output(folder, wait=True)
    if _is_finished(folder):
        _check_settings_of(folder, settings)
        print(f"fold {settings['fold']} is finished: {folder}", flush=True)
        raise SystemExit(0)
    _write_beside_settings(folder)


def _environment_of_a_fold(device: str) -> dict[str, str]:
    """Environment for the run of one fold: that of this process, but without a group of processes.

    Args:
        device: setting of the run. With ``"cuda"``, a process of ``torchrun`` uses the GPU of its number on this
            machine; if there are more processes than GPUs, they share them.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in OF_TORCHRUN and not name.startswith("TORCHELASTIC_")
    }
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        # The names of GPUs may be numbers or identifiers.
        gpus = visible.split(",") if visible else [str(gpu) for gpu in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[int(os.environ["LOCAL_RANK"]) % len(gpus)].strip()
    return environment | {ONE_OF_ALL: "1"}


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command, and return its exit status. If this process is stopped, the command is stopped too."""
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except BaseException:
            # subprocess.run would kill it: this way it writes a checkpoint, and the end of the block waits for that.
            process.terminate()
            raise


def join_folds(output_dir: str | Path, bundle_root: str | Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Report on the test parts of all folds together, into the folder that holds the folds' folders.

    Each image is predicted by the model that has not seen it. ``metrics.json`` has the metrics of each fold as
    ``folds``, and what they vary with as ``fold_chance``. The models of all folds, and of all seeds, become one model
    at ``model_path``, see :func:`~monai_fgssl.bundle.joined_model.join_models`. Its sets of possible classes are fitted
    to the mean of the seeds whose models have not seen an image. It is not tested: every image is known to most of its
    members.

    Args:
        output_dir: folder with ``fold_0``, ``fold_1`` and so on.
        bundle_root: the bundle's folder.
        settings: settings of the cross-validation, with ``num_folds``.

    Returns:
        Content of ``metrics.json``.

    Raises:
        DataError: when predictions of a fold are missing or damaged, or folds do not belong together.
    """
    output = Path(output_dir)
    parts = [read_stored(output / f"fold_{fold}" / PREDICTIONS) for fold in range(int(settings["num_folds"]))]
    # The first fold has recognized the task, unless the settings name it.
    task = task_named(json.loads((output / "fold_0" / "metrics.json").read_text(encoding="utf-8"))["task"])
    joined = join_stored(parts, task)
    members = _models(output, int(settings["num_folds"]), int(settings.get("seeds", 1)))
    told = dict(settings)
    if not members:
        tell(
            f"note: no model of all folds: each folder fold_0, fold_1, ... of {output} must have the model.pt of all "
            "of its seeds"
        )
    mean = mean_predictions(joined)
    if not members or not join_models("folds", members, settings["model_path"], bundle_root, mean, settings):
        del told["model_path"]
    report = Report(output, parts[0].class_names, told, bundle_root=bundle_root, task=task)
    for of_seed in joined:
        report.add(f"{parts[0].method}, {len(parts)} folds", of_seed)
    report.folds, report.fold_chance = measure_folds(task, parts)
    return report.write({})


def _models(output: Path, num_folds: int, seeds: int) -> list[Path]:
    """Models of all folds and their seeds; empty if one is missing.

    An earlier command with more seeds may have left models of further seeds there, which do not belong to this one.
    """
    folders = [output / f"fold_{fold}" for fold in range(num_folds)]
    of_seeds = ["", *(seed_folder(number) for number in range(1, seeds))]
    files = [folder / of_seed / "model.pt" for folder in folders for of_seed in of_seeds]
    return files if all(file.is_file() for file in files) else []


def _is_finished(folder: Path) -> bool:
    """True if a run in this folder has written its results; the predictions are written last."""
    return (folder / PREDICTIONS).is_file() and (folder / "metrics.json").is_file()


def _beside_settings(arguments: Sequence[str]) -> dict[str, str]:
    """Nested ids that a command sets beside the settings, such as ``train#loss#label_smoothing``.

    Those of ``--args_file`` count too, in the text of a command; the command line goes before them.
    """
    given = command_line_overrides(arguments)
    if Path(given.get("args_file", "")).is_file():
        of_file = ConfigParser.load_config_file(given["args_file"])
        given = {name: value if isinstance(value, str) else repr(value) for name, value in of_file.items()} | given
    return {name.replace("::", "#"): value for name, value in given.items() if "#" in name or "::" in name}


def _write_beside_settings(folder: Path) -> None:
    """Write the nested ids of this command into the folder of its fold, if a file names some: it may change later."""
    if "args_file" in command_line_overrides():
        with atomic_write(folder / BESIDE_SETTINGS) as temporary:
            temporary.write_text(json.dumps(_beside_settings(sys.argv[1:])), encoding="utf-8")


def _check_settings_of(folder: Path, settings: Mapping[str, Any]) -> None:
    if not _is_finished(folder):
        return
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    own = folder / BESIDE_SETTINGS
    beside = (
        json.loads(own.read_text(encoding="utf-8"))
        if own.is_file()
        else _beside_settings(shlex.split(content.get("command", ""))[1:])
    )
    there = content["settings"] | beside
    wanted = json.loads(json.dumps(dict(settings), default=str)) | _beside_settings(sys.argv[1:])
    wanted |= dict.fromkeys(name for name in there if name not in wanted and "#" in name)
    different = [
        f"{name} {there.get(name)!r} there, {wanted[name]!r} now"
        for name in wanted
        if name not in MAY_DIFFER and there.get(name) != wanted[name]
    ]
    if different:
        raise SettingsError(
            f"{folder} has a finished fold with other settings ({first_names(different, 3)}): choose another "
            "--output_dir, or remove that folder."
        )
