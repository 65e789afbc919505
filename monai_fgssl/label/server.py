# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The app that MONAI Label serves."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelException
from numpy.typing import NDArray

from monai_fgssl import __version__
from monai_fgssl.bundle import copy_bundle, read_defaults, shipped_bundle
from monai_fgssl.data import DecoderPool
from monai_fgssl.metrics.acquisition import STRATEGIES
from monai_fgssl.report.pictures import draw_image

from .answers import Answers, Label, count_labels
from .archive import make_client
from .archive_datastore import ClassDICOMWebDatastore
from .datastore import ClassDatastore, ClassLabels
from .guard import guard_server
from .heat_layers import HeatLayers
from .model import LabelModel
from .options import IMAGE_OPTIONS, read_options
from .origins import open_address
from .readable import ReadableImages, try_to_read
from .scores import BackgroundScorer, NotNowError
from .tasks import ClassInfer, ClassTrain, NextImage, ScoreAll
from .thumbnails import Thumbnails
from .viewer import Viewer

__all__ = ["FGSSLApp"]

THUMBNAIL_SIZE = 224
"""Largest height and width, in pixels, of the pictures in the grid."""

logger = logging.getLogger(__name__)

FOLDER = "fgssl"
"""Folder of the bundle, its model and the scores. It is in the folder of the studies, or in the archive's cache."""


