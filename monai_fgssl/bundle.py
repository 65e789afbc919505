# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What the bundle configs need around the package: where the bundle is, its settings checked, its model's record."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from fire.parser import DefaultParseValue
from ignite import distributed as idist
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, class_weights
from monai_fgssl.data.io.reader import check_options
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import expected_calibration_error, fit_temperature
from monai_fgssl.networks import OnnxNet, export_onnx, unwrap
from monai_fgssl.networks.base import StagedNet
from monai_fgssl.report.dicom.header import ModelDescription
from monai_fgssl.utils.files import atomic_write

__all__ = [
    "BUNDLES",
    "SettingsError",
    "as_bool",
    "calibrate",
    "check_command",
    "check_settings",
    "copy_bundle",
    "describe_model",
    "export_model",
    "find_root",
    "has_bfloat16",
    "load_pretrained",
    "load_weights",
    "loss_weights",
    "make_network",
    "memory_format",
    "place_network",
    "read_defaults",
    "read_record",
    "renamed",
    "run_from_random_weights",
    "save_model",
    "shipped_bundle",
    "start_process",
    "with_new_names",
]

BUNDLES = ("fgssl", "fgssl_volume")
"""Names of the bundles that come with the package."""
# Arguments of `python -m monai.bundle run` itself.
RUN_ARGUMENTS = {
    "args_file",
    "config_file",
    "final_id",
    "init_id",
    "logging_file",
    "meta_file",
    "run_id",
    "tracking",
}
BALANCE = (None, "sampling", "weights", "sqrt_weights")
MIN_CALIBRATION_IMAGES = 30
"""In the validation part."""
POSITIVE = (
    "max_epochs",
    "width",
    "embedding_dim",
    "learning_rate",
    "pretrain_learning_rate",
    "batch_size",
    "pretrain_batch_size",
)
NOT_NEGATIVE = (
    "pretrain_epochs",
    "weight_decay",
    "pretrain_weight_decay",
    "redundancy_weight",
    "mixup",
    "seed",
    "checkpoint_minutes",
)
SHARES_OF_EPOCHS = ("freeze_backbone",)
RENAMED_SETTINGS = {"features": "embedding_dim", "heads_first": "freeze_backbone"}
"""Names of earlier releases, which work for one more, and what they are called now."""
RENAMED_IDS = RENAMED_SETTINGS | {"calibration_dataloader": "batch_norm_dataloader"}


class SettingsError(ValueError):
    """A setting of the bundle is unknown or can't work; the message says which and what to change."""


def shipped_bundle(name: str) -> Path:
    """Folder of a bundle: inside the installed package, or beside it in a clone."""
    package = Path(__file__).parent
    for folder in (package / "bundles" / name, package.parent / "bundles" / name):
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    raise FileNotFoundError(f"bundle {name!r} is not part of this installation of monai-fgssl; there are: {BUNDLES}.")


def copy_bundle(name: str, folder: str | Path) -> Path:
    """Copy a bundle out of the installed package, to run and to change it.

    Args:
        name: one of :data:`BUNDLES`.
        folder: where to; must not exist yet.

    Returns:
        The new folder.

    Raises:
        FileExistsError: when there is something at ``folder`` already.
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists already: name a new folder, nothing is overwritten.")
    # Links are followed: a folder that stands alone must not point back into the package.
    shutil.copytree(
        shipped_bundle(name), target, symlinks=False, ignore=shutil.ignore_patterns("output", "*.pt", "model.json")
    )
    return target


def command_line_overrides(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Settings that the command line of ``python -m monai.bundle run`` overrides, as text."""
    arguments = sys.argv[1:] if arguments is None else arguments
    overrides: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        if not argument.startswith("--"):
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals and position + 1 < len(arguments):
            value = arguments[position + 1]
        overrides[name.replace("-", "_")] = value
    return overrides


def in_bundle_command() -> bool:
    """Whether this process was started as ``python -m monai.bundle``."""
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")


