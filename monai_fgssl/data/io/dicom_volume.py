# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read volumes from DICOM slices, one per file or all in one file, ordered by their position in the patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from monai_fgssl.utils.errors import DataError

from .dicom import frame_module, identifiers, is_inverted, read_frame, source_header
from .dicom_file import open_dicom
from .dicom_pixels import number_of_frames
from .display import StoredImage
from .reasons import reason_of
from .selection import choose

__all__ = ["read_dicom_volume"]

TOLERANCE = 0.1
"""Largest distance of a slice from its place on an even grid, as a share of the distance of slices. Positions are often
rounded."""
SAME = 1e-3
"""Largest difference between equal directions (cosines), spacings (mm) and positions (mm)."""
SERIES_KEYS = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality", "RescaleType", "Units")
"""Attributes that are the same in a whole volume. Tools that remove identifiers may give all series one UID."""
TIME_KEYS = ("TemporalPositionIdentifier", "TemporalPositionIndex", "EchoTime", "EffectiveEchoTime", "DiffusionBValue")
"""Attributes that are the same in all slices of one point in time, echo or direction."""


@dataclass(frozen=True)
class Slice:
    """A frame of a file and its place: lengths in mm, directions in the patient's axes of DICOM (LPS)."""

    path: Path
    frame: int
    name: str
    uid: str
    shape: tuple[int, int]
    position: NDArray[np.float64]
    directions: NDArray[np.float64]
    spacing: NDArray[np.float64]
    distance: float
    number: int | None
    is_inverted: bool
    is_rescaled: bool
    origin: dict[str, str]
    moment: dict[str, str]

    @property
    def height(self) -> float:
        """Position along the normal, in mm."""
        return float(self.position @ np.cross(*self.directions))


def read_dicom_volume(paths: Sequence[Path], time: int | None = None) -> StoredImage:
    """Read the slices of a series, or the frames of a file, as a volume.

    Slices are put in order along their normal by Image Position (Patient), whatever the names of the files and their
    Instance Numbers. They must lie on an even grid, which may be sheared (a tilted gantry). The distance of a single
    slice is its Spacing Between Slices, its Slice Thickness or 1 mm. Padding gets the darkest value of the data.

    Args:
        paths: files of one series with a slice each, or one file.
        time: number of the point in time, from 0, if each place has several images (as in a perfusion). They are
            ordered by their Instance Numbers, or as frames of one file.

    Returns:
        Gray values in the units of the modality, float32, ``(1, X, Y, Z)``: X runs along the columns, Y along the rows
        and Z from slice to slice, as in ITK and NIfTI. The affine is RAS, as in nibabel and MONAI. The headers are
        in the order of the slices; all after the first one have only identifiers.

    Raises:
        DataError: when a file can't be read, is there twice, is in color or belongs to another series; when slices
            differ in size, spacing or direction, or have no position; when a slice is missing. The message continues a
            sentence that begins with the name of the file or folder.

    Source: DICOM PS3.3, C.7.6.2.1.1; C.7.6.16.2.3 and C.7.6.16.2.4 for frames.
    """
    slices: list[Slice] = []
    headers: dict[Path, Dataset] = {}
    series: Counter[str] = Counter()
    for path in paths:
        try:
            header = open_dicom(path, headers_only=True)
            headers[path] = source_header(header)
            series[str(header.get("SeriesInstanceUID", ""))] += 1
            if len(paths) > 1 and number_of_frames(header) > 1:
                raise DataError(f"has {number_of_frames(header)} frames: name it alone.")
            slices += [_locate(path, header, frame) for frame in range(number_of_frames(header))]
        except Exception as error:
            raise _in_file(path, len(paths), error) from error
    if len(series) > 1:
        raise DataError(
            f"has images of {len(series)} series ({', '.join(map(str, series.values()))} files): keep each series in a "
            "folder of its own."
        )
    _check_alike(slices)
    slices = _choose_time(sorted(slices, key=lambda one: one.height), time)
    step = _even_step(slices)

    first = slices[0]
    in_order = list(dict.fromkeys(one.path for one in slices))
    rows, columns = first.shape
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    affine[:2] *= -1

    values = np.empty((1, columns, rows, len(slices)), dtype=np.float32)
    padding = np.zeros(values.shape, dtype=np.bool_)
    windows, opened = [], None
    for number, one in enumerate(slices):
        try:
            if one.path != opened:
                dataset, opened = open_dicom(one.path), one.path
            image = read_frame(dataset, one.frame)
            if len(image.values) != 1:
                raise DataError("is in color, but volumes are gray: read it with spatial_dims=2.")
        except Exception as error:
            raise _in_file(one.path, len(paths), error) from error
        values[0, :, :, number] = image.values[0].T
        if image.padding is not None:
            padding[0, :, :, number] = image.padding[0].T
        windows.append(image.voi)
    if padding.any() and not padding.all():
        # A network needs a value everywhere, and the range of the values must be that of the data.
        data = values[~padding]
        values[padding] = data.max() if image.inverted else data.min()
    return StoredImage(
        values,
        affine,
        None,
        voi=windows[0] if all(window == windows[0] for window in windows) else None,
        inverted=image.inverted,
        headers=[headers[first.path], *(identifiers(headers[path]) for path in in_order[1:])],
    )


