# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data stores of MONAI Label with a class or findings for each image: the base class, and the store of a folder.

The index of the data store (``datastore_v2.json``) says which class or findings an image has. MONAI Label also expects
a label file for each image, so these files are written from the index. If the index is lost or damaged, it is rebuilt
from them.
"""

from __future__ import annotations

import filecmp
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag

from monai_fgssl.data.layouts.image_files import IMAGE_SUFFIXES, is_image, without_suffix
from monai_fgssl.utils.files import atomic_write, is_full_or_read_only, remove_leftovers

from .answers import ASKED, Answers, Label, answers_of, check_label, label_of, names_of
from .label_files import LABEL_SUFFIX, fingerprint_of, read_label, write_label

__all__ = ["CLASS", "FINAL", "MARKS", "ClassDatastore", "ClassLabels", "check_name"]

logger = logging.getLogger(__name__)

FINAL = DefaultLabelTag.FINAL.value
CLASS = "class"
READINGS = "readings"
"""Key of a label's information: the last class or findings that each signed-in person gave the image."""

MARKS = ("skipped", "unsure")
"""Marks that people can give an image besides its class: label it last, or let somebody else look at it."""

PLAIN_NAME = re.compile(r"[^/\\\x00]+")
SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+)*")


def check_name(name: str, what: str) -> str:
    """Refuse a name that could lead out of the folder of the data store.

    Raises:
        HTTPException: 422.
    """
    if not _is_plain(name):
        raise HTTPException(422, f"{what} must be a plain name without slashes.")
    return name


def _is_plain(name: str) -> bool:
    return PLAIN_NAME.fullmatch(name) is not None and name not in (".", "..")