def find_root(name: str = "fgssl") -> str:
    """Folder of the bundle that is being run.

    Looked for, in this order: where ``--config_file`` of the command lies, the working folder, ``bundles/<name>`` in
    it, the bundle that came with the package.
    """
    folders = [Path.cwd(), Path.cwd() / "bundles" / name]
    if in_bundle_command():
        config_file = command_line_overrides().get("config_file", "").strip("[]'\" ").split(",")[0].strip("'\" ")
        # Links are not followed: the configs of a bundle may be another's.
        parent = Path(os.path.abspath(config_file)).parent
        folders[:0] = [parent, parent.parent]
    for folder in folders:
        metadata = folder / "configs" / "metadata.json"
        if metadata.is_file():
            return str(folder)
    return str(shipped_bundle(name))


def _known_ids(bundle_root: str | Path) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for file in sorted((Path(bundle_root) / "configs").glob("*.json")):
        if file.name != "metadata.json":
            known.update(json.loads(file.read_text(encoding="utf-8")))
    return known


def check_overrides(bundle_root: str | Path, names: Sequence[str]) -> None:
    """Refuse overrides of ids that no config of the bundle has; MONAI itself would take them and do nothing.

    Raises:
        SettingsError: naming the unknown id and the nearest known ones.
    """
    known = _known_ids(bundle_root)
    for former, today in RENAMED_SETTINGS.items():
        if former in names and today in names:
            raise SettingsError(f"--{former} is the former name of --{today}: give --{today} only.")
    for name in names:
        # Below a component any argument of its class may be added, so only the first part of an id is known here.
        top_level = name.replace("::", "#").split("#")[0]
        if top_level not in known and top_level not in RUN_ARGUMENTS and top_level != "_meta_":
            new = RENAMED_IDS.get(top_level)
            nearest = [new] if new else difflib.get_close_matches(top_level, known, n=3)
            hint = f" Did you mean --{' or --'.join(nearest)}?" if nearest else ""
            raise SettingsError(f"unknown setting --{top_level}.{hint} All settings are described in docs/README.md.")


def renamed(old_name: str, old_value: Any, value: Any) -> Any:
    """Value of a setting that may be given by the name that it had in earlier releases; a warning names the new one.

    Args:
        old_name: one of :data:`RENAMED_SETTINGS`.
        old_value: None where the old name is not given.
        value: of the new name.
    """
    if old_value is None:
        return value
    _warn_of_old_name(old_name)
    return old_value


def with_new_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose names may be those of an earlier release, by the names of today.

    Where both names of a setting are given, the value of the new one is taken.
    """
    moved = {new: settings[old] for old, new in RENAMED_SETTINGS.items() if old in settings}
    return moved | {name: value for name, value in settings.items() if name not in RENAMED_SETTINGS}


def _warn_of_old_name(old_name: str) -> None:
    if idist.get_rank() == 0:
        new = RENAMED_SETTINGS[old_name]
        print(f"warning: --{old_name} is now called --{new}; the next release will not know --{old_name}.", flush=True)


def read_defaults(bundle_root: str | Path) -> dict[str, Any]:
    """Defaults in which a bundle differs from ``train.json``, which all bundles share: ``configs/defaults.json``."""
    file = Path(bundle_root) / "configs" / "defaults.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def has_bfloat16(device: str | torch.device, spatial_dims: int = 2) -> bool:
    """Whether a device computes in bfloat16 faster than in float32, and right."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if spatial_dims == 3:
        # In torch 2.13 gradients of 3D convolutions in bfloat16 are now and then no numbers on a CPU (oneDNN).
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def as_bool(name: str, value: Any) -> bool:
    """A switch from the command line, where ``--amp true`` arrives as text.

    Raises:
        SettingsError: when it is neither true nor false.
    """
    text = str(value).lower()
    if text not in ("true", "false"):
        raise SettingsError(f"--{name} must be true or false, got {value!r}.")
    return text == "true"


def check_command(bundle_root: str | Path) -> None:
    """Refuse misspelt settings on the command line, and make errors of this package one readable line.

    Raises:
        SettingsError: on an unknown override.
    """
    if in_bundle_command():
        sys.excepthook = _print_user_error
        check_overrides(bundle_root, list(command_line_overrides()))


