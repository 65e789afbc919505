# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The newest trained model of a bundle, kept in memory."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from torch import Tensor

from monai_fgssl.bundle import (
    SettingsError,
    decision_rule,
    describe_model,
    feature_distances,
    load_weights,
    make_network,
    own_model,
    prediction_sets,
    read_record,
    save_model,
)
from monai_fgssl.bundle.model_file import GEOMETRY
from monai_fgssl.data import DataError, ImageGeometry, ReadImaged
from monai_fgssl.data.io.decoder_pool import DecoderPool
from monai_fgssl.networks import HierarchicalNet, MeanEnsembleNet, PooledNet
from monai_fgssl.report import stage_heat_maps
from monai_fgssl.report.dicom.structured_report import write_sr
from monai_fgssl.report.dicom.writer import as_prediction
from monai_fgssl.report.heat_maps import classes_to_explain, draw_heat_maps
from monai_fgssl.report.results import describe
from monai_fgssl.tasks import TASKS
from monai_fgssl.utils.tensors import is_safetensors

__all__ = ["LabelModel", "ScoredBatch", "ranked", "read_model", "without_folder"]

logger = logging.getLogger(__name__)

SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class ScoredBatch:
    """Outputs of the network for a batch, on the CPU.

    Attributes:
        stage_logits: ``(B, K + 1, num_classes)``.
        features: ``(B, D)``, of the last step.
    """

    stage_logits: Tensor
    features: Tensor


