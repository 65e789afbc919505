# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's data stores, with one class for each image: in a folder, and in an archive behind DICOMweb.

The class is in the index of the data store (``datastore_v2.json``) and nowhere else; the label file that MONAI Label
wants beside it is written from it. An archive keeps it as a structured report too, which a new cache is filled from.
"""

from __future__ import annotations

import filecmp
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from monai_fgssl.data import DataError
from monai_fgssl.data.io.dicom_file import open_dicom
from monai_fgssl.data.layouts.image_files import IMAGE_SUFFIXES, is_image
from monai_fgssl.report.dicom.secondary_capture import SERIES_DESCRIPTION as HEAT_MAP_DESCRIPTION
from monai_fgssl.utils.files import atomic_write

from .structured_report import SERIES_DESCRIPTION, make_label_report, read_label_report

__all__ = ["ClassDICOMWebDatastore", "ClassDatastore"]

logger = logging.getLogger(__name__)

FINAL = DefaultLabelTag.FINAL.value
CLASS = "class"
PLAIN_NAME = re.compile(r"[^/\\\x00]+")
UID = re.compile(r"[0-9.]{1,64}")
SECONDS_LISTED = 60.0
MODALITIES = {
    2: ("XC", "DMS", "OP", "ES", "GM", "OT", "DX", "CR", "MG", "US"),
    3: ("CT", "MR", "PT"),
}
"""Of pictures and of volumes, which are looked for unless the server's search filter is set."""

STOCK_FILTER = {"Modality": "CT"}


def check_name(name: str, what: str) -> str:
    """Refuse what could leave the folder of the data store.

    Raises:
        HTTPException: 422.
    """
    if not PLAIN_NAME.fullmatch(name) or name in (".", ".."):
        raise HTTPException(422, f"{what} must be a plain name without slashes.")
    return name


class ClassLabels(LocalDatastore):
    """Base of both data stores.

    Args:
        folder: of the images and the index.
        classes: the allowed names; empty: any.
    """

    classes: tuple[str, ...] = ()

    def class_of(self, image_id: str) -> str | None:
        """The class of an image; None without a label."""
        obj = self._datastore.objects.get(image_id)
        label = obj.labels.get(FINAL) if obj else None
        return label.info.get(CLASS) if label else None

    def labelled(self) -> dict[str, str]:
        """Classes by image."""
        images = set(self.list_images())
        found = {name: self.class_of(name) for name in list(self._datastore.objects) if name in images}
        return {name: label for name, label in found.items() if label is not None}

    def check_image(self, image_id: str) -> None:
        """Refuse an image that is not there.

        Raises:
            HTTPException: 404.
        """
        if image_id not in self._datastore.objects:
            raise HTTPException(404, "there is no such image: GET /datastore/?output=all lists them.")

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Save a label; with the tag ``final`` it is the class in ``label_info``, whatever the file holds.

        Raises:
            HTTPException: 404 for an unknown image; 422 for a class that is missing or not allowed.
        """
        self.check_image(image_id)
        check_name(label_tag, "tag")
        if label_tag != FINAL:
            return str(LocalDatastore.save_label(self, image_id, label_filename, label_tag, label_info))
        label_info = {**(label_info or {}), CLASS: self.check_class((label_info or {}).get(CLASS))}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "label.json")
            file.write_text(json.dumps({CLASS: label_info[CLASS]}), encoding="utf-8")
            return str(LocalDatastore.save_label(self, image_id, str(file), label_tag, label_info))

    def check_class(self, name: Any) -> str:
        """The class as it is spelt in the app's list.

        Raises:
            HTTPException: 422 when it is not in it, or no name.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > 64:
            raise HTTPException(422, 'the class is missing: send params={"class": "its name"}, up to 64 characters.')
        name = name.strip()
        if not self.classes:
            return name
        for known in self.classes:
            if known.lower() == name.lower():
                return known
        raise HTTPException(422, f"there is no class {name!r}; there are: {', '.join(self.classes)}.")

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label.

        Raises:
            HTTPException: 404 when there is none.
        """
        check_name(label_tag, "tag")
        self.check_image(label_id)
        label = self._datastore.objects[label_id].labels.pop(label_tag, None)
        if label is None:
            raise HTTPException(404, "this image has no such label.")
        Path(self._datastore.label_path(label_tag), self._filename(label_id, label.ext)).unlink(missing_ok=True)
        self._update_datastore_file()

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Change what is stored with a label, the class included.

        Raises:
            HTTPException: 404 when there is no such label.
        """
        self.check_image(label_id)
        label = self._datastore.label(label_id, label_tag)
        if label is None:
            raise HTTPException(404, "this image has no such label.")
        if label_tag == FINAL:
            self.save_label(label_id, "", label_tag, {**label.info, **info})
        else:
            LocalDatastore.update_label_info(self, label_id, label_tag, info)

    def get_dataset_archive(self, limit_cases: int | None = None) -> str:
        """Write a ZIP file with labelled images, their labels and the index; the caller removes it.

        Args:
            limit_cases: how many images at most; None: all.
        """
        handle, name = tempfile.mkstemp(suffix=".zip", prefix="fgssl-dataset-")
        try:
            with os.fdopen(handle, "wb") as out, zipfile.ZipFile(out, "w") as archive:
                for image_id in list(self.labelled())[:limit_cases]:
                    image = Path(self.get_image_uri(image_id))
                    # MONAI Label writes nothing of a series of several files.
                    for file in sorted(image.iterdir()) if image.is_dir() else [image]:
                        archive.write(file, Path("image", file.relative_to(image.parent)))
                    label = Path(self.get_label_uri(image_id, FINAL))
                    archive.write(label, Path("label", label.name))
                archive.writestr("metadata.json", self._datastore.model_dump_json(exclude={"base_path"}))
        except BaseException:
            os.unlink(name)
            raise
        return name

    def _update_datastore_file(self, lock: bool = True) -> None:
        # The stock one empties the file first: what dies then has lost all labels.
        with FileLock(self._lock_file) if lock else nullcontext():
            with atomic_write(self._datastore_config_path) as temporary:
                temporary.write_text(self._datastore.model_dump_json(exclude={"base_path"}, indent=2), encoding="utf-8")
            self._config_ts = os.stat(self._datastore_config_path).st_mtime


