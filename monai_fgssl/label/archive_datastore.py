# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data store of MONAI Label for an archive behind DICOMweb. Each image has one class, or findings.

The index of the local cache holds the labels. The archive holds a structured report of each label, and a new cache
reads the labels from these reports. The index also lists the images, and marks each label whose report the archive
does not have yet. A background thread talks to the archive (:meth:`ClassDICOMWebDatastore.start`), so that no request
waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.utils.others.generic import md5_digest
from pydicom.filewriter import dcmwrite

from monai_fgssl.data import DataError
from monai_fgssl.data.io.dicom_file import open_dicom
from monai_fgssl.report.dicom.secondary_capture import SERIES_DESCRIPTION as HEAT_MAP_DESCRIPTION
from monai_fgssl.utils.errors import StorageError
from monai_fgssl.utils.files import atomic_write, temporary_folder

from .answers import ASKED, Answers, answers_of
from .archive import unreachable
from .datastore import CLASS, FINAL, ClassLabels, check_name
from .structured_report import SERIES_DESCRIPTION, make_label_report, read_label_report

__all__ = ["ClassDICOMWebDatastore"]

logger = logging.getLogger(__name__)

UID = re.compile(r"(?=.{1,64}$)[0-9]+(?:\.[0-9]+)*")
SECONDS_BETWEEN = 60.0
"""Seconds between two queries of the archive."""

SECONDS_AWAY = 10.0
"""Seconds between two attempts to reach an archive that does not answer."""

TIME = "%Y%m%d%H%M%S.%f"
"""DICOM's format of a local time. Times in this format can be sorted as text."""

STUDY = "study"
"""Key of an image's information: its Study Instance UID. Only images that the archive lists have it."""

UNSENT = "unsent"
"""Key of a label's information: the time when it was saved. It is removed once the archive has the report."""

UNSENDABLE = "unsendable"
"""Key of a label's information: the reason why no report of it can be made."""

REMOVED = "label_removed"
MODALITIES = {
    2: ("XC", "DMS", "OP", "ES", "GM", "OT", "DX", "CR", "MG", "US"),
    3: ("CT", "MR", "PT"),
}
"""Modalities to search for, by number of dimensions. If the server's search filter is set, it is used instead."""

STOCK_FILTER = {"Modality": "CT"}
SAVED_AT_ONCE = 100
"""Number of reports that are read before their list is saved. After a crash, at most this many are read again."""


