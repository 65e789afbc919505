# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Trained models on disk: the weights, and a record that says how to rebuild the network and names its classes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any, NoReturn

import torch
from ignite import distributed as idist
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from monai_fgssl.data.io.geometry import ImageGeometry
from monai_fgssl.metrics import DecisionRule, FeatureDistances, FindingSets, LogitAdjustment, PredictionSets, Thresholds
from monai_fgssl.networks import (
    EnsembleNet,
    HierarchicalNet,
    MeanEnsembleNet,
    OnnxNet,
    PlainNet,
    PooledNet,
    export_onnx,
    load_plain_state,
    plain_state,
    unwrap,
)
from monai_fgssl.networks.base import StagedNet
from monai_fgssl.report.dicom.header import ModelDescription
from monai_fgssl.tasks import MULTICLASS, MULTILABEL, TASKS
from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.files import atomic_write, from_json, to_json
from monai_fgssl.utils.run_log import tell
from monai_fgssl.utils.tensors import (
    hash_of_weights,
    is_safetensors,
    read_metadata,
    read_state_dict,
    save_safetensors,
    save_tensors,
)

from .locate import config_path
from .settings import with_new_names

__all__ = [
    "GEOMETRY",
    "check_start",
    "class_number",
    "compare_geometry",
    "decision_rule",
    "describe_model",
    "export_model",
    "feature_distances",
    "load_pretrained",
    "load_weights",
    "make_network",
    "own_model",
    "prediction_sets",
    "read_record",
    "save_model",
]

NETWORKS = {
    f"monai_fgssl.networks.{kind.__name__}": kind
    for kind in (EnsembleNet, HierarchicalNet, MeanEnsembleNet, PlainNet, PooledNet)
}
"""Networks that a record may name. A model may come from anybody, so its record must not choose code to run."""
MEAN_ENSEMBLE = f"monai_fgssl.networks.{MeanEnsembleNet.__name__}"
"""Network of several folds or seeds."""
GEOMETRY = ("image_size", "spacing", "window", "frame", "channel", "time")
"""Entries of a record about the images. The limit of pixels is not among them: each machine sets its own."""
ARGUMENTS = {
    "backbone": str,
    "stem": str,
    "member": str,
    **dict.fromkeys(("linear_projection", "independent"), bool),
    **dict.fromkeys(("spatial_dims", "in_channels", "num_classes", "width", "embedding_dim", "num_members"), int),
}
"""Types of a network's arguments in a record."""
NUMBERS = {"stages": 0, "image_size": 1}
"""Arguments that are a whole number or a list of whole numbers, and the smallest allowed number."""
LARGEST = {
    "spatial_dims": 3,
    "in_channels": 1024,
    "num_classes": 100_000,
    "width": 65_536,
    "embedding_dim": 65_536,
    "num_members": 100,
}
"""Largest values of arguments: larger values would take all of the memory."""
RECORD = "monai_fgssl"
"""Entry of a safetensors file's metadata that holds the record, as JSON."""
SAFETENSORS = ".safetensors"
WEIGHTS_HASH = "weights_sha256"
"""Entry of a record in a JSON file: see :func:`~monai_fgssl.utils.tensors.hash_of_weights`."""

MAX_PARAMETERS = 2**31
"""Largest number of parameters of a network that a record describes: a short record must not take all the memory."""