def _in_file(path: Path, count: int, error: Exception) -> DataError:
    """Name the file that an error is about, unless there is only one."""
    return DataError(reason_of(error) if count == 1 else f"has {path.name}, which {reason_of(error)}")


def _locate(path: Path, header: Dataset, frame: int) -> Slice:
    """Read the place of a slice."""
    count = number_of_frames(header)
    if count > 1 and "PerFrameFunctionalGroupsSequence" not in header:
        raise DataError(
            f"has {count} frames and doesn't say where they are: read single frames with spatial_dims=2 and frame=0 to "
            f"{count - 1}."
        )
    module = frame_module(header, frame)
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    missing = [key for key in needed if key not in module]
    if missing:
        raise DataError(
            f"doesn't say where it is in the patient (no {', '.join(missing)}): read it with spatial_dims=2."
        )
    position, directions, spacing = (np.array(module[key].value, dtype=np.float64) for key in needed)
    directions = directions.reshape(2, 3)
    if not np.allclose(directions @ directions.T, np.eye(2), atol=SAME):
        raise DataError("has an ImageOrientationPatient that is not two perpendicular unit vectors.")
    return Slice(
        path=path,
        frame=frame,
        name=path.name if count == 1 else f"frame {frame}",
        uid=str(header.get("SOPInstanceUID", "")),
        shape=(int(header.Rows), int(header.Columns)),
        position=position,
        directions=directions,
        spacing=spacing,
        distance=abs(float(module.get("SpacingBetweenSlices", module.get("SliceThickness", 1)))) or 1.0,
        number=frame if count > 1 else header.get("InstanceNumber"),
        is_inverted=is_inverted(header),
        is_rescaled=bool(module.get("ModalityLUTSequence")) or "RescaleSlope" in module or "RescaleIntercept" in module,
        origin=_values_of([header], SERIES_KEYS),
        moment=_values_of([header, *_functional_groups(header, frame)], TIME_KEYS),
    )