class ClassDICOMWebDatastore(ClassLabels, DICOMWebDatastore):
    """An archive behind DICOMweb; each series is an image.

    Args:
        client: client of the archive.
        search_filter: filter for the series that are images. MONAI Label's default (CT) is replaced by all modalities
            of pictures or of volumes.
        cache_path: folder for fetched files and the index.
        classes: the allowed names; empty: any.
        spatial_dims: 2 for pictures, 3 for volumes.
        several: see :class:`~monai_fgssl.label.datastore.ClassLabels`.
    """

    def __init__(
        self,
        client: Any,
        search_filter: dict[str, Any],
        cache_path: str | None,
        classes: tuple[str, ...] = (),
        spatial_dims: int = 2,
        several: bool = False,
    ) -> None:
        self._client = client
        self._filters = (
            [{"Modality": name} for name in MODALITIES[spatial_dims]]
            if search_filter == STOCK_FILTER
            else [search_filter]
        )
        self._fetching = threading.Lock()
        # Only one round runs at a time: that of the thread, or one that a request started.
        self._asking = threading.Lock()
        self._wanted = threading.Event()
        self._away_since: datetime | None = None
        self._unread = 0
        # False at first, since an earlier server may have ended before it had read all reports.
        self._has_taken_over = False
        root = Path(cache_path) if cache_path else Path.home() / ".cache" / "monailabel" / "dicom"
        folder = root / md5_digest(client.base_url)
        # Image, time and class or answers of each report that was read, by its Series Instance UID; None: it holds no
        # label.
        self._reports_file = folder / "reports.json"
        self._reports = _read_reports_file(self._reports_file)
        # No other program writes into the cache, so it need not be watched.
        ClassLabels.__init__(self, str(folder), classes, several, auto_reload=False)
        if not self._known_images():
            with _or_later():
                self._list_series()

    def start(self) -> None:
        """Start the thread that exchanges images and labels with the archive."""
        threading.Thread(target=self._keep_up, daemon=True, name="archive").start()

    def _keep_up(self) -> None:
        while True:
            with _or_later():
                self.refresh()
            # Wait for the next round. A label that is saved meanwhile is sent at once.
            while self._wanted.wait(SECONDS_AWAY if self._away_since else SECONDS_BETWEEN):
                self._wanted.clear()
                with _or_later(), self._asking:
                    self._send_labels()

    def refresh(self) -> None:
        """Exchange images and labels with the archive now.

        Raises:
            HTTPException: 503 when it does not answer.
        """
        with self._asking:
            self._send_labels()
            self._list_series()
            self._read_reports()

    def notices(self) -> list[str]:
        """Sentences about the state of the archive, for the page."""
        with self._changing:
            labels = [obj.labels[FINAL].info for obj in self._datastore.objects.values() if FINAL in obj.labels]
        unsent = sum(UNSENT in info for info in labels)
        found = []
        if self._away_since:
            found.append(f"The archive has not answered since {self._away_since:%H:%M}.")
        if unsent:
            found.append(f"{unsent} {'label waits' if unsent == 1 else 'labels wait'} to be sent to the archive.")
        if self._unread:
            found.append(f"{self._unread} labels in the archive are not read yet.")
        return found

    # ---------------------------------------------------------------- the archive, in its thread

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Ask the archive, and remember whether it answers.

        Raises:
            HTTPException: 503 when it does not answer.
        """
        try:
            yield
        except requests.RequestException as error:
            self._away_since = self._away_since or datetime.now()
            status = error.response.status_code if error.response is not None else "no answer"
            logger.warning("the archive can't be used: %s (%s)", status, type(error).__name__)
            raise unreachable() from error
        self._away_since = None

    def _list_series(self) -> None:
        found: dict[str, str] = {}
        with self._asked():
            for search_filter in self._filters:
                for series in self._search(search_filter):
                    # This package's heat maps are pictures too, but nobody labels them.
                    if series.description != HEAT_MAP_DESCRIPTION:
                        found[series.uid] = series.study
        with self._change():
            objects = self._datastore.objects
            for name in found.keys() - objects.keys():
                objects[name] = ImageLabelModel(image=DataModel())
            changed = False
            for name, obj in objects.items():
                # An image that is not listed any more keeps its label.
                if obj.image.info.get(STUDY) != found.get(name):
                    obj.image.info.pop(STUDY, None)
                    if name in found:
                        obj.image.info[STUDY] = found[name]
                    changed = True
            if self._adopt_labels() or changed:
                self._update_datastore_file()

    def _search(self, search_filter: dict[str, Any]) -> Iterator[_Series]:
        """Search page by page: archives limit the number of results, and do not say that there are more."""
        seen: set[str] = set()
        while True:
            answer = self._client.search_for_series(search_filters=search_filter, offset=len(seen) or None)
            new = [series for series in map(_Series, answer) if series.uid not in seen]
            if not new:
                return
            seen.update(series.uid for series in new)
            yield from (series for series in new if series.is_valid())

    def _read_reports(self) -> None:
        """Read new reports. An image without a label here takes the label of its newest report."""
        wanted = {"Modality": "SR", "SeriesDescription": SERIES_DESCRIPTION}
        with self._asked():
            # An archive may ignore a part of the filter.
            listed = [series for series in self._search(wanted) if series.description in (None, SERIES_DESCRIPTION)]
        new = [series for series in listed if series.uid not in self._reports]
        for number, series in enumerate(new):
            self._unread = len(new) - number
            with self._asked():
                reports = self._client.retrieve_series(series.study, series.uid)
            read = [(image, when, label) for image, label, when in filter(None, map(read_label_report, reports))]
            self._reports[series.uid] = max(read, key=lambda one: one[1], default=None)
            if number % SAVED_AT_ONCE == SAVED_AT_ONCE - 1:
                self._save_reports()
        self._unread = 0
        # Forget reports that were deleted from the archive.
        gone = self._reports.keys() - {series.uid for series in listed}
        for uid in gone:
            del self._reports[uid]
        if new or gone:
            self._save_reports()
        if new or gone or not self._has_taken_over:
            # Only after all reports were read: the last one may be the newest of its image.
            self._take_over()
            self._has_taken_over = True

    def _save_reports(self) -> None:
        with atomic_write(self._reports_file) as temporary:
            temporary.write_text(json.dumps(self._reports), encoding="utf-8")

    def _take_over(self) -> None:
        newest: dict[str, tuple[str, str | Answers]] = {}
        for report in filter(None, self._reports.values()):
            image, when, label = report
            newest[image] = max(newest.get(image, ("", "")), (when, label), key=lambda one: one[0])
        with self._change():
            taken = False
            for image, (when, label) in newest.items():
                obj = self._datastore.objects.get(image)
                if obj is None or FINAL in obj.labels or when <= obj.image.info.get(REMOVED, ""):
                    continue
                try:
                    self._put_label(image, self._taken(label))
                    taken = True
                except HTTPException:
                    # The report was made for another list of classes.
                    continue
            if taken:
                self._update_datastore_file()

    def _taken(self, label: str | Answers) -> dict[str, Any]:
        """Information of the label of a report.

        Raises:
            HTTPException: when the report was made for another kind of labels, or for another list of classes.
        """
        if isinstance(label, str):
            return {CLASS: self.check_class(label)}
        found = self.check_class([name for name, is_there in label.items() if is_there])
        return {CLASS: found, ASKED: list(label)}

    def _send_labels(self) -> None:
        """Send a report of each label that the archive does not have.

        Raises:
            HTTPException: 503 when it does not answer.
        """
        with self._changing:
            unsent = {
                name: dict(obj.labels[FINAL].info)
                for name, obj in self._datastore.objects.items()
                if FINAL in obj.labels and UNSENT in obj.labels[FINAL].info
            }
        for image_id, info in unsent.items():
            problem = None
            try:
                report = self._make_report(image_id, info)
                with self._asked():
                    self._store(report)
                sent = self._content_of(info)
                self._reports[str(report.SeriesInstanceUID)] = image_id, info[UNSENT], sent
            except _RefusedError as error:
                # Only this label is concerned, and the next attempt may succeed.
                logger.warning("the archive did not take a label, which is kept here: %s", error)
                continue
            except HTTPException as error:
                if error.status_code == 503:
                    raise
                problem = error.detail
            except StorageError:
                # The disk is full. The next round tries again.
                raise
            except (DataError, ImportError, OSError, KeyError, ValueError) as error:
                problem = str(error)
            if problem:
                # The reason may name a file, so it goes into the index and not into the log.
                logger.warning("a label is kept here only, since no report of it can be made.")
            self._mark_as_sent(image_id, info[UNSENT], problem)

    def _mark_as_sent(self, image_id: str, saved: str, problem: str | None) -> None:
        with self._change():
            obj = self._datastore.objects.get(image_id)
            label = obj.labels.get(FINAL) if obj else None
            # If the label has changed meanwhile, the new one is sent in the next round.
            if label is None or label.info.get(UNSENT) != saved:
                return
            del label.info[UNSENT]
            if problem:
                label.info[UNSENDABLE] = problem
            self._update_datastore_file()

    def _make_report(self, image_id: str, info: dict[str, Any]) -> Any:
        uri = Path(self.get_image_uri(image_id))
        files = sorted(uri.iterdir()) if uri.is_dir() else [uri]
        headers = [open_dicom(file, headers_only=True) for file in files]
        saved = datetime.strptime(info[UNSENT], TIME)
        return make_label_report(headers, self._content_of(info), self.classes, info.get("observer"), saved)

    def _content_of(self, info: dict[str, Any]) -> str | Answers:
        """Class or answers of a label, as a report has them."""
        return answers_of(info[CLASS], info.get(ASKED)) if self.several else str(info[CLASS])

    def _store(self, report: Any) -> None:
        try:
            answer = self._client.store_instances([report])
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code < 500:
                raise _RefusedError(f"status {error.response.status_code}") from error
            raise
        if answer is not None and answer.get("FailedSOPSequence"):
            raise _RefusedError(f"reason {answer.FailedSOPSequence[0].get('FailureReason')}")

    # ---------------------------------------------------------------- images

    def _known_images(self) -> list[str]:
        return [name for name, obj in list(self._datastore.objects.items()) if STUDY in obj.image.info]

    def list_images(self) -> list[str]:
        """List the Series Instance UIDs of all known images.

        Raises:
            HTTPException: 503 if no image is known because the archive has never answered.
        """
        names = self._known_images()
        if not names and self._away_since:
            raise unreachable()
        return names

    def _reconcile_datastore(self) -> None:
        # All images in the archive count, fetched or not.
        self._init_from_datastore_file()

    def file_here(self, image_id: str) -> str | None:
        """Return the file of a series, or its folder if it has several files; None if it was not fetched yet."""
        folder = Path(os.path.realpath(self._datastore.image_path()), image_id)
        return _file_or_folder(folder) if folder.is_dir() else None

    def get_image_uri(self, image_id: str) -> str:
        """Return the file of a series, or its folder if it has several files. Fetch it first if needed.

        Raises:
            HTTPException: 404 for an unknown series; 503 when the archive does not answer.
        """
        self.check_image(image_id)
        folder = Path(os.path.realpath(self._datastore.image_path()), image_id)
        with self._fetching:
            if not folder.is_dir():
                self._fetch(image_id, folder)
        return _file_or_folder(folder)

    def _fetch(self, image_id: str, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A training may fetch the same series at the same time.
        with temporary_folder(folder) as unfinished:
            with self._asked():
                for instance in self._client.retrieve_series(self._study_of(image_id), image_id):
                    uid = str(instance.SOPInstanceUID)
                    if not UID.fullmatch(uid):
                        raise HTTPException(422, "the series has a SOP Instance UID that is not valid.")
                    dcmwrite(Path(unfinished, f"{uid}.dcm"), instance, write_like_original=False)
            with suppress(OSError):
                os.rename(unfinished, folder)
        if not folder.is_dir():
            raise OSError(f"{folder.name} could not be written")

    def _study_of(self, image_id: str) -> str:
        return str(self._datastore.objects[image_id].image.info[STUDY])

    def check_image(self, image_id: str) -> None:
        """Raise an error (404) for a series that the archive does not list."""
        obj = self._datastore.objects.get(image_id)
        if obj is None or STUDY not in obj.image.info:
            self.list_images()
            raise HTTPException(404, "the archive has no such series among the images.")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Information that is stored with an image."""
        obj = self._datastore.objects.get(image_id)
        return dict(obj.image.info) if obj else {}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Change the information that is stored with an image."""
        super().update_image_info(
            image_id, {name: value for name, value in info.items() if name not in (STUDY, REMOVED)}
        )

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refuse: images are sent to the archive, not to this server."""
        raise HTTPException(422, "send images to the archive itself (STOW-RS or C-STORE).")

    def remove_image(self, image_id: str) -> None:
        """Refuse: images are deleted in the archive itself."""
        raise HTTPException(422, "images are deleted in the archive itself.")

    # ---------------------------------------------------------------- labels

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images with a class."""
        return list(self.labeled())

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images without a class."""
        return [name for name in self.list_images() if self.class_of(name) is None]

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """The label file."""
        check_name(label_tag, "tag")
        return str(LocalDatastore.get_label_uri(self, label_id, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Labeled images and their label files."""
        return [
            {"image": self.get_image_uri(name), "label": self.get_label_uri(name, FINAL)} for name in self.labeled()
        ]

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Save a label in the index. Its report is sent as soon as the archive accepts it."""
        if label_tag == FINAL:
            kept = {name: value for name, value in (label_info or {}).items() if name != UNSENDABLE}
            label_info = {**kept, UNSENT: self._time_after_others(image_id)}
        saved = super().save_label(image_id, label_filename, label_tag, label_info)
        self._wanted.set()
        return saved

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label from the index. Its reports stay in the archive, but are ignored from now on."""
        self.check_image(label_id)
        with self._change():
            self.check_image(label_id)
            obj = self._datastore.objects[label_id]
            if label_tag == FINAL and FINAL in obj.labels:
                obj.image.info[REMOVED] = self._time_after_others(label_id)
            super().remove_label(label_id, label_tag)

    def _time_after_others(self, image_id: str) -> str:
        """Return the time now. If the clock was set back, return a time just after the image's last change."""
        now = datetime.now().strftime(TIME)
        known: list[Any] = [report[1] for report in list(self._reports.values()) if report and report[0] == image_id]
        obj = self._datastore.objects.get(image_id)
        if obj is not None:
            label = obj.labels.get(FINAL)
            known += [obj.image.info.get(REMOVED), label.info.get(UNSENT) if label else None]
        latest = max((when for when in known if isinstance(when, str)), default="")
        if latest >= now:
            with suppress(ValueError):
                return (datetime.strptime(latest, TIME) + timedelta(microseconds=1)).strftime(TIME)
        return now


def _file_or_folder(folder: Path) -> str:
    files = sorted(folder.iterdir())
    return str(files[0] if len(files) == 1 else folder)


class _RefusedError(Exception):
    """Reason why the archive refuses a report."""


class _Series:
    """A series in a search result. It is read without pydicom, since there may be ten thousand every minute."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.uid = str(_value(found, "0020000E"))
        self.study = str(_value(found, "0020000D"))
        self.description = _value(found, "0008103E")

    def is_valid(self) -> bool:
        """Tell whether its identifiers are valid UIDs. They become names of folders."""
        return UID.fullmatch(self.uid) is not None and UID.fullmatch(self.study) is not None


def _value(found: dict[str, Any], tag: str) -> Any:
    values = found.get(tag, {}).get("Value") or [None]
    return values[0]


def _read_reports_file(path: Path) -> dict[str, tuple[str, str, str | Answers] | None]:
    """Read the list of known reports. If it is damaged, all are read from the archive again."""
    known: dict[str, tuple[str, str, str | Answers] | None] = {}
    for uid, report in _read_json(path).items():
        if report is None:
            known[uid] = None
        elif isinstance(report, list) and len(report) == 3 and _is_report(*report):
            known[uid] = report[0], report[1], report[2]
    return known


def _is_report(image: Any, when: Any, label: Any) -> bool:
    are_answers = isinstance(label, dict) and all(isinstance(answer, bool) for answer in label.values())
    return isinstance(image, str) and isinstance(when, str) and (isinstance(label, str) or are_answers)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        logger.warning("%s is damaged: all reports are read again.", path.name)
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def _or_later() -> Iterator[None]:
    """Log an error and go on. The next round tries again."""
    try:
        yield
    except HTTPException as error:
        logger.warning("%s", error.detail)
    except Exception:
        logger.exception("keeping up with the archive failed")