@idist.one_rank_only()
def save_model(
    network: nn.Module,
    path: str | Path,
    class_names: Sequence[str],
    geometry: ImageGeometry | int | Sequence[int],
    temperature: float = 1.0,
    spacing: float | Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    prediction_sets: PredictionSets | FindingSets | None = None,
    adjustment: DecisionRule | None = None,
    task: str = MULTICLASS,
    distances: FeatureDistances | None = None,
) -> None:
    """Write the weights, and a record that says how to rebuild the network and names its classes.

    If the path ends in ``.safetensors``, one file holds everything. Otherwise ``torch.save`` writes the state dict, and
    a JSON file with the same name holds the record. The record has the hash of the weights. When a model is loaded,
    the hash shows whether a file is damaged or belongs to other weights.

    Args:
        network: network to save, which may be wrapped by ``DistributedDataParallel``.
        path: file to write, such as ``models/model.safetensors`` or ``models/model.pt``.
        class_names: names of the classes, one for each score.
        geometry: geometry that the network was trained with, or only the image size.
        temperature: temperature of the calibration, see :func:`monai_fgssl.metrics.fit_temperature`.
        spacing: spacing, if ``geometry`` is only the image size; see :class:`~monai_fgssl.data.ImageGeometry`.
        window: window, if ``geometry`` is only the image size; see :class:`~monai_fgssl.data.ImageGeometry`.
        prediction_sets: rule that makes sets of possible classes; None: the model has no rule.
        adjustment: rule that decides for a class; None: the likeliest class.
        task: name of the task that the network was trained for, see :mod:`monai_fgssl.tasks`.
        distances: rule that tells images that are unlike the training images; None: the model has no rule.
    """
    if isinstance(geometry, ImageGeometry):
        images = {name: getattr(geometry, name) for name in GEOMETRY}
    else:
        images = dict.fromkeys(GEOMETRY) | {"image_size": geometry, "spacing": spacing, "window": window}
    path = Path(path)
    module = unwrap(network)
    state = plain_state(module)
    record = {
        "network_def": module.definition(),
        "class_names": list(class_names),
        "task": task,
        **images,
        "temperature": temperature,
        "prediction_sets": None if prediction_sets is None else prediction_sets.to_record(),
        "feature_distances": None if distances is None else distances.to_record(),
        "logit_adjustment": adjustment.to_record() if isinstance(adjustment, LogitAdjustment) else None,
        "thresholds": adjustment.to_record() if isinstance(adjustment, Thresholds) else None,
    }
    if path.suffix == SAFETENSORS:
        save_safetensors(state, path, {RECORD: to_json(record)})
        return
    record[WEIGHTS_HASH] = hash_of_weights(state)
    with atomic_write(path.with_suffix(".json"), durable=True) as temporary:
        temporary.write_text(to_json(record, indent=2) + "\n", encoding="utf-8")
        # Within the block: if either file can't be written, the former model is not changed.
        save_tensors(state, path, durable=True)


def own_model(bundle_root: str | Path) -> str:
    """File of the model in a bundle: ``models/model.pt``, or ``models/model.safetensors`` if only that exists."""
    model = Path(bundle_root) / "models" / "model.pt"
    other = model.with_suffix(SAFETENSORS)
    return str(other if other.is_file() and not model.is_file() else model)


def read_record(bundle_root: str | Path, model_path: str | Path | None = None) -> dict[str, Any]:
    """Read the record that :func:`save_model` wrote. Before any training, the bundle's record has the defaults.

    Args:
        bundle_root: the bundle's folder.
        model_path: safetensors file with the record in it, file of weights, or ONNX model that was exported from one of
            these into the same folder. If no file of this name has a record, and by default, the record of the bundle's
            own model is read.

    Raises:
        SettingsError: when the record of a model is missing or damaged, or has an entry that :func:`save_model` never
            writes.
    """
    root = Path(bundle_root)
    model = Path(own_model(root) if model_path is None else model_path)
    # Models of the first releases lack these entries.
    rules: dict[str, Any] = dict.fromkeys(RULES) | {"temperature": 1.0, "task": MULTICLASS}
    defaults = dict.fromkeys(GEOMETRY) | rules
    if model.is_file() and is_safetensors(model):
        return defaults | _record_in(model)
    for file in (model, Path(own_model(root))):
        if file.with_suffix(".json").is_file():
            return defaults | _read_json(file.with_suffix(".json"))
        if file.with_suffix(SAFETENSORS).is_file():
            return defaults | _record_in(file.with_suffix(SAFETENSORS))
    if model.is_file():
        raise SettingsError(
            f"{model.with_suffix('.json')} is missing: it describes the network of {model} and names its classes. "
            "Copy it from where the model comes from."
        )
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    parser = ConfigParser(ConfigParser.load_config_file(config_path(root, "train")))
    parser["bundle_root"] = str(root)
    parser["class_names"] = [channels[key] for key in sorted(channels, key=int)]
    definition = parser.get_parsed_content("network_def", instantiate=True).definition()
    return {
        "network_def": definition,
        "class_names": parser["class_names"],
        # An old copy of the bundle may lack some of these entries.
        **{name: parser.get_parsed_content(name) if name in parser else None for name in GEOMETRY},
        **rules,
    }


