# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Reason why a file can't be read, as a sentence that follows its name."""

from __future__ import annotations

import re

from PIL import Image

from monai_fgssl.utils.errors import DataError

__all__ = ["reason_of"]


def reason_of(error: Exception) -> str:
    """Turn an error into a sentence that follows the name of the file.

    Example:
        >>> reason_of(FileNotFoundError())
        'does not exist.'
    """
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "does not exist."
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)."
    if isinstance(error, Image.UnidentifiedImageError):
        return (
            "is nothing that can be read: DICOM, NIfTI, NRRD, MetaImage, TIFF, PNG, JPEG, JPEG 2000, WebP, BMP, GIF or "
            "PNM."
        )
    if isinstance(error, Image.DecompressionBombError):
        return f"is too large for Pillow ({error}): save it as PNG or TIFF, which have no such limit."
    if isinstance(error, NotImplementedError):
        return f"is in a form that is not supported: {' '.join(str(error).split())[:300]}"
    # ITK's messages begin with a place in its source. Its MetaImage reader gives this reason for any damage.
    message = re.split(r"(?:ITK |itk::)ERROR: \w+\(\w+\): ", str(error))[-1].replace(
        "Reason: No such file or directory", ""
    )
    return f"is damaged, or not what it says it is: {' '.join(message.split())[:300] or type(error).__name__}"
