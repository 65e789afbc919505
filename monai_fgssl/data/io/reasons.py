# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Explain why a file can't be read, in a sentence that begins with its name."""

from __future__ import annotations

import logging
import re
from errno import ELOOP, ENAMETOOLONG

from PIL import Image

from monai_fgssl.utils.errors import DataError, printable

__all__ = ["failure_of", "reason_of"]

logger = logging.getLogger(__name__)


def failure_of(path: object, error: BaseException) -> str:
    """Name a file and the reason why it can't be read, whatever error was raised.

    Args:
        path: file that was read.
        error: the caught error. If MONAI's transforms have wrapped an error, the wrapped one is used.
    """
    while error.__cause__ is not None and not isinstance(error, DataError):
        error = error.__cause__
    if isinstance(error, DataError):
        return printable(str(error))
    if isinstance(error, (OSError, MemoryError)):
        return printable(f"{path} {reason_of(error)}")
    # Nobody expected this error, so log its traceback.
    logger.debug(f"{path} can't be read", exc_info=error)
    return printable(f"{path} can't be read ({type(error).__name__}: {' '.join(str(error).split())[:300]}).")


def reason_of(error: BaseException) -> str:
    """Turn an error into the rest of a sentence that begins with the file's name.

    Example:
        >>> reason_of(FileNotFoundError())
        'does not exist.'
    """
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "does not exist."
    if isinstance(error, MemoryError):
        return "needs more memory than there is: free some, or make it smaller."
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
        return "has a name that is too long for this system: give it a shorter one."
    if isinstance(error, OSError) and error.errno == ELOOP:
        return "is a link that leads to itself."
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)."
    if isinstance(error, Image.UnidentifiedImageError):
        return (
            "is not in a supported format (DICOM, NIfTI, NRRD, MetaImage, TIFF, PNG, JPEG, JPEG 2000, WebP, BMP, GIF "
            "or PNM)."
        )
    if isinstance(error, Image.DecompressionBombError):
        return f"is too large for Pillow ({error}): save it as PNG or TIFF, which have no such limit."
    if isinstance(error, NotImplementedError):
        return f"is in a form that is not supported: {' '.join(str(error).split())[:300]}"
    # Remove the place in ITK's source from its message, and the reason that its MetaImage reader gives for any damage.
    message = re.split(r"(?:ITK |itk::)ERROR: \w+\(\w+\): ", str(error))[-1].replace(
        "Reason: No such file or directory", ""
    )
    return f"is damaged, or not what it says it is: {' '.join(message.split())[:300] or type(error).__name__}"