class LabelModel:
    """The model in a bundle's folder. It is loaded when first needed, and again when its files change.

    Safe for several threads.

    Args:
        bundle_root: the bundle's folder.
        device: device of the network; None: a GPU if there is one.
        max_pixels: largest number of pixels of an image, see :class:`~monai_fgssl.data.ImageGeometry`.
        pool: processes that decode the images; None: this process does.
        several: True: the model must find several classes in one image; False: it must give each image one.
    """

    def __init__(
        self,
        bundle_root: str | Path,
        device: str | None = None,
        max_pixels: int | None = None,
        pool: DecoderPool | None = None,
        several: bool = False,
    ) -> None:
        self.bundle_root = Path(bundle_root)
        self.several = several
        self.pool = pool
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.max_pixels = max_pixels
        # Held while the network is used, since heat maps put hooks into it.
        self._lock = threading.RLock()
        self._loaded: tuple[str, HierarchicalNet | MeanEnsembleNet | PooledNet, dict[str, Any]] | None = None
        # Version of the files that can't be used, and the reason.
        self._refused = ("", "")

    @property
    def path(self) -> Path:
        """File of the model, see :func:`~monai_fgssl.bundle.own_model`."""
        return Path(own_model(self.bundle_root))

    @property
    def version(self) -> str:
        """Text that changes with the model's files; empty before there are any."""
        weights = self.path
        try:
            # The record is written after the weights.
            record = weights if weights.suffix == SAFETENSORS else weights.with_suffix(".json")
            stats = [path.stat() for path in (weights, record)]
        except FileNotFoundError:
            return ""
        return "-".join(f"{stat.st_mtime_ns:x}.{stat.st_size:x}" for stat in stats)

    @property
    def record(self) -> dict[str, Any] | None:
        """The ``model.json`` of the model in use, see :func:`~monai_fgssl.bundle.read_record`; None: there is none."""
        try:
            return self.load()[1]
        except SettingsError:
            return None

    @property
    def problem(self) -> str | None:
        """Reason why the model's files can't be used; None if they can, or if there are none."""
        with suppress(SettingsError):
            self.load()
        version, reason = self._refused
        return reason if version and version == self.version else None

    @property
    def num_stages(self) -> int:
        """Number of heat maps for an image; 0 while there is no model."""
        record = self.record
        if record is None:
            return 0
        stages = record["network_def"]["stages"]
        return stages if isinstance(stages, int) else len(stages)

    def load(self) -> tuple[HierarchicalNet | MeanEnsembleNet | PooledNet, dict[str, Any]]:
        """Return the network and its record. If the newest files can't be used, keep the model loaded before.

        Raises:
            SettingsError: when nothing has been trained yet, or the only model can't be used.
        """
        version = self.version
        if not version:
            raise SettingsError("there is no model yet: label some images of each class, then train.")
        # Read without the lock, which a batch may hold for long.
        loaded, refused = self._loaded, self._refused
        if loaded is not None and version in (loaded[0], refused[0]):
            return loaded[1:]
        if version == refused[0]:
            raise SettingsError(refused[1])
        with self._lock:
            try:
                network, record = read_model(self.bundle_root, self.path, several=self.several)
            except SettingsError as error:
                reason = f"the model can't be used: {without_folder(error, self.path)}"
                # If the files have changed meanwhile, a training is just writing them: that is no error.
                if version == self.version:
                    self._refused = version, reason
                    logger.error(reason)
                if self._loaded is None:
                    raise SettingsError(reason) from error
                return self._loaded[1:]
            self._loaded = version, network.to(self.device).eval(), record
            return self._loaded[1:]

    def replace(self, weights: Path) -> None:
        """Replace the model by one that somebody sent, after checking it.

        Args:
            weights: a state dict as from ``GET /model/fgssl``, which keeps classes and sizes, or a safetensors file of
                :func:`~monai_fgssl.bundle.save_model`, which brings its own.

        Raises:
            SettingsError: when there is no record of a model yet, or the weights do not belong to it.
        """
        has_record = is_safetensors(weights)
        if not has_record and not self.version:
            raise SettingsError(
                "there is no model yet, so the classes of these weights are not known: send a model.safetensors, which "
                "names them, or train first."
            )
        network, record = read_model(self.bundle_root, weights, weights if has_record else None, several=self.several)
        # Nobody in this process reads the weights of one model with the record of the other.
        with self._lock:
            save_model(
                network,
                self.path,
                record["class_names"],
                self._geometry(record),
                record["temperature"],
                prediction_sets=prediction_sets(record),
                adjustment=decision_rule(record),
                task=record["task"],
                # Distances are those in the features of certain weights.
                distances=feature_distances(record) if has_record else None,
            )

    def read(self, path: str | Path, headers: list[Dataset] | None = None) -> Tensor:
        """Read an image as the model sees it: float ``(1, C, *spatial)`` in [0, 1].

        Args:
            path: file, or folder of a DICOM series.
            headers: see :func:`~monai_fgssl.data.read_medical_image`.

        Raises:
            DataError: when it can't be read.
        """
        read = self.geometry().read if self.pool is None else partial(self.pool.read, self.geometry())
        image = read(path, headers=headers)
        return image[None].to(self.device).float() / 255

    def geometry(self) -> ImageGeometry:
        """Size, spacing and window of the images that the model sees."""
        return self._geometry(self.load()[1])

    def _geometry(self, record: Mapping[str, Any]) -> ImageGeometry:
        return ImageGeometry(
            spatial_dims=record["network_def"]["spatial_dims"],
            max_pixels=self.max_pixels,
            **{name: record[name] for name in GEOMETRY},
        )

    def reader(self) -> ReadImaged:
        """Make a transform that reads the key ``"image"`` as :meth:`read` does."""
        return ReadImaged("image", self.geometry(), pool=self.pool)

    def predict(self, path: str | Path, headers: list[Dataset] | None = None) -> dict[str, Any]:
        """Predict one image; see :func:`~monai_fgssl.report.results.describe` and :meth:`read`."""
        with self._lock:
            network, record = self.load()
            image = self.read(path, headers)
            with torch.inference_mode():
                outputs = network.stage_logits_and_means(image)
        logits, means = (values.float().cpu() for values in outputs)
        (result,) = describe(
            logits,
            logits.sum(1)[:, None],
            record["class_names"],
            record["temperature"],
            prediction_sets(record),
            decision_rule(record),
            feature_distances(record),
            means,
            TASKS[record["task"]],
        )
        return result

    def write_report(self, headers: Sequence[Dataset], result: Mapping[str, Any], report: Path) -> None:
        """Write the result of :meth:`predict` for a DICOM file or series as a structured report.

        Args:
            headers: headers of the image, from :meth:`predict`.
            result: result of :meth:`predict`.
            report: file of the report to write; see :func:`~monai_fgssl.report.dicom.structured_report.write_sr`.

        Raises:
            DataError: when no report can refer to the image. The message continues a sentence about the image.
        """
        if not headers:
            raise DataError("is not a DICOM file, so it has no study that a report could belong to.")
        prediction = as_prediction(result, list(result["probabilities"]), decision_rule(self.load()[1]))
        frame = self.geometry().frame
        model = describe_model(self.bundle_root, self.path)
        write_sr(report, headers, prediction, model, frame=frame if isinstance(frame, int) else None)

    def draw_heat_maps(self, path: str | Path) -> NDArray[np.uint8]:
        """Draw the image and its heat maps; see :func:`~monai_fgssl.report.heat_maps.draw_heat_maps`."""
        with self._lock:
            network, record = self.load()
            image = self.read(path)
            with torch.inference_mode():
                logits = network.stage_logits(image).float().cpu().sum(1)
            task = TASKS[record["task"]]
            probabilities = task.probabilities(logits / record["temperature"])
            maps = stage_heat_maps(network, image, classes_to_explain(probabilities, decision_rule(record), task))
        return draw_heat_maps(image[0], maps[0])

    def heat_maps(self, path: str | Path, class_name: str) -> Tensor:
        """Compute heat maps ``(K, *spatial)`` of the evidence for a class.

        See :func:`~monai_fgssl.report.stage_heat_maps`.

        Raises:
            DataError: when the image can't be read.
            LookupError: when the model has no such class.
        """
        with self._lock:
            network, record = self.load()
            names = [name.lower() for name in record["class_names"]]
            if class_name.lower() not in names:
                raise LookupError(f"the model has no class {class_name[:100]!r}; it has: {', '.join(names)}.")
            maps = stage_heat_maps(network, self.read(path), [names.index(class_name.lower())])
        return maps[0].cpu()

    def score(self, images: Tensor) -> ScoredBatch:
        """Compute logits and features of a batch ``(B, C, *spatial)`` in [0, 1]."""
        with self._lock, torch.inference_mode():
            network, _ = self.load()
            images = images.to(self.device).float()
            return ScoredBatch(
                network.stage_logits(images).float().cpu(), network.stage_vectors(images)[:, -1].float().cpu()
            )