def check_settings(bundle_root: str, settings: Mapping[str, Any]) -> None:
    """Check the command line (see :func:`check_command`) and the settings of a run before anything is loaded.

    Args:
        bundle_root: the bundle's folder.
        settings: values by the names of the top-level ids.

    Raises:
        SettingsError: on an unknown override or a value that can't work.
    """
    check_command(bundle_root)
    for name, value in settings.items():
        if name in POSITIVE and not (isinstance(value, (int, float)) and value > 0):
            raise SettingsError(f"--{name} must be a positive number, got {value!r}.")
        if name in NOT_NEGATIVE and not (isinstance(value, (int, float)) and value >= 0):
            raise SettingsError(f"--{name} must be 0 or more, got {value!r}.")
        if name in SHARES_OF_EPOCHS and not (isinstance(value, (int, float)) and 0 <= value < 1):
            raise SettingsError(f"--{name} must be from 0 to less than 1 (a share of the epochs), got {value!r}.")
    dims = settings["spatial_dims"]
    if dims not in (2, 3):
        raise SettingsError(f"--spatial_dims must be 2 or 3, got {dims!r}.")
    size = _per_axis("image_size", settings["image_size"], dims, whole=True)
    if settings["spacing"] is not None:
        _per_axis("spacing", settings["spacing"], dims, whole=False)
    try:
        check_options(dims, None, settings["window"], None)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"--window: {error}") from error
    for grid in settings["grids"]:
        for axis_grid, axis_size in zip(_per_axis("grids", grid, dims, whole=True), size, strict=True):
            if axis_size % axis_grid:
                raise SettingsError(
                    f"--grids {settings['grids']}: {axis_grid!r} does not divide --image_size {settings['image_size']} "
                    "into whole tiles."
                )
    if settings["balance"] not in BALANCE:
        raise SettingsError(f"--balance must be one of {', '.join(map(str, BALANCE))}, got {settings['balance']!r}.")
    for name in ("batch_size", "pretrain_batch_size"):
        if settings[name] < 2:
            raise SettingsError(f"--{name} must be at least 2: the cross-correlation and batch norm need a batch.")