def compare_geometry(record: Mapping[str, Any], geometry: ImageGeometry) -> None:
    """Print a note if images are prepared in another way than those of the model's training.

    Args:
        record: record of :func:`read_record`; empty: there is no model, so nothing is compared.
        geometry: geometry of the images that the model gets.

    Raises:
        SettingsError: when the number of dimensions is not that of the model, or pictures have a spacing.
    """
    if record and (dims := record["network_def"].get("spatial_dims", 2)) != geometry.spatial_dims:
        raise SettingsError(f"--spatial_dims must be {dims}, as of the model's images, got {geometry.spatial_dims}.")
    if geometry.spatial_dims == 2 and geometry.spacing is not None:
        raise SettingsError(f"--spacing {geometry.spacing} is for volumes, and these are pictures: leave it out.")
    for name in GEOMETRY if record else ():
        own, now = (
            _comparable(name, value, geometry.spatial_dims) for value in (record[name], getattr(geometry, name))
        )
        if own != now:
            tell(
                f"note: --{name} {getattr(geometry, name)}: the model was trained, calibrated and tested with "
                f"{'none' if record[name] is None else record[name]}"
            )


def _comparable(name: str, value: Any, dims: int) -> Any:
    """One form for one number and a list of it, and for lists and tuples."""
    if name in ("image_size", "spacing") and value is not None:
        return tuple(map(float, ensure_tuple_rep(value, dims)))
    return tuple(value) if isinstance(value, list) else value


def prediction_sets(record: Mapping[str, Any]) -> PredictionSets | FindingSets | None:
    """Rule of possible classes, or of possible answers about findings, from the record of a model; None: it has none.

    Args:
        record: record of :func:`read_record`.
    """
    sets = record["prediction_sets"]
    if sets is None:
        return None
    kind = FindingSets if record["task"] == MULTILABEL else PredictionSets
    return kind.from_record(sets, len(record["class_names"]))


def decision_rule(record: Mapping[str, Any]) -> DecisionRule | None:
    """Rule that decides for a class or for findings, from the record of a model; None: the likeliest class.

    Args:
        record: record of :func:`read_record`.
    """
    num_classes = len(record["class_names"])
    if record["task"] == MULTILABEL:
        return Thresholds.from_record(record["thresholds"], num_classes)
    rule = record["logit_adjustment"]
    return None if rule is None else LogitAdjustment.from_record(rule, num_classes)


def class_number(name: str | None, class_names: Sequence[str]) -> int | None:
    """Number of the class that heat maps explain; None: none is chosen.

    Raises:
        SettingsError: when the model has no such class.
    """
    if name is None:
        return None
    if str(name) not in class_names:
        raise SettingsError(f"--heat_map_class must be one of {', '.join(class_names)}, got {name!r}.")
    return list(class_names).index(str(name))


def feature_distances(record: Mapping[str, Any]) -> FeatureDistances | None:
    """Rule that tells images that are unlike the training images, from the record of a model; None: it has no rule.

    Args:
        record: record of :func:`read_record`.
    """
    rule = record["feature_distances"]
    return None if rule is None else FeatureDistances.from_record(rule)


RULES = ("prediction_sets", "logit_adjustment", "thresholds", "feature_distances")
"""Entries of a record that hold a rule; None: the model has no such rule."""


