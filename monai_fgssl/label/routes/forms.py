# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read the content of requests: JSON, and uploaded files."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException, UploadFile
from starlette.concurrency import run_in_threadpool

from monai_fgssl.data import DataError
from monai_fgssl.data.io.detached import pixel_files
from monai_fgssl.data.io.reader import kind_of
from monai_fgssl.data.layouts.image_files import without_suffix
from monai_fgssl.utils.files import from_json

__all__ = ["check_image_file", "json_object", "received", "suffix_of"]

SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


def json_object(text: str, name: str) -> dict[str, Any]:
    """Parse the JSON object in a field of a form.

    Raises:
        HTTPException: 422 for anything else.
    """
    try:
        value = from_json(text or "{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"{name} must be a JSON object.") from error
    if not isinstance(value, dict):
        raise HTTPException(422, f"{name} must be a JSON object.")
    return value


def suffix_of(name: str | None) -> str:
    """Return the suffix of an uploaded file's name. No other part of the name is used."""
    name = Path(name or "").name
    image = name.removeprefix(without_suffix(name))
    return image.lower() or (suffix if SUFFIX.fullmatch(suffix := Path(name).suffix) else "")


@asynccontextmanager
async def received(*files: UploadFile, names: Sequence[str] = ()) -> AsyncIterator[list[Path]]:
    """Save the uploads of a request in a temporary folder, which is removed afterwards in any case.

    Args:
        files: the uploads.
        names: plain names for the files; by default ``upload`` and their own suffix.
    """
    names = names or [f"upload{suffix_of(file.filename)}" for file in files]
    with tempfile.TemporaryDirectory(prefix="fgssl-upload-") as folder:
        paths = [Path(folder, name) for name in names]
        for file, path in zip(files, paths, strict=True):
            await run_in_threadpool(_copy, file, path)
        yield paths


def _copy(file: UploadFile, path: Path) -> None:
    with open(path, "xb") as out:
        shutil.copyfileobj(file.file, out)


def check_image_file(path: Path) -> None:
    """Refuse a header that takes its pixels from other files: these would be files of the server.

    Raises:
        HTTPException: 422.
    """
    try:
        names = pixel_files(path) if kind_of(path) in ("MetaImage", "NRRD") else []
    except (DataError, OSError, EOFError) as error:
        raise HTTPException(422, f"the image can't be read: {str(error).replace(str(path), path.name)}") from error
    if names:
        raise HTTPException(
            422,
            f"the image can't be read: its header takes the pixels from another file ({names[0][:80]}). Save it as one "
            "file (.mha, or .nrrd with its data in it).",
        )
