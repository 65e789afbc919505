# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find the files of the DICOM series in a folder."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

from monai_fgssl.utils.errors import DataError

from .dicom_file import is_dicom, read_dicom_header
from .reasons import reason_of

__all__ = ["files_of_series"]

logger = logging.getLogger(__name__)


def files_of_series(folder: Path) -> list[Path]:
    """Find the DICOM images of the series in a folder.

    The export of a study may also contain other files. Reports and other DICOM files without an image, localizers, and
    series of a single image beside the series are left out, with a warning. Files that are not DICOM are ignored,
    unless they have the name of a DICOM file.

    Args:
        folder: folder with the files; files in its subfolders are ignored.

    Returns:
        Files, sorted by name.

    Raises:
        DataError: when there is no image, a file is damaged, or there are several series. The message continues a
            sentence that begins with the folder's name.
    """
    inside = sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    files = [one for one in inside if one.name != "DICOMDIR" and is_dicom(one)]
    if not files:
        raise DataError(
            f"is a folder without DICOM images ({len(inside)} files): name a file, or the folder of a series."
        )
    # After an interrupted copy, the series would look complete without these files.
    broken = [one.name for one in inside if one not in files and one.suffix.lower() == ".dcm"]
    if broken:
        raise DataError(f"has {broken[0]}, which is not a DICOM file, or is damaged.")

    series: defaultdict[str, list[Path]] = defaultdict(list)
    slices: defaultdict[str, int] = defaultdict(int)
    localizers: set[str] = set()
    for file in files:
        try:
            header = read_dicom_header(file, ("SeriesInstanceUID", "ImageType", "Rows", "NumberOfFrames"))
            if "Rows" not in header:
                continue
            uid = str(header.get("SeriesInstanceUID", ""))
            series[uid].append(file)
            slices[uid] += int(header.get("NumberOfFrames") or 1)
            if "LOCALIZER" in (header.get("ImageType") or ()):
                localizers.add(uid)
        except Exception as error:
            raise DataError(f"has {file.name}, which {reason_of(error)}") from error
    if not series:
        raise DataError(f"is a folder without DICOM images ({len(files)} DICOM files hold none).")
    chosen = set(series) if len(series) == 1 else {uid for uid in set(series) - localizers if slices[uid] > 1}
    if len(chosen) != 1:
        counts = ", ".join(str(len(of_series)) for of_series in series.values())
        raise DataError(
            f"has images of {len(series)} series ({counts} files): keep each series in a folder of its own."
        )
    (uid,) = chosen
    if len(series[uid]) < len(files):
        others = sum(len(of_series) for of_series in series.values()) - len(series[uid])
        logger.warning(
            f"{folder} has a series of {len(series[uid])} files; left out beside it: {others} of localizers and single "
            f"images, {len(files) - len(series[uid]) - others} DICOM files without an image."
        )
    return series[uid]