def _functional_groups(header: Dataset, frame: int) -> list[Dataset]:
    """Items that tell the time, the echo and the direction of a frame; DICOM PS3.3, C.7.6.16.2.2, C.8.13.5.2 and 9."""
    groups = (header.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    names = ("FrameContentSequence", "MREchoSequence", "MRDiffusionSequence")
    return [item for group in groups for name in names for item in (group.get(name) or [])[:1]]


def _values_of(datasets: Sequence[Dataset], keys: Sequence[str]) -> dict[str, str]:
    values = {key: one[key].value for one in datasets for key in keys if key in one}
    return {key: str(value).strip() for key, value in values.items() if value not in (None, "")}


def _choose_time(slices: Sequence[Slice], time: int | None) -> list[Slice]:
    """Choose one slice for each place, from slices in the order of their height.

    Raises:
        DataError: when a time must be chosen, or the number of slices is not the same in every place.
    """
    places: list[list[Slice]] = []
    for one in slices:
        if places and one.height - places[-1][0].height < SAME:
            places[-1].append(one)
        else:
            places.append([one])
    counts = [len(place) for place in places]
    if max(counts) == 1:
        choose(1, time, "time", "images in each place")
        return list(slices)
    several = next(place for place in places if len(place) > 1)
    if min(counts) != max(counts) or len({one.uid for one in slices}) not in (1, len(slices)):
        raise DataError(
            f"has several slices in the same place, such as {several[0].name} and {several[1].name}: copies, "
            "points in time, echoes or directions, and not the same number in every place. Put each into a "
            "folder of its own."
        )
    if any(len({one.number for one in place} - {None}) < len(place) for place in places):
        raise DataError(
            f"has {counts[0]} images in each place, such as {several[0].name} and {several[1].name}, and their "
            "Instance Numbers (0020,0013) do not tell them apart: put each time, echo or direction into a folder of "
            "its own."
        )
    number = choose(counts[0], time, "time", "images in each place (times, echoes or directions)")
    chosen = [sorted(place, key=lambda one: one.number or 0)[number] for place in places]
    for key in TIME_KEYS:
        if len({one.moment[key] for one in chosen if key in one.moment}) > 1:
            raise DataError(
                f"has {counts[0]} images in each place, and their order is not the same in every place: time={number} "
                f"would mix several values of {key}. Put each time, echo or direction into a file or folder of its own."
            )
    return chosen


def _check_alike(slices: Sequence[Slice]) -> None:
    """Refuse slices of different size, spacing, direction or meaning of their values."""
    first = slices[0]
    for one in slices:
        if one.shape != first.shape:
            raise DataError(
                f"has slices of different size: {first.name} of {first.shape[1]} x {first.shape[0]} and {one.name} of "
                f"{one.shape[1]} x {one.shape[0]} pixels."
            )
        if not np.allclose(one.spacing, first.spacing, atol=SAME):
            raise DataError(f"has slices of different pixel spacing: {first.name} and {one.name}.")
        if not np.allclose(one.directions, first.directions, atol=SAME):
            raise DataError(f"has slices in different directions, as localizers do: {first.name} and {one.name}.")
        known = one.origin.keys() & first.origin.keys()
        if differing := [key for key in SERIES_KEYS if key in known and one.origin[key] != first.origin[key]]:
            raise DataError(
                f"has slices of different {differing[0]}: {first.name} and {one.name}. Put each into a folder of its "
                "own."
            )
        if one.is_inverted != first.is_inverted:
            raise DataError(f"has slices of MONOCHROME1 and of other colors: {first.name} and {one.name}.")
        if one.is_rescaled != first.is_rescaled:
            raise DataError(
                f"has slices with and without a rescale (0028,1053), whose units differ: {first.name} and {one.name}."
            )


def _even_step(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Check that slices, in order, form an even grid. Returns the step from one slice to the next, ``(3,)``."""
    if len(slices) == 1:
        first = slices[0]
        return np.cross(*first.directions) * first.distance

    gaps = np.diff([one.height for one in slices])
    positions = np.array([one.position for one in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    even = positions[0] + np.arange(len(slices))[:, None] * step
    if np.linalg.norm(positions - even, axis=1).max() > TOLERANCE * np.linalg.norm(step):
        here = int(gaps.argmax())
        raise DataError(
            f"has slices at uneven distances, from {gaps.min():.4g} mm to {gaps.max():.4g} mm (between "
            f"{slices[here].name} and {slices[here + 1].name}): one may be missing."
        )
    return step
