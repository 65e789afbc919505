# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's tasks: inference, training, choosing the next image, scoring."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from pydicom.dataset import Dataset

from monai_fgssl.bundle import SettingsError
from monai_fgssl.data import DataError

from .datastore import ClassLabels
from .history import remember_training
from .model import LabelModel, ranked, without_folder
from .options import check_task, train_settings
from .pictures import as_png
from .readable import ReadableImages
from .scores import BackgroundScorer, pick
from .training import fine_tune, pretrain, train_stats

if TYPE_CHECKING:
    from .server import FGSSLApp

__all__ = ["ClassInfer", "ClassTrain", "NextImage", "ScoreAll"]


class ClassInfer(InferTask):
    """Predicts the class probabilities of an image, and writes a file if a parameter asks for one.

    ``"report": true`` asks for a DICOM structured report. Without it, ``"heat_map": true`` asks for a PNG with the
    image and its heat maps.
    """

    def __init__(self, model: LabelModel, classes: tuple[str, ...]) -> None:
        super().__init__(
            InferType.CLASSIFICATION,
            None,
            2,
            "Class of an image, by a network of several stages",
            {"heat_map": False, "report": False},
        )
        self.model = model
        self.classes = classes

    def is_valid(self) -> bool:
        """Always true: before the first training the answer says that there is no model."""
        return True

    def info(self) -> dict[str, Any]:
        """Describe this task for clients."""
        record = self.model.record
        names = record["class_names"] if record else self.classes
        self.labels = {name: number for number, name in enumerate(names)}
        if record:
            self.dimension = record["network_def"]["spatial_dims"]
        return dict(super().info())

    def get_path(self, validate: bool = True) -> str:
        """The weights."""
        return str(self.model.path)

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Predict one image.

        Raises:
            HTTPException: 409 without a model, 422 for an image that can't be read or that no report can refer to.
        """
        started = time.monotonic()
        image, file = request["image"], None
        headers: list[Dataset] = []
        try:
            result = self.model.predict(image, headers)
            if request.get("heat_map") and not request.get("report"):
                file = self._draw(image)
        except SettingsError as error:
            raise HTTPException(409, str(error)) from error
        except (DataError, OSError) as error:
            raise HTTPException(422, f"the image can't be read: {without_folder(error, image)}") from error
        if request.get("report"):
            file = self._report(image, headers, result)
        names = list(result["probabilities"])
        prediction = ranked(result, names)
        return file, {
            "prediction": prediction,
            "findings": result["findings"],
            "label": prediction[0]["label"] if result["findings"] is None else result["findings"],
            "score": prediction[0]["score"],
            "stages": result["stages"],
            "entropy": result["entropy"],
            "stage_disagreement": result["stage_disagreement"],
            "triage": result["triage"],
            "reasons": result["reasons"],
            "label_names": {name: number for number, name in enumerate(names)},
            "latencies": {"total": round(time.monotonic() - started, 3)},
        }

    def _draw(self, image: str) -> str:
        picture = as_png(self.model.draw_heat_maps(image))
        handle, file = tempfile.mkstemp(suffix=".png")
        with os.fdopen(handle, "wb") as out:
            out.write(picture)
        return file

    def _report(self, image: str, headers: list[Dataset], result: dict[str, Any]) -> str:
        handle, file = tempfile.mkstemp(suffix=".dcm")
        os.close(handle)
        try:
            self.model.write_report(headers, result, Path(file))
        except DataError as error:
            os.unlink(file)
            raise HTTPException(422, f"no report can be written: the image {without_folder(error, image)}") from error
        return file


class ClassTrain(TrainTask):
    """Fine-tunes on the labeled images, or pre-trains on all, in a process that MONAI Label starts."""

    def __init__(
        self,
        bundle_root: Path,
        settings: dict[str, Any],
        on_all: bool,
        readable_with: Callable[[Mapping[str, Any]], ReadableImages],
    ) -> None:
        super().__init__(
            "Pre-training on all images, labeled or not" if on_all else "Fine-tuning on the labeled images"
        )
        self.bundle_root = bundle_root
        self.settings = settings
        self.on_all = on_all
        self.readable_with = readable_with

    def config(self) -> dict[str, Any]:
        """Settings that a client may change."""
        return {"max_epochs": self.settings.get("max_epochs", 40 if self.on_all else 60), **self.settings}

    def stats(self) -> dict[str, Any]:
        """Metrics of the last training."""
        return {} if self.on_all else train_stats(self.bundle_root)

    def __call__(self, request: dict[str, Any], datastore: ClassLabels) -> dict[str, Any]:
        """Train.

        Raises:
            SettingsError: when a setting can't be used, there are too few labels, or the run fails.
        """
        own = train_settings(request)
        check_task(own, datastore.several)
        settings = {**self.settings, **own}
        labels = dict.fromkeys(datastore.list_images(), "") if self.on_all else datastore.answers()
        paths = self._readable(list(labels), datastore, settings)
        images = [(path, labels[name]) for name, path in paths.items()]
        if self.on_all:
            pretrain(self.bundle_root, images, settings)
        else:
            fine_tune(self.bundle_root, images, settings)
            remember_training(self.bundle_root, len(images), datastore.several)
        return self.stats()

    def _readable(self, names: Sequence[str], datastore: ClassLabels, settings: dict[str, Any]) -> dict[str, str]:
        """Select the images that can be read. A single unreadable one would end the training after minutes."""
        print(f"checking {len(names)} images", flush=True)
        paths, left_out = {}, {}
        for name in names:
            try:
                paths[name] = datastore.get_image_uri(name)
            except HTTPException as error:
                # The archive does not answer: the image may be good.
                if error.status_code == 503:
                    raise
                left_out[name] = str(error.detail)
        left_out |= self.readable_with(settings).check(paths)
        if left_out:
            print(f"{len(left_out)} of {len(names)} images can't be read and are left out:", flush=True)
            for reason in left_out.values():
                print(f"  {reason}", flush=True)
        return {name: path for name, path in paths.items() if name not in left_out}


class NextImage(Strategy):
    """Chooses the image to label next by one of :data:`monai_fgssl.metrics.acquisition.STRATEGIES`."""

    def __init__(self, name: str, app: FGSSLApp) -> None:
        super().__init__(f"Active learning: {name}")
        self.name = name
        self.app = app

    def __call__(self, request: dict[str, Any], datastore: ClassLabels) -> dict[str, Any] | None:
        """Choose an image, and start to compute missing scores in the background."""
        images = datastore.list_images()
        self.app.look_through(images)
        labeled, unreadable = datastore.labeled(), self.app.unreadable()
        unlabeled = [name for name in images if name not in labeled and name not in unreadable]
        if not unlabeled:
            return None
        # Images that somebody has put aside come last.
        unlabeled = [name for name in unlabeled if "skipped" not in datastore.marks_of(name)] or unlabeled
        now = time.monotonic()
        scores, handed_out, several = self.app.scorer.scores, self.app.handed_out, self.app.options.several
        name, used = pick(self.name, unlabeled, list(labeled), scores, handed_out, now, several)
        self.app.handed_out[name] = now
        return {"id": name, "weight": 1, "strategy_used": used}


class ScoreAll(ScoringMethod):
    """Scores the images without a score, for ``POST /scoring/fgssl``. The server also does this by itself."""

    def __init__(self, scorer: BackgroundScorer) -> None:
        super().__init__("Predictions of all images, for active learning")
        self.scorer = scorer

    def __call__(self, request: dict[str, Any], datastore: ClassLabels) -> dict[str, int]:
        """Score."""
        images = datastore.list_images()
        self.scorer.update(images)
        return {"scored": len(self.scorer.scores.stage_logits), "failed": len(self.scorer.scores.failed)}
