# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Answers that are pictures of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import HTTPException
from fastapi.responses import Response

from monai_fgssl.bundle import SettingsError
from monai_fgssl.data import DataError
from monai_fgssl.label.model import without_folder

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["answer_picture"]


def answer_picture(app: FGSSLApp, image_id: str, draw: Callable[[str], bytes], kind: str = "image/png") -> Response:
    """Answer with a picture of an image.

    Args:
        app: whose image it is.
        image_id: of the image.
        draw: makes the picture's file out of the image's.
        kind: of the picture.

    Raises:
        HTTPException: 404 for an unknown image, 409 without a model that the picture needs, 422 for an image that can't
            be read.
    """
    app.datastore().check_image(image_id)
    path = app.datastore().get_image_uri(image_id)
    try:
        content = draw(path)
    except SettingsError as error:
        raise HTTPException(409, str(error)) from error
    except (DataError, OSError) as error:
        raise HTTPException(422, f"the image can't be read: {without_folder(error, path)}") from error
    return Response(content, media_type=kind, headers={"Cache-Control": "no-store"})