class FGSSLApp(MONAILabelApp):
    """Classification with FG-SSL.

    Args:
        app_dir: folder of ``main.py``.
        studies: folder of the images, or address of an archive's DICOMweb service.
        conf: see :func:`~monai_fgssl.label.options.read_options`.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.options = read_options(conf or {})
        self.handed_out: dict[str, float] = {}
        super().__init__(
            app_dir,
            studies,
            conf,
            name="FG-SSL",
            description="Fine-grained classification of lesions, learned from few labeled and many unlabeled images",
            version=__version__,
            labels=list(self.options.classes),
        )
        # Scoring runs in this process, with the model that is in memory already.
        self._auto_update_scoring = False

    def init_datastore(self) -> ClassDatastore | ClassDICOMWebDatastore:
        """Make the data store, and the model that belongs to it."""
        datastore = super().init_datastore() if self.is_archive() else self._init_folder()
        root = Path(datastore._datastore_path) / FOLDER
        self.bundle_root = self.options.bundle or root / self.options.bundle_name
        if not self.bundle_root.is_dir():
            root.mkdir(exist_ok=True)
            copy_bundle(self.options.bundle_name, self.bundle_root)
        # Not "fork": the server has many threads, which a forked process would copy in the middle of their work.
        self.pool = DecoderPool(
            seconds=self.options.decode_seconds,
            memory_gb=self.options.decode_gb,
            start_method="spawn" if sys.platform == "win32" else "forkserver",
            preload=("monai_fgssl.data.io.geometry", "monai_fgssl.label.readable", "monai_fgssl.label.viewer"),
        )
        self.model = LabelModel(
            self.bundle_root,
            max_pixels=self.options.settings.get("max_pixels"),
            pool=self.pool,
            several=self.options.several,
        )
        self.thumbnails = Thumbnails(self._draw_small)
        self.viewer = Viewer(self.pool, lambda: self.spatial_dims, lambda: self.image_options)
        self.heat_layers = HeatLayers(self.model)
        self.readable = ReadableImages(root / "readable.json", self._try_to_read, lambda: self.image_options)
        self.scorer = BackgroundScorer(
            self.model, root / "scores.pt", partial(_path_of, datastore), self.readable.remember
        )
        return datastore

    def is_archive(self) -> bool:
        """True if the studies are in an archive behind a network address."""
        return self.studies.startswith(("http://", "https://"))

    def _init_folder(self) -> ClassDatastore:
        return ClassDatastore(
            self.studies,
            self.options.classes,
            settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            settings.MONAI_LABEL_DATASTORE_READ_ONLY,
            self.options.several,
        )

    def _init_dicomweb_datastore(self) -> ClassDICOMWebDatastore:
        # MONAI Label's own method downloads a program for segmentations first.
        return ClassDICOMWebDatastore(
            make_client(self.studies),
            settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER,
            settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip() or None,
            self.options.classes,
            # Read from the original bundle, since there is no copy yet.
            read_defaults(self.options.bundle or shipped_bundle(self.options.bundle_name)).get("spatial_dims", 2),
            self.options.several,
        )

    def init_infers(self) -> dict[str, ClassInfer]:
        """Make the inference task, ``fgssl``."""
        return {"fgssl": ClassInfer(self.model, self.options.classes)}

    def init_trainers(self) -> dict[str, ClassTrain]:
        """Make the training tasks, ``train`` and ``pretrain``."""
        return {
            "train": ClassTrain(self.bundle_root, self.options.settings, False, self.readable_with),
            "pretrain": ClassTrain(self.bundle_root, self.options.settings, True, self.readable_with),
        }

    def init_strategies(self) -> dict[str, NextImage]:
        """Make all strategies of :mod:`monai_fgssl.metrics.acquisition`."""
        return {name: NextImage(name, self) for name in STRATEGIES}

    def init_scoring_methods(self) -> dict[str, ScoreAll]:
        """Make the scoring method, ``fgssl``."""
        return {"fgssl": ScoreAll(self.scorer)}

    @property
    def image_options(self) -> dict[str, Any]:
        """Window, frame, channel and time by which an image is read: those of the model, or else of the training."""
        names = ("window", "frame", "channel", "time")
        return {name: (self.model.record or self.options.settings).get(name) for name in names} | {
            "max_pixels": self.model.max_pixels
        }

    def readable_with(self, settings: Mapping[str, Any]) -> ReadableImages:
        """Return the record of which images a training with these settings can read."""
        changed = {name: value for name, value in settings.items() if name in IMAGE_OPTIONS}
        options = self.image_options | changed
        if options == self.image_options:
            return self.readable
        return ReadableImages(None, partial(self._try_to_read, **changed), lambda: options)

    def _try_to_read(self, path: str, **changed: Any) -> None:
        self.pool.run(try_to_read, path, self.spatial_dims, **self.image_options | changed)

    def unreadable(self) -> dict[str, str]:
        """Return the reasons of the images known to be unreadable, by image."""
        return self.readable.unreadable(self.datastore().list_images())

    def labeled(self) -> dict[str, Label]:
        """Return the class or the findings of each labeled image that can be read."""
        unreadable = self.unreadable()
        return {name: label for name, label in self.datastore().labeled().items() if name not in unreadable}

    def answers(self) -> dict[str, str | Answers]:
        """Return what a training learns of each labeled image that can be read."""
        unreadable = self.unreadable()
        return {name: label for name, label in self.datastore().answers().items() if name not in unreadable}

    def look_through(self, names: Sequence[str]) -> None:
        """Find unreadable images, and score images without a score, both in the background."""
        self.readable.start(names, self.datastore().file_here)
        self.scorer.start(names)

    @property
    def spatial_dims(self) -> int:
        """2 for pictures, 3 for volumes."""
        if record := self.model.record:
            return int(record["network_def"]["spatial_dims"])
        return int(read_defaults(self.bundle_root).get("spatial_dims", 2))

    def class_names(self) -> list[str]:
        """Return the classes that the server was started with, or else those of the model and of the labels."""
        if self.options.classes:
            return list(self.options.classes)
        record = self.model.record
        of_model = record["class_names"] if record else []
        return [*of_model, *sorted(count_labels(self.datastore().labeled().values()).keys() - set(of_model))]

    def notices(self) -> list[str]:
        """Return sentences about the state of the app, for the page."""
        problem = self.model.problem
        return [*([f"{problem[0].upper()}{problem[1:].rstrip('.')}."] if problem else []), *self.datastore().notices()]

    def info(self) -> dict[str, Any]:
        """Description of the app for its clients."""
        return {**super().info(), "labels": self.class_names()}

    def on_init_complete(self) -> None:
        """Add this package's routes to the server, and start scoring."""
        # Imported here: it imports the server, which a training process does not need.
        from monailabel.app import app

        from .routes import add_routes

        guard_server(app, self.options.sites, self.options.max_upload_mb)
        address = open_address(sys.argv[1:])
        if address and not settings.MONAI_LABEL_AUTH_ENABLE:
            logger.warning(
                "the server listens on %s and nobody has to sign in: everybody in the network can see all images, "
                "change labels and train. Start it with --host 127.0.0.1, or with users (docs/monai_label.md).",
                address,
            )
        add_routes(app, self)
        # Importing its modules takes seconds. Do it now, or the first person would have to wait.
        threading.Thread(target=self.pool.start, daemon=True, name="decoders").start()
        super().on_init_complete()
        if self.is_archive():
            self.datastore().start()
        with suppress(HTTPException):
            # The archive's images may not be listed yet.
            self.look_through(self.datastore().list_images())

    def _draw_small(self, path: str | Path) -> NDArray[np.uint8]:
        return self.pool.run(draw_image, path, self.spatial_dims, max_size=THUMBNAIL_SIZE, **self.image_options)

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Predict an image of the data store.

        Raises:
            HTTPException: 404 for an unknown image or model; see :class:`~monai_fgssl.label.tasks.ClassInfer`.
        """
        image = request.get("image")
        if not isinstance(image, str):
            raise HTTPException(422, "name an image of the data store, or send a file.")
        # MONAI Label itself would read any file of the machine.
        self.datastore().check_image(image)
        return self.infer_file(Path(self.datastore().get_image_uri(image)), request)

    def infer_file(self, path: Path, request: dict[str, Any]) -> dict[str, Any]:
        """Predict a file, or the folder of a series, that the server itself has put there; see :meth:`infer`."""
        try:
            return dict(super().infer({**request, "image": str(path)}))
        except MONAILabelException as error:
            raise HTTPException(404, error.msg) from error

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Choose the next image.

        Raises:
            HTTPException: 404 for an unknown strategy.
        """
        strategy = self._strategies.get(request.get("strategy") or "random")
        if strategy is None:
            raise HTTPException(404, f"there is no such strategy; there are: {', '.join(self._strategies)}.")
        chosen = strategy(request, self.datastore())
        if not chosen:
            return {}
        # MONAI Label itself would fetch the image from the archive while everybody waits.
        return chosen if self.is_archive() else {**chosen, "path": self.datastore().get_image_uri(chosen["id"])}


def _path_of(datastore: ClassLabels, image_id: str) -> str:
    try:
        return datastore.get_image_uri(image_id)
    except HTTPException as error:
        if error.status_code == 503:
            raise NotNowError(error.detail) from error
        raise