def read_model(
    bundle_root: Path, weights: Path, with_record: Path | None = None, several: bool | None = None
) -> tuple[HierarchicalNet | MeanEnsembleNet | PooledNet, dict[str, Any]]:
    """Load network and record of a bundle. The weights may come from anywhere, so they are checked.

    Args:
        bundle_root: the bundle's folder.
        weights: file with the weights of the network.
        with_record: file of the model whose record is used; None: the bundle's own.
        several: see :class:`LabelModel`; None: both kinds of models will do.

    Raises:
        SettingsError: when the record or the weights are damaged or do not belong together, or when weights are NaN or
            infinite.
    """
    finds_several = TASKS[read_record(bundle_root, with_record)["task"]].independent
    if several is not None and finds_several != several:
        raise SettingsError(
            "the model finds several classes in one image, and this server gives each image one: start it with --conf "
            "task multilabel, or train another model."
            if finds_several
            else "the model gives each image one class, and this server several findings: start it without --conf task "
            "multilabel, or train another model."
        )
    network = make_network(bundle_root, with_record)
    if not isinstance(network, HierarchicalNet | MeanEnsembleNet | PooledNet) or not network.heat_map_layers():
        raise SettingsError(f"the app needs a HierarchicalNet or PooledNet, the bundle has a {type(network).__name__}.")
    load_weights(network, weights)
    broken = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise SettingsError(f"{weights} holds NaN or infinite weights, such as {broken[0]}.")
    return network, read_record(bundle_root, with_record)


def without_folder(error: Exception, path: str | Path) -> str:
    """Return the first line of a message, without the server's folders."""
    return str(error).splitlines()[0].replace(str(Path(path).parent) + os.sep, "")[:500]


def ranked(result: dict[str, Any], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """List the classes of a result in MONAI Label's format: those that are predicted, then the others, likeliest first.

    Args:
        result: result of :meth:`LabelModel.predict`.
        class_names: names of the classes.
    """
    found = [result["prediction"]] if result["findings"] is None else result["findings"]
    rows = [
        {"idx": number, "label": name, "score": result["probabilities"][name]}
        for number, name in enumerate(class_names)
    ]
    return sorted(rows, key=lambda row: (row["label"] not in found, -row["score"]))
