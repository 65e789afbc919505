# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Answers that are pictures of an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import HTTPException
from fastapi.responses import Response

from monai_fgssl.bundle import SettingsError
from monai_fgssl.data import DataError
from monai_fgssl.label.model import without_folder

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["answer_picture", "image_file"]


@contextmanager
def image_file(app: FGSSLApp, image_id: str) -> Iterator[str]:
    """Yield the file or folder of an image, and turn errors in drawing it into answers.

    Args:
        app: app whose image is drawn.
        image_id: id of the image.

    Raises:
        HTTPException: 404 for an image, class, stage, slice or region that does not exist; 409 if the picture needs a
            model and there is none; 422 for an image that can't be read.
    """
    app.datastore().check_image(image_id)
    path = app.datastore().get_image_uri(image_id)
    try:
        yield path
    except SettingsError as error:
        raise HTTPException(409, str(error)) from error
    except LookupError as error:
        raise HTTPException(404, str(error)) from error
    except (DataError, OSError) as error:
        if isinstance(error, DataError):
            app.readable.remember(image_id, path, error)
        raise HTTPException(422, f"the image can't be read: {without_folder(error, path)}") from error


def answer_picture(content: bytes, kind: str = "image/png", **headers: str) -> Response:
    """Answer with a picture that browsers must not cache.

    Args:
        content: content of the picture's file.
        kind: media type of the file.
        headers: more headers, with ``_`` for ``-`` in their names.
    """
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(content, media_type=kind, headers={"Cache-Control": "no-store", **named})