class ClassLabels(LocalDatastore):
    """Base of the data stores of a folder and of an archive. Several threads and processes may use it.

    Args:
        folder: folder of the images and the index.
        classes: the allowed names; empty: any.
        several: True: an image may have several of the classes, or none; False: it has one.
        options: options of :class:`monailabel.datastore.local.LocalDatastore`.
    """

    # Attributes of MONAI Label, which has no type hints: the index, and the version that was read.
    _datastore: Any
    _config_ts: Any

    def __init__(self, folder: str, classes: tuple[str, ...] = (), several: bool = False, **options: Any) -> None:
        self.classes = classes
        self.several = several
        # Hold this lock to change the index. Otherwise another thread could read the old index and undo the change.
        self._changing = threading.RLock()
        # The same lock between processes: a training of MONAI Label opens the data store too.
        self._file_lock = FileLock(Path(folder, ".lock"), thread_local=False)
        # True until an index was read.
        self._index_is_lost = True
        # Images whose label file differs from the index, and whether all files were compared.
        self._unwritten: set[str] = set()
        self._are_compared = False
        remove_leftovers(folder)
        LocalDatastore.__init__(self, folder, **options)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Lock the index, and read its newest state. If the changes can't be saved, undo them.

        Raises:
            HTTPException: 507 when the disk is full or read-only.
        """
        with self._changing, self._file_lock:
            self._init_from_datastore_file()
            try:
                yield
            except OSError as error:
                # Undo the changes in memory that were not saved.
                self._config_ts = None
                self._init_from_datastore_file()
                if not is_full_or_read_only(error):
                    raise
                logger.error("a change of images or labels was not saved: %s", error)
                raise HTTPException(
                    507, "this was not saved: the disk of the server is full or can't be written to."
                ) from error

    def notices(self) -> list[str]:
        """Sentences about the state of images and labels, for the page."""
        return []

    def class_of(self, image_id: str) -> Label | None:
        """The class of an image, or its findings; None without a label."""
        return label_of(self._info_of(image_id).get(CLASS), self.several)

    def _info_of(self, image_id: str) -> dict[str, Any]:
        """Information of an image's label; empty without a label."""
        obj = self._datastore.objects.get(image_id)
        label = obj.labels.get(FINAL) if obj else None
        return label.info if label else {}

    def answers(self) -> dict[str, str | Answers]:
        """Return for each image its class, or which findings it has and which it has not, as a training learns it."""
        if not self.several:
            return {name: label for name, label in self.labeled().items() if isinstance(label, str)}
        infos = {name: self._info_of(name) for name in self.labeled()}
        return {name: answers_of(info[CLASS], info.get(ASKED)) for name, info in infos.items()}

    def labeled(self) -> dict[str, Label]:
        """Classes or findings by image."""
        images = set(self.list_images())
        found = {name: self.class_of(name) for name in list(self._datastore.objects) if name in images}
        return {name: label for name, label in found.items() if label is not None}

    def user_of(self, image_id: str) -> str | None:
        """Return the person who gave an image its class; None if people do not sign in."""
        user = self._info_of(image_id).get("user")
        return user if isinstance(user, str) else None

    def readings_of(self, image_id: str) -> dict[str, Label]:
        """Return the last class, or the last findings, that each signed-in person gave an image."""
        readings = self._info_of(image_id).get(READINGS)
        if not isinstance(readings, dict):
            return {}
        known = {person: label_of(value, self.several) for person, value in readings.items()}
        return {person: label for person, label in known.items() if label is not None}

    def marks_of(self, image_id: str) -> list[str]:
        """Return the marks of an image, out of :data:`MARKS`."""
        obj = self._datastore.objects.get(image_id)
        return [mark for mark in MARKS if obj and obj.image.info.get(mark)]

    def set_marks(self, image_id: str, marks: Mapping[str, bool], user: str | None = None) -> None:
        """Set or remove marks of an image.

        Args:
            image_id: the image.
            marks: marks to change, out of :data:`MARKS`: True sets a mark, False removes it.
            user: the person who changes them; None if people do not sign in.
        """
        self.check_image(image_id)
        with self._change():
            self.check_image(image_id)
            info = self._datastore.objects[image_id].image.info
            for mark, is_set in marks.items():
                info.pop(mark, None)
                if is_set:
                    info[mark] = {"user": user, "ts": int(time.time())}
            self._update_datastore_file()

    def check_image(self, image_id: str) -> None:
        """Check that an image exists.

        Raises:
            HTTPException: 404.
        """
        if image_id not in self._datastore.objects:
            raise HTTPException(404, "there is no such image: GET /datastore/?output=all lists them.")

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Save a label. With the tag ``final``, that in ``label_info`` is saved, and the file is ignored.

        Raises:
            HTTPException: 404 for an unknown image; 422 for a class that is missing or not allowed.
        """
        self.check_image(image_id)
        check_name(label_tag, "tag")
        with self._change():
            # Another process may have removed it.
            self.check_image(image_id)
            if label_tag == FINAL:
                label = self.check_class((label_info or {}).get(CLASS))
                asked = {ASKED: list(self.classes)} if self.several else {}
                self._put_label(image_id, {**(label_info or {}), **asked, CLASS: label})
            else:
                self._put_file(image_id, Path(label_filename), label_tag, label_info)
            self._update_datastore_file()
        return image_id

    def _put_label(self, image_id: str, label_info: dict[str, Any]) -> None:
        """Set the label of an image in the index. The caller writes the index first, and then the label file."""
        info = {**label_info, "ts": int(time.time()), "name": self._filename(image_id, LABEL_SUFFIX)}
        if not isinstance(info[CLASS], str):
            # As it is in a JSON file, with which the index is compared.
            info[CLASS] = list(info[CLASS])
        user = info.get("user")
        readings: dict[str, Any] = {
            person: label if isinstance(label, str) else list(label)
            for person, label in self.readings_of(image_id).items()
        }
        if isinstance(user, str):
            readings[user] = info[CLASS]
        info.pop(READINGS, None)
        if readings:
            info[READINGS] = readings
        obj = self._datastore.objects[image_id]
        obj.labels[FINAL] = DataModel(info=info, ext=LABEL_SUFFIX)
        obj.image.info.pop("skipped", None)
        self._unwritten.add(image_id)

    def _write_label_files(self) -> None:
        """Write the label files that differ from the index. A file that can't be written is tried again later."""
        for image_id in list(self._unwritten):
            obj = self._datastore.objects.get(image_id)
            label = obj.labels.get(FINAL) if obj else None
            try:
                if label is not None and label_of(label.info.get(CLASS), self.several) is not None:
                    write_label(self._label_file(image_id), label.info, fingerprint_of(self._own_file(image_id)))
                self._unwritten.discard(image_id)
            except OSError as error:
                # Nothing is lost: the index has the label.
                logger.warning("a label file can't be written now: %s", error)

    def _put_file(self, image_id: str, file: Path, tag: str, label_info: dict[str, Any] | None) -> None:
        """Store a file as a label with any other tag."""
        _, suffix = self._to_id(file.name)
        name = self._filename(image_id, suffix)
        with atomic_write(Path(self._datastore.label_path(tag), name), durable=True) as temporary:
            shutil.copyfile(file, temporary)
        info = {**(label_info or {}), "ts": int(time.time()), "name": name}
        self._datastore.objects[image_id].labels[tag] = DataModel(info=info, ext=suffix)

    def _label_file(self, image_id: str) -> Path:
        return Path(self._datastore.label_path(FINAL), self._filename(image_id, LABEL_SUFFIX))

    def _own_file(self, image_id: str) -> str | None:
        """Return the file of an image, if another image may take over its name; otherwise None."""
        return None

    def _restore_label_files(self) -> None:
        """Write missing label files. At the start, also replace those that contradict the index."""
        for image_id, obj in self._datastore.objects.items():
            if not self._has_class(image_id):
                continue
            file = self._label_file(image_id)
            if not file.is_file():
                self._unwritten.add(image_id)
            elif not self._are_compared:
                found = read_label(file)
                # A process was killed between the two writes, or somebody has changed the file.
                if found is None or found[0] != obj.labels[FINAL].info:
                    self._unwritten.add(image_id)
        self._are_compared = True
        self._write_label_files()

    def _has_class(self, image_id: str) -> bool:
        """Tell whether the index has a valid label for an image. A damaged index may hold some other text."""
        label = self.class_of(image_id)
        return label is not None and (not self.classes or set(names_of(label)) <= set(self.classes))

    def _adopt_labels(self) -> bool:
        """Add labels to the index that only their files have. Return whether there were any.

        Label files of another image that had the same name are ignored.
        """
        adopted = 0
        for image_id, obj in self._datastore.objects.items():
            found = None if self._has_class(image_id) else read_label(self._label_file(image_id))
            if found is None:
                continue
            info, image = found
            now = fingerprint_of(self._own_file(image_id))
            is_of_this_image = self._index_is_lost if image is None or now is None else image == now
            with suppress(HTTPException):
                if is_of_this_image:
                    label = self.check_class(info[CLASS])
                    info = {**info, CLASS: label if isinstance(label, str) else list(label)}
                    obj.labels[FINAL] = DataModel(info=info, ext=LABEL_SUFFIX)
                    adopted += 1
        if adopted:
            logger.warning("%d labels were taken from their files: the index did not have them.", adopted)
        self._index_is_lost = False
        return adopted > 0

    def check_class(self, value: Any) -> Label:
        """Return a class, or findings, as the app's list spells them.

        Raises:
            HTTPException: 422 when it is no such label, or not in the list.
        """
        try:
            return check_label(value, self.classes, self.several)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label.

        Raises:
            HTTPException: 404 when there is none.
        """
        check_name(label_tag, "tag")
        self.check_image(label_id)
        with self._change():
            self.check_image(label_id)
            label = self._datastore.objects[label_id].labels.pop(label_tag, None)
            if label is None:
                raise HTTPException(404, "this image has no such label.")
            # The file goes first. If the process ends here, the index still has the label and writes it again.
            Path(self._datastore.label_path(label_tag), self._filename(label_id, label.ext)).unlink(missing_ok=True)
            self._update_datastore_file()

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Change the information that is stored with a label, its class included.

        Raises:
            HTTPException: 404 when there is no such label.
        """
        self.check_image(label_id)
        with self._change():
            label = self._datastore.label(label_id, label_tag)
            if label is None:
                raise HTTPException(404, "this image has no such label.")
            if label_tag == FINAL:
                self.save_label(label_id, "", label_tag, {**label.info, **info})
            else:
                LocalDatastore.update_label_info(self, label_id, label_tag, info)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Change the information that is stored with an image."""
        self.check_image(image_id)
        with self._change():
            LocalDatastore.update_image_info(self, image_id, info)

    def get_dataset_archive(self, limit_cases: int | None = None) -> str:
        """Write a ZIP file with labeled images, their labels and the index; the caller removes it.

        Args:
            limit_cases: largest number of images; None: all.
        """
        handle, name = tempfile.mkstemp(suffix=".zip", prefix="fgssl-dataset-")
        try:
            with os.fdopen(handle, "wb") as out, zipfile.ZipFile(out, "w") as archive:
                for image_id in list(self.labeled())[:limit_cases]:
                    image = Path(self.get_image_uri(image_id))
                    # MONAI Label leaves out a series of several files.
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
        # MONAI Label's own method empties the file first. A process that dies then loses all labels.
        with self._changing, self._file_lock:
            with atomic_write(self._datastore_config_path, durable=True) as temporary:
                temporary.write_text(self._datastore.model_dump_json(exclude={"base_path"}, indent=2), encoding="utf-8")
            self._config_ts = self._index_version()
            self._write_label_files()

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read the index if it has changed. MONAI Label's own method does not check its content."""
        with self._changing, self._file_lock:
            version = self._index_version()
            if version is None or version == self._config_ts:
                return
            path = Path(self._datastore_config_path)
            try:
                index = LocalDatastoreModel.model_validate_json(path.read_text(encoding="utf-8"))
            except ValueError:
                aside = path.with_name(f"{path.stem}.damaged{time.time_ns()}{path.suffix}")
                path.replace(aside)
                logger.error(
                    "%s is damaged. It is renamed to %s, and labels are taken from their files.", path.name, aside.name
                )
                self._index_is_lost = True
                return
            self._datastore = _checked_index(index, self._datastore)
            self._config_ts = version
            self._index_is_lost = False

    def _index_version(self) -> tuple[int, int, int] | None:
        """Identify the version of the index, even if the clock was set back; None: there is no file."""
        try:
            status = os.stat(self._datastore_config_path)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _checked_index(index: LocalDatastoreModel, before: LocalDatastoreModel) -> LocalDatastoreModel:
    """Drop names that lead out of the folder. A stranger may have made the folder and its index."""
    # Folders are not taken from the index either, but from the call that opened the data store.
    index.base_path, index.images_dir, index.labels_dir = before.base_path, before.images_dir, before.labels_dir
    for name, obj in list(index.objects.items()):
        if not (_is_plain(name) and SUFFIX.fullmatch(obj.image.ext)):
            del index.objects[name]
            logger.warning("the index names an image outside of the folder, which is left out.")
            continue
        for tag, label in list(obj.labels.items()):
            if not (_is_plain(tag) and SUFFIX.fullmatch(label.ext)):
                del obj.labels[tag]
                logger.warning("the index names a label outside of the folder, which is left out.")
    return index