def _read_json(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except ValueError as error:
        raise SettingsError(f"{file}: is damaged ({error}). Take the file that belongs to the model.") from error
    return _checked(file, text)


def _record_in(file: Path) -> dict[str, Any]:
    """Read the record in a safetensors file."""
    text = read_metadata(file).get(RECORD)
    if text is None:
        raise SettingsError(
            f"{file} holds only weights, and nothing says which classes they are for: take a file that save_model "
            "wrote."
        )
    return _checked(file, text)


def _checked(file: Path, text: str) -> dict[str, Any]:
    """Read a record, and check every value that is used: the record may come from anybody."""

    def fail(what: str) -> NoReturn:
        raise SettingsError(f"{file}: {what}. Take the file that belongs to the model, or train again.")

    try:
        record = from_json(text)
    except (ValueError, RecursionError) as error:
        fail(f"is damaged ({error})")
    if not isinstance(record, dict):
        fail("holds no record of a model")
    for name in ("network_def", "class_names", "image_size"):
        if name not in record:
            fail(f"has no {name}")
    names = record["class_names"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        fail("class_names is not a list of names")
    definition = record["network_def"]
    if not isinstance(definition, dict) or not isinstance(definition.get("_target_"), str):
        fail("network_def names no network")
    definition = with_new_names(definition)
    for name, value in definition.items():
        if definition["_target_"] not in NETWORKS:
            # The class of the network decides about its arguments.
            valid = _is_plain(value)
        elif name in NUMBERS:
            numbers = value if isinstance(value, list) else [value]
            valid = all(type(number) is int and number >= NUMBERS[name] for number in numbers)
        elif name in ("mean", "std"):
            values = value if isinstance(value, list) else [value]
            valid = all(type(one) in (int, float) and math.isfinite(one) for one in values)
            valid = valid and bool(values) and (name == "mean" or all(one > 0 for one in values))
        elif name in ARGUMENTS:
            # In Python a bool is an int too.
            valid = type(value) is ARGUMENTS[name] and _is_plain(value)
            valid = valid and (name not in LARGEST or 1 <= value <= LARGEST[name])
        else:
            valid = name == "_target_"
        if not valid:
            fail(f"network_def has {name} {value!r}, which is not an argument of a network")
    dims = definition.get("spatial_dims", 2)
    for name in ("image_size", "spacing"):
        value, kind = record.get(name), int if name == "image_size" else float
        one_each = isinstance(value, list) and len(value) == dims and _are_numbers(value, kind)
        if not (_is_number(value, kind) or one_each or (name == "spacing" and value is None)):
            fail(f"{name} {value!r} is neither a positive number nor a list of {dims}")
    try:
        ImageGeometry.check(dims, *(record.get(name) for name in ("window", "frame", "channel", "time")))
    except (TypeError, ValueError) as error:
        fail(str(error).rstrip("."))
    if not _is_number(record.get("temperature", 1.0), float):
        fail(f"temperature {record['temperature']!r} is not a positive number")
    if record.get("task", MULTICLASS) not in TASKS:
        fail(f"task {record['task']!r} is none of {', '.join(TASKS)}")
    rules = dict.fromkeys(RULES) | {"task": MULTICLASS} | record
    for parse in (prediction_sets, decision_rule, feature_distances):
        try:
            parse(rules)
        except ValueError as error:
            fail(str(error))
    if definition["_target_"] in NETWORKS and definition.get("num_classes") not in (None, max(1, len(names))):
        fail(f"class_names has {len(names)} names for a network with {definition['num_classes']} classes")
    return record | {"network_def": definition}


def _is_plain(value: Any) -> bool:
    """True for a plain value or a list of plain values: none that a config would evaluate."""
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    return value is None or (isinstance(value, (bool, int, float, str)) and not str(value).startswith(("$", "@", "%")))


def _is_number(value: Any, kind: type) -> bool:
    """True for a finite positive number (``int``: a whole one)."""
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return math.isfinite(value) and value > 0


def _are_numbers(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(_is_number(value, kind) for value in values)


def make_network(
    bundle_root: str | Path,
    model_path: str | Path | None = None,
    trusted_networks: str | Sequence[str] | None = None,
    **changes: Any,
) -> nn.Module:
    """Build the network that a model belongs to, without its weights.

    Args:
        bundle_root: see :func:`read_record`.
        model_path: see :func:`read_record`.
        trusted_networks: classes of your own that a record may name besides those of this package, such as
            ``"my_parts.SmallNet"``. Building one runs its code.
        changes: arguments of the network that replace those of the record, such as ``num_classes``.

    Raises:
        SettingsError: when the record names another class, or arguments that make no network; see also
            :func:`read_record`.
    """
    record = read_record(bundle_root, model_path)
    definition = record["network_def"] | changes
    target = definition.pop("_target_")
    trusted = [trusted_networks] if isinstance(trusted_networks, str) else list(trusted_networks or ())
    source = model_path or bundle_root
    if target in NETWORKS:
        try:
            with torch.device("meta"):
                size = sum(value.numel() for value in NETWORKS[target](**definition).parameters())
            if size > MAX_PARAMETERS:
                raise ValueError(f"{size} parameters, but at most {MAX_PARAMETERS} are allowed")
            network = NETWORKS[target](**definition)
            rule = feature_distances(record)
            if rule is not None and list(rule.widths) != list(network.backbone.channels):
                raise ValueError(f"feature_distances are of stages with {rule.widths} features")
            return network
        except Exception as error:
            # A wrong size or an unknown backbone may raise any kind of error.
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise SettingsError(
                f"{source}: the network_def of its record makes no network ({reason}). Take the file that belongs to "
                "the model, or train again."
            ) from error
    if target not in trusted:
        raise SettingsError(
            f"{source}: the model's network is {target[:100]!r}, not one of {', '.join(NETWORKS)}. If you trust its "
            "author, allow its code to run with --trusted_networks and this name."
        )
    own: Any = locate(target)
    if own is None:
        raise SettingsError(f"{source}: the model's network {target} can't be imported: is its file on PYTHONPATH?")
    return own(**definition)


def describe_model(bundle_root: str | Path, model_path: str | Path) -> ModelDescription:
    """Describe the model for a DICOM report: name and version from the metadata, and the checksum of the weights."""
    root = Path(bundle_root)
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    checksum = hashlib.sha256(Path(model_path).read_bytes()).hexdigest()
    record = read_record(root, model_path)
    geometry = [f"{name}={record[name]}" for name in GEOMETRY if record[name] is not None]
    rule = decision_rule(record)
    decision = [f"decision=balanced, strength={rule.strength:.6g}"] if isinstance(rule, LogitAdjustment) else []
    if isinstance(rule, Thresholds):
        decision = [f"thresholds={', '.join(f'{value:.6g}' for value in rule.values)}"]
    parameters = (*geometry, f"temperature={record['temperature']:.6g}", *decision)
    return ModelDescription(metadata["name"][:64], metadata["version"], "monai-fgssl", checksum, parameters)


def export_model(network: StagedNet, path: str | Path, image_size: int | Sequence[int]) -> None:
    """Write a network as ONNX, see :func:`monai_fgssl.networks.export_onnx`."""
    size = ensure_tuple_rep(image_size, network.spatial_dims)
    with atomic_write(path) as temporary:
        export_onnx(network, temporary, (network.in_channels, *size))
    print(f"written: {path}")


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a model of :func:`save_model`, or a state dict, plain or under ``model`` as MONAI's handlers may write it.

    An ONNX model already has its weights, so nothing is loaded.

    Raises:
        SettingsError: when the file is missing, damaged, or belongs to another network or to another JSON file.
    """
    if isinstance(network, OnnxNet):
        return
    state = _read_state(path)
    _load_state(network, path, state)
    record = Path(path).with_suffix(".json")
    recorded = _read_json(record).get(WEIGHTS_HASH) if record.is_file() and record != Path(path) else None
    if recorded is not None and not is_safetensors(path) and recorded != hash_of_weights(state):
        raise SettingsError(
            f"{record} belongs to other weights than {path}, or one of the two is damaged: take the two files that "
            "were written together. If you have replaced the weights on purpose, remove the line weights_sha256."
        )


def check_start(path: str | Path | None, settings: Mapping[str, Any] | None = None) -> None:
    """Check the start of a training before images are read.

    Args:
        path: setting ``pretrained`` of the run.
        settings: values by the names of the settings; None: only the file is checked.

    Raises:
        SettingsError: when the file is one model of several folds or seeds, by its record; or when further fine-tunings
            start from a file that the run overwrites before they begin.
    """
    if settings is not None:
        _check_overwritten_start(settings)
    if path is None or not Path(path).is_file():
        return
    file = Path(path)
    try:
        record = file.with_suffix(".json")
        text = read_metadata(file).get(RECORD, "") if is_safetensors(file) else record.read_text(encoding="utf-8")
        target = from_json(text)["network_def"]["_target_"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        # A pre-training has no record, and what is wrong with a file is told when its weights are read.
        return
    if target == MEAN_ENSEMBLE:
        _refuse_as_start(path)


def _check_overwritten_start(settings: Mapping[str, Any]) -> None:
    """Refuse a file of weights that the run overwrites, if it has fine-tunings that read the file after that.

    A training in place reads its start before it writes, so one fine-tuning is right.
    """
    compare, several = str(settings["compare"]).lower() == "true", int(settings["seeds"]) > 1
    output = Path(settings["output_dir"])
    written = [Path(settings["model_path"]), output / "best.pt"]
    if settings["pretrain_epochs"]:
        written.append(output / "pretrained.pt")
    read_again = {
        # After a pre-training they start from what it has written.
        "pretrained": several and not settings["pretrain_epochs"],
        "weights": compare or several,
    }
    for name, is_read in read_again.items():
        start = settings[name]
        if is_read and isinstance(start, str) and Path(start).resolve() in [file.resolve() for file in written]:
            raise SettingsError(
                f"--{name} {start} is a file that this run overwrites, and its further fine-tunings (--seeds, "
                "--compare) would start from the new one: choose another --output_dir and --model_path, or name a copy "
                "of the file."
            )


def _refuse_as_start(path: str | Path) -> NoReturn:
    raise SettingsError(
        f"{path} is one model of several folds or seeds, and a training starts from a single network: name the "
        "model.pt of one of them, such as that of fold_0, or its pretrained.pt."
    )


def load_pretrained(network: nn.Module, path: str | Path, classifiers: bool = True) -> None:
    """Load the weights of a pre-training, which may have had other classes or no classes; see :func:`load_weights`.

    Pre-training does not change the classifiers, so they are loaded only if their shapes fit. Between a
    :class:`~monai_fgssl.networks.PooledNet` and another network, in either direction, only the backbone is loaded. Of
    an :class:`~monai_fgssl.networks.EnsembleNet` the fine-tuned member is loaded.

    Args:
        network: network to load into.
        path: file of the state dict.
        classifiers: False keeps the network's own classifiers in any case.

    Raises:
        SettingsError: as :func:`load_weights` does, and for a :class:`~monai_fgssl.networks.MeanEnsembleNet`.
    """
    own = plain_state(unwrap(network))
    state = _read_state(path)
    if "temperatures" in state:
        _refuse_as_start(path)
    if ("feature_mean" in state) != ("feature_mean" in own):
        rest = {name: value for name, value in own.items() if not _is_of_backbone(name)}
        state = {name: value for name, value in state.items() if _is_of_backbone(name)} | rest
        tell(f"note: {path} belongs to a network with other classifiers: only its backbone is loaded")
    if "member_weights" not in own:
        # The probe of an ensemble is solved again.
        state = {name: value for name, value in state.items() if not _is_of_ensemble(name)}
    found = {name for name in own if ".classifier." in name and name in state}
    if not classifiers or any(state[name].shape != own[name].shape for name in found):
        state |= {name: own[name] for name in found}
    _load_state(network, path, state)


def _is_of_backbone(name: str) -> bool:
    """True for the name of a value that all networks on a backbone share."""
    return name.startswith("backbone.") or name in ("mean", "std")


def _is_of_ensemble(name: str) -> bool:
    """True for the name of a value that an ensemble has beside its fine-tuned member."""
    return name.startswith("probe.") or name == "member_weights"


def _read_state(path: str | Path) -> dict[str, Tensor]:
    # The process that writes the file may be slower than this one.
    idist.barrier()
    return read_state_dict(path)


def _load_state(network: nn.Module, path: str | Path, state: dict[str, Tensor]) -> None:
    try:
        load_plain_state(unwrap(network), state)
    except RuntimeError as error:
        raise SettingsError(f"{path} belongs to another network. {error}") from error