class ClassDatastore(ClassLabels):
    """A folder of images of every kind that the loader reads.

    Args:
        folder: with the images; those in folders below it are not found.
        classes: the allowed names; empty: any.
        auto_reload: whether images that are added later are found.
        read_only: whether the index is left as it is.
    """

    def __init__(
        self, folder: str, classes: tuple[str, ...] = (), auto_reload: bool = False, read_only: bool = False
    ) -> None:
        self.classes = classes
        suffixes = [*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)]
        # The longer of two endings counts.
        extensions = [f"*{suffix}" for suffix in sorted(suffixes, key=len)]
        super().__init__(folder, extensions=extensions, auto_reload=auto_reload, read_only=read_only)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an image; to send the same file again changes nothing.

        Raises:
            HTTPException: 422 for a name with slashes or a file of an unknown kind; 409 when there is another image of
                this name, whose label would not be true any more.
        """
        check_name(image_id, "image")
        file = Path(image_filename)
        if not is_image(file):
            raise HTTPException(422, f"the file's name must end in one of {', '.join(IMAGE_SUFFIXES)}.")
        if image_id not in self._datastore.objects:
            # Maybe somebody has just put it into the folder.
            self.refresh()
        if image_id in self._datastore.objects:
            if filecmp.cmp(file, self.get_image_uri(image_id), shallow=False):
                return image_id
            raise HTTPException(409, "there is another image of this name: choose another name, or remove that image.")
        _, suffix = self._to_id(file.name)
        name = self._filename(image_id, suffix)
        with atomic_write(Path(self._datastore.image_path(), name)) as temporary:
            shutil.copyfile(file, temporary)
        info = {**image_info, "ts": int(time.time()), "name": name}
        self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=suffix))
        self._update_datastore_file()
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels."""
        self.check_image(image_id)
        super().remove_image(image_id)
        self.refresh()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Store something with an image."""
        self.check_image(image_id)
        super().update_image_info(image_id, info)


class ClassDICOMWebDatastore(ClassLabels, DICOMWebDatastore):
    """An archive behind DICOMweb; each series is an image.

    Args:
        client: of the archive.
        search_filter: which series are images; MONAI Label's default, CT, stands for all kinds of pictures or volumes.
        cache_path: folder of the files that were fetched, and of the index.
        classes: the allowed names; empty: any.
        spatial_dims: 2 for pictures, 3 for volumes.
    """

    def __init__(
        self,
        client: Any,
        search_filter: dict[str, Any],
        cache_path: str | None,
        classes: tuple[str, ...] = (),
        spatial_dims: int = 2,
    ) -> None:
        self.classes = classes
        self._listed: tuple[float, list[str]] = (float("-inf"), [])
        self._studies: dict[str, str] = {}
        self._fetching = threading.Lock()
        is_set = search_filter != STOCK_FILTER
        self._filters = [search_filter] if is_set else [{"Modality": name} for name in MODALITIES[spatial_dims]]
        DICOMWebDatastore.__init__(self, client, search_filter, cache_path, convert_to_nifti=False)
        self.list_images()

    def list_images(self) -> list[str]:
        """Series Instance UIDs; asked for anew once a minute, and the labels with them."""
        since, series = self._listed
        if time.monotonic() - since < SECONDS_LISTED:
            return series
        for search_filter in self._filters:
            for found in self._client.search_for_series(search_filters=search_filter):
                header = Dataset.from_json(found)
                # Our own heat maps are pictures too, but none to label.
                if header.get("SeriesDescription") == HEAT_MAP_DESCRIPTION:
                    continue
                self._studies[str(header.SeriesInstanceUID)] = str(header.StudyInstanceUID)
        series = list(self._studies)
        self._listed = time.monotonic(), series
        for name in series:
            self._datastore.objects.setdefault(name, ImageLabelModel(image=DataModel()))
        self._read_reports()
        return series

    def refresh(self) -> None:
        """Ask the archive again."""
        self._listed = (float("-inf"), [])
        self.list_images()

    def _reconcile_datastore(self) -> None:
        # What is in the archive counts, not what has been fetched from it.
        self._init_from_datastore_file()

    def get_image_uri(self, image_id: str) -> str:
        """The file of a series, or its folder when there are several; fetched when it is needed first.

        Raises:
            HTTPException: 404 for an unknown series.
        """
        self.check_image(image_id)
        folder = Path(os.path.realpath(self._datastore.image_path()), image_id)
        with self._fetching:
            if not folder.is_dir():
                self._fetch(image_id, folder)
        files = sorted(folder.iterdir())
        return str(files[0] if len(files) == 1 else folder)

    def _fetch(self, image_id: str, folder: Path) -> None:
        unfinished = folder.with_name(f".{image_id}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for instance in self._client.retrieve_series(self._studies[image_id], image_id):
            dcmwrite(unfinished / f"{instance.SOPInstanceUID}.dcm", instance, write_like_original=False)
        unfinished.rename(folder)

    def check_image(self, image_id: str) -> None:
        """Refuse a series that is not there."""
        if not UID.fullmatch(image_id) or image_id not in self.list_images():
            raise HTTPException(404, "the archive has no such series among the images.")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Information that is stored with an image."""
        obj = self._datastore.objects.get(image_id)
        return dict(obj.image.info) if obj else {}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Store something with an image."""
        self.check_image(image_id)
        LocalDatastore.update_image_info(self, image_id, info)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images with a class."""
        return list(self.labelled())

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images without a class."""
        return [name for name in self.list_images() if self.class_of(name) is None]

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """The label file."""
        check_name(label_tag, "tag")
        return str(LocalDatastore.get_label_uri(self, label_id, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Labelled images and their label files."""
        return [
            {"image": self.get_image_uri(name), "label": self.get_label_uri(name, FINAL)} for name in self.labelled()
        ]

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refused: an archive gets its images elsewhere."""
        raise HTTPException(422, "send images to the archive itself (STOW-RS or C-STORE).")

    def remove_image(self, image_id: str) -> None:
        """Refused: an archive's images are deleted elsewhere."""
        raise HTTPException(422, "images are deleted in the archive itself.")

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Save a label here and, as a structured report, in the archive."""
        saved = super().save_label(image_id, label_filename, label_tag, label_info)
        if label_tag == FINAL:
            self._store_report(image_id, self.class_of(image_id) or "")
        return saved

    def _store_report(self, image_id: str, class_name: str) -> None:
        uri = Path(self.get_image_uri(image_id))
        files = sorted(uri.iterdir()) if uri.is_dir() else [uri]
        try:
            headers = [open_dicom(file, headers_only=True) for file in files]
            report = make_label_report(headers, class_name, self.classes)
            self._client.store_instances([report])
        except (DataError, ImportError, OSError, KeyError, ValueError) as error:
            # The label itself is safe in the index.
            logger.warning("a label could not be stored in the archive and is kept here only: %s", type(error).__name__)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label here; its reports stay in the archive, and older ones than this do not count any more."""
        super().remove_label(label_id, label_tag)
        LocalDatastore.update_image_info(self, label_id, {"label_removed": time.strftime("%Y%m%d%H%M%S")})

    def _read_reports(self) -> None:
        """Take over the newest report of each image that has no label here."""
        newest: dict[str, tuple[str, str]] = {}
        for found in self._client.search_for_series(
            search_filters={"Modality": "SR", "SeriesDescription": SERIES_DESCRIPTION}
        ):
            header = Dataset.from_json(found)
            # An archive may leave out a part of the filter.
            if header.get("SeriesDescription", SERIES_DESCRIPTION) != SERIES_DESCRIPTION:
                continue
            for report in self._reports_in(header):
                read = read_label_report(report)
                if read and read[2] > newest.get(read[0], ("", ""))[0]:
                    newest[read[0]] = read[2], read[1]
        for image_id, (when, class_name) in newest.items():
            obj = self._datastore.objects.get(image_id)
            if obj is None or self.class_of(image_id) is not None or when <= obj.image.info.get("label_removed", ""):
                continue
            ClassLabels.save_label(self, image_id, "", FINAL, {CLASS: class_name})

    def _reports_in(self, header: Dataset) -> list[Dataset]:
        return list(self._client.retrieve_series(str(header.StudyInstanceUID), str(header.SeriesInstanceUID)))
