# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Download files of a data set from its makers, and check them. No file is ever there half-written."""

from __future__ import annotations

import re
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import monai.apps.utils
from monai.apps.utils import check_hash, download_url, extractall

from monai_fgssl.utils.errors import DataError, StorageError
from monai_fgssl.utils.files import atomic_write, temporary_folder

__all__ = ["download_file"]

# MONAI's error for a checksum that differs. Up to 1.6.0 it is a plain RuntimeError.
HashCheckError = getattr(monai.apps.utils, "HashCheckError", RuntimeError)


def download_file(url: str, folder: str | Path, md5: str | None = None, progress: bool = True) -> Path:
    """Download a file, and unpack it if it is a zip archive.

    A file or an unpacked folder that exists already is not downloaded again, so you may also put an archive there by
    hand. An interrupted run leaves no half-written file. MONAI's downloader can't continue an interrupted download, and
    needs room for the file in the folder for temporary files (``TMPDIR``).

    These are checked: the size, if the server sends it; the MD5, if it is known or the server sends it (the ETag of
    Amazon S3, for files that were uploaded in one piece); and the checksum of each file in an archive.

    Args:
        url: address of the file.
        folder: folder to write to; it is made if it is missing. An archive ``a.zip`` is unpacked into ``folder/a/``,
            whether its files are in a folder ``a/`` already or not, and stays beside it.
        md5: known checksum.
        progress: show a bar.

    Returns:
        File, or unpacked folder.

    Raises:
        DataError: when the server can't be reached, has no such file or breaks off, or when the file is damaged.
    """
    folder = Path(folder)
    file = folder / url.rpartition("/")[2]
    unpacked = file.with_suffix("")
    if file.suffix == ".zip" and unpacked.is_dir():
        return unpacked
    if not file.is_file():
        _download(url, file, md5, progress)
    elif md5 is not None and not check_hash(file, md5, "md5"):
        raise DataError(f"{file} is damaged: its MD5 is not {md5}. Delete it and run again.")
    if file.suffix != ".zip":
        return file
    _unpack(file, unpacked)
    return unpacked


def _download(url: str, file: Path, md5: str | None, progress: bool) -> None:
    try:
        with atomic_write(file) as temporary:
            download_url(url, temporary, hash_val=md5 or _published_md5(url), hash_type="md5", progress=progress)
            if not temporary.is_file():
                # MONAI ignores a PermissionError.
                raise PermissionError(f"{file.parent} or the folder for temporary files can't be written to")
    except HTTPError as error:
        raise DataError(f"{url} can't be downloaded: the server answers {error.code} {error.reason}.") from error
    except HashCheckError as error:
        raise DataError(f"{url} arrived damaged (its MD5 is not the published one): try again.") from error
    except (OSError, HTTPException) as error:
        # URLError, ContentTooShortError and errors of the disk.
        raise DataError(f"{url} can't be downloaded into {file.parent}: {error}. Try again.") from error


def _published_md5(url: str) -> str | None:
    with urlopen(Request(url, method="HEAD"), timeout=60) as response:
        tag = response.headers.get("ETag", "").strip('"')
    # The ETag of a file that was uploaded in pieces ends in a dash and a number, and is not an MD5.
    return tag if re.fullmatch("[0-9a-f]{32}", tag) else None


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with temporary_folder(folder) as temporary:
            extractall(archive, temporary, has_base=False)
            inner = temporary / folder.name
            (inner if inner.is_dir() else temporary).rename(folder)
    except StorageError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise DataError(f"{archive} can't be unpacked ({error}): delete it and run again.") from error