class ClassDatastore(ClassLabels):
    """A folder of images of every kind that the loader reads.

    Args:
        folder: folder with the images; images in its subfolders are not found.
        classes: the allowed names; empty: any.
        auto_reload: True to find images that are added later.
        read_only: True to never write the index.
        several: see :class:`ClassLabels`.
    """

    def __init__(
        self,
        folder: str,
        classes: tuple[str, ...] = (),
        auto_reload: bool = False,
        read_only: bool = False,
        several: bool = False,
    ) -> None:
        # Patterns for the watcher, which ignores the case.
        extensions = [f"*{suffix}" for suffix in IMAGE_SUFFIXES]
        super().__init__(folder, classes, several, extensions=extensions, auto_reload=auto_reload, read_only=read_only)

    def _to_id(self, file: str) -> tuple[str, str]:
        name = without_suffix(file)
        return (name, file[len(name) :]) if name != file else super()._to_id(file)

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        """List images as training does: suffixes in upper or lower case, no hidden files."""
        return {name: name for name in os.listdir(path) if is_image(Path(name))}

    def _reconcile_datastore(self) -> None:
        with self._change():
            # Somebody may have removed it.
            Path(self._datastore.label_path(FINAL)).mkdir(parents=True, exist_ok=True)
            # First restore missing label files: MONAI Label would remove their labels from the index.
            self._restore_label_files()
            super()._reconcile_datastore()
            if self._adopt_labels():
                self._update_datastore_file()

    def _own_file(self, image_id: str) -> str | None:
        return str(self.get_image_uri(image_id))

    def file_here(self, image_id: str) -> str | None:
        """Return the file of an image; None if it is gone."""
        return str(self.get_image_uri(image_id)) or None

    def _on_any_event(self, event: Any) -> None:
        self._watch(super()._on_any_event, event)

    def _on_modify_event(self, event: Any) -> None:
        self._watch(super()._on_modify_event, event)

    def _watch(self, act: Callable[[Any], None], event: Any) -> None:
        try:
            act(event)
        except Exception:
            # An error would end the thread that watches for new images. The next event tries again.
            logger.exception("a change in the folder of the images could not be processed")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an image. Sending the same file again changes nothing.

        Raises:
            HTTPException: 422 for a name with slashes or a file of an unknown kind; 409 when there is another image of
                this name, since its label would then belong to the wrong image.
        """
        check_name(image_id, "image")
        file = Path(image_filename)
        if not is_image(file):
            raise HTTPException(422, f"the file's name must end in one of {', '.join(IMAGE_SUFFIXES)}.")
        with self._change():
            return self._add_image(image_id, file, image_info)

    def _add_image(self, image_id: str, file: Path, image_info: dict[str, Any]) -> str:
        if image_id not in self._datastore.objects:
            # Somebody may have put it into the folder just now.
            self.refresh()
        if image_id in self._datastore.objects:
            if filecmp.cmp(file, self.get_image_uri(image_id), shallow=False):
                return image_id
            raise HTTPException(409, "there is another image of this name: choose another name, or remove that image.")
        _, suffix = self._to_id(file.name)
        name = self._filename(image_id, suffix)
        with atomic_write(Path(self._datastore.image_path(), name), file.stat().st_size, durable=True) as temporary:
            shutil.copyfile(file, temporary)
        info = {**image_info, "ts": int(time.time()), "name": name}
        self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=suffix))
        self._update_datastore_file()
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels."""
        self.check_image(image_id)
        with self._change():
            super().remove_image(image_id)
            self.refresh()