def _per_axis(name: str, value: Any, dims: int, whole: bool) -> tuple[Any, ...]:
    """A positive number for each axis, given as one number for all or as a list."""
    numbers = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    if len(numbers) != dims or not all(
        isinstance(number, int if whole else (int, float)) and number > 0 for number in numbers
    ):
        raise SettingsError(
            f"--{name} must be a positive {'whole ' if whole else ''}number, or a list of {dims} (one for each "
            f"axis), got {value!r}."
        )
    return numbers


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _print_user_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """``sys.excepthook``: a mistake that this package found in the input is one line, anything else a traceback."""
    root = list(_causes(error))[-1]
    frames = traceback.extract_tb(root.__traceback__)
    # MONAI's own check of a value against a list of choices is as readable.
    ours = bool(frames) and (
        Path(frames[-1].filename).is_relative_to(Path(__file__).parent) or frames[-1].name == "look_up_option"
    )
    # A TypeError that nobody raised is a bug.
    raised = bool(frames) and (frames[-1].line or "").startswith("raise ")
    if ours and (isinstance(root, (ValueError, OSError, ImportError)) or (raised and isinstance(root, TypeError))):
        print(f"error: {root}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


@idist.one_rank_only()
def save_model(
    network: nn.Module,
    path: str | Path,
    class_names: Sequence[str],
    image_size: int | Sequence[int],
    temperature: float = 1.0,
    spacing: float | Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
) -> None:
    """Write the weights, and beside them as JSON what it takes to rebuild the network and to name its outputs.

    Args:
        network: what to save, maybe wrapped by :func:`~monai_fgssl.networks.distribute`.
        path: of the state dict, ``models/model.pt``; the JSON file has the same name with ``.json``.
        class_names: one for each score.
        image_size: that it was trained with, see :func:`monai_fgssl.data.read_image`.
        temperature: of the calibration, see :func:`monai_fgssl.metrics.fit_temperature`.
        spacing: that it was trained with, see :func:`monai_fgssl.data.read_image`.
        window: that it was trained with, see :func:`monai_fgssl.data.read_image`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    module = unwrap(network)
    record = {
        "network_def": module.definition(),
        "class_names": list(class_names),
        "image_size": image_size,
        "spacing": spacing,
        "window": window,
        "temperature": temperature,
    }
    with atomic_write(path) as temporary:
        torch.save(module.state_dict(), temporary)
    with atomic_write(path.with_suffix(".json")) as temporary:
        Path(temporary).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def loss_weights(
    balance: str | None, dataset: CachedImages, num_classes: int, device: str | torch.device
) -> Tensor | None:
    """Weights of the classes in the loss, see :func:`monai_fgssl.data.class_weights`.

    A class without a labelled image, which the loss never meets, has a weight of 1.

    Args:
        balance: ``"weights"`` or ``"sqrt_weights"``; anything else: none.
        dataset: the images of fine-tuning.
        num_classes: classes of the network.
        device: of the weights.

    Returns:
        ``(num_classes,)``, or None.
    """
    methods = {"weights": "balanced", "sqrt_weights": "square_root"}
    seen, labels = torch.unique(dataset.labels[dataset.labels >= 0], return_inverse=True)
    if balance not in methods or not len(seen):
        return None
    weights = torch.ones(num_classes)
    weights[seen] = class_weights(labels, len(seen), methods[balance])
    return weights.to(device)


def calibrate(predictions: PredictionCollector, others: PredictionCollector) -> float:
    """Fit a temperature to predictions on the validation part, tell it in a line, and apply it to others.

    Fewer than :data:`MIN_CALIBRATION_IMAGES` leave probabilities as they are: a handful of images that are all right
    or all wrong would turn every probability into a certainty or a guess.

    Returns:
        The temperature.
    """
    if len(predictions.labels) < MIN_CALIBRATION_IMAGES:
        if idist.get_rank() == 0:
            print(
                f"probabilities are not calibrated: that takes {MIN_CALIBRATION_IMAGES} validation images, there are "
                f"{len(predictions.labels)}",
                flush=True,
            )
        return 1.0
    temperature = fit_temperature(predictions.logits, predictions.labels)
    before, after = (
        expected_calibration_error((predictions.logits / t).softmax(1), predictions.labels) for t in (1.0, temperature)
    )
    if idist.get_rank() == 0:
        print(f"calibration error {before:.3f}, with temperature {temperature:.2f} {after:.3f}", flush=True)
    others.temperature = temperature
    return temperature


def read_record(bundle_root: str | Path, model_path: str | Path | None = None) -> dict[str, Any]:
    """What :func:`save_model` wrote of a trained model beside its weights; before any training the defaults.

    Args:
        bundle_root: the bundle's folder.
        model_path: of the weights, or of the model that was exported beside them; where there is no JSON file of the
            same name, and by default, the bundle's own model is meant.
    """
    root = Path(bundle_root)
    own = root / "models" / "model.json"
    for record in (own if model_path is None else Path(model_path).with_suffix(".json"), own):
        if record.is_file():
            # These are younger than the first models.
            defaults = {"spacing": None, "window": None, "temperature": 1.0}
            content = defaults | json.loads(record.read_text(encoding="utf-8"))
            return content | {"network_def": with_new_names(content["network_def"])}
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    parser = ConfigParser(ConfigParser.load_config_file(str(root / "configs" / "train.json")))
    parser["bundle_root"] = str(root)
    parser["class_names"] = [channels[key] for key in sorted(channels, key=int)]
    definition = parser.get_parsed_content("network_def", instantiate=True).definition()
    return {
        "network_def": definition,
        "class_names": parser["class_names"],
        **{name: parser.get_parsed_content(name) for name in ("image_size", "spacing", "window")},
        "temperature": 1.0,
    }


def describe_model(bundle_root: str | Path, model_path: str | Path) -> ModelDescription:
    """What a DICOM report says of the model: name and version from the metadata, and the checksum of the weights."""
    root = Path(bundle_root)
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    checksum = hashlib.sha256(Path(model_path).read_bytes()).hexdigest()
    record = read_record(root, model_path)
    geometry = [f"{name}={record[name]}" for name in ("image_size", "spacing", "window") if record[name] is not None]
    parameters = (*geometry, f"temperature={record['temperature']:.6g}")
    return ModelDescription(metadata["name"][:64], metadata["version"], "monai-fgssl", checksum, parameters)


def make_network(bundle_root: str | Path, model_path: str | Path | None = None) -> nn.Module:
    """The network that a model belongs to, without its weights; arguments as those of :func:`read_record`."""
    parser = ConfigParser({"network_def": read_record(bundle_root, model_path)["network_def"]})
    return parser.get_parsed_content("network_def")


def memory_format(network: nn.Module) -> torch.memory_format:
    """The order of the weights in memory that is the fastest for a network: for volumes on a CPU the plain one."""
    is_2d = next(parameter.ndim for parameter in network.parameters()) == 4
    return torch.channels_last if is_2d else torch.contiguous_format


def place_network(network_def: nn.Module, model_path: str | Path, device: str | torch.device) -> nn.Module:
    """The network on its device; or ONNX Runtime in its place, for a model that :func:`export_model` wrote.

    Raises:
        SettingsError: when the ONNX file is missing.
    """
    if not _is_onnx(model_path):
        return network_def.to(device, memory_format=memory_format(network_def))  # type: ignore[call-overload]
    if not Path(model_path).is_file():
        raise SettingsError(f"there is no model at {model_path}: export it first (configs/export_onnx.json).")
    return OnnxNet(model_path)


def export_model(network: StagedNet, path: str | Path, image_size: int | Sequence[int]) -> None:
    """Write a network as ONNX, see :func:`monai_fgssl.networks.export_onnx`."""
    size = ensure_tuple_rep(image_size, network.spatial_dims)
    with atomic_write(path) as temporary:
        export_onnx(network, temporary, (network.in_channels, *size))
    print(f"written: {path}")


def _is_onnx(model_path: str | Path) -> bool:
    return Path(model_path).suffix == ".onnx"


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a state dict strictly, plain or as ``monai.handlers.CheckpointSaver`` may write it, under ``model``.

    An ONNX model, which has its weights, is left as it is.

    Raises:
        SettingsError: when the file is missing or belongs to another network.
    """
    if not isinstance(network, OnnxNet):
        _load_state(network, path, _read_state(path))


def load_pretrained(network: nn.Module, path: str | Path) -> None:
    """Load what pre-training learnt, which may have known other classes or none: see :func:`load_weights`.

    Classifiers, which pre-training does not touch, are loaded only if they have the shapes of the network's own.
    """
    own = unwrap(network).state_dict()
    state = _read_state(path)
    classifiers = {name for name in own if ".classifier." in name and name in state}
    if any(state[name].shape != own[name].shape for name in classifiers):
        state |= {name: own[name] for name in classifiers}
    _load_state(network, path, state)


def _read_state(path: str | Path) -> dict[str, Tensor]:
    # The process that writes the file may be behind this one.
    idist.barrier()
    if not Path(path).is_file():
        raise SettingsError(f"there are no weights at {path}: train first, or name the right file.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("model", state)


def _load_state(network: nn.Module, path: str | Path, state: dict[str, Tensor]) -> None:
    try:
        unwrap(network).load_state_dict(state)
    except RuntimeError as error:
        raise SettingsError(f"{path} belongs to another network. {error}") from error


def start_process() -> str:
    """Join the process group that ``torchrun`` describes, and return the device of this process."""
    # Not torch's own function: Ignite then also learns when the group ends, by idist.finalize().
    # The hour is what one process may work while the others wait: the first one decodes all images. One that dies is
    # noticed at once, by its connections or by torchrun; this is for one that hangs, or whose machine is lost.
    idist.initialize("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(hours=1))
    return str(idist.device())


def run_from_random_weights(bundle_root: str, settings: Mapping[str, Any]) -> PredictionCollector:
    """Repeat a run without its pre-training, everything else as it was, in ``output_dir/random_weights``.

    Args:
        bundle_root: the bundle's folder.
        settings: values of the run's top-level ids. Nested ids are taken over from the command line; from Python they
            are not known here.

    Returns:
        The predictions on the test part.
    """
    output = Path(settings["output_dir"]) / "random_weights"
    changes = {
        "pretrained": None,
        "pretrain_epochs": 0,
        "freeze_backbone": 0,
        "compare": False,
        "output_dir": str(output),
        "model_path": str(output / "model.pt"),
    }
    overrides = command_line_overrides() if in_bundle_command() else {}
    nested = {name: DefaultParseValue(value) for name, value in overrides.items() if "#" in name}
    print("\nThe same network fine-tuned from random weights, for comparison:")
    workflow = ConfigWorkflow(
        config_file=str(Path(bundle_root) / "configs" / "train.json"),
        logging_file=False,
        **{**settings, **nested, **changes},
    )
    workflow.initialize()
    workflow.run()
    return workflow.parser.get_parsed_content("test#predictions")
