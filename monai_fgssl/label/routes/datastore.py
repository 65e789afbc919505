# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Routes that change images and labels of the data store, and download all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import User
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from monai_fgssl.data.layouts.image_files import without_suffix
from monai_fgssl.label.datastore import FINAL

from .forms import check_image_file, json_object, received
from .roles import ANNOTATOR

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["make_datastore_router"]


def make_datastore_router(app: FGSSLApp) -> APIRouter:
    """``PUT /datastore/image``, ``.../label`` and their information, and ``GET /datastore/dataset``.

    Args:
        app: app whose data store the routes serve.
    """
    router = APIRouter(prefix="/datastore", tags=["Datastore"])

    def by(user: User, text: str, name: str) -> dict[str, Any]:
        """Information that came with an image or a label, and the user who sent it."""
        info = json_object(text, name)
        # Without users MONAI Label calls everybody "admin".
        if not settings.MONAI_LABEL_AUTH_ENABLE:
            return info
        return {**info, "user": user.username, "observer": user.name or user.username}

    # These run in the event loop, so that only one thread uses the data store.
    @router.put("/", include_in_schema=False, deprecated=True)
    @router.put("/image")
    async def add_image(
        file: Annotated[UploadFile, File()],
        image: str | None = None,
        params: Annotated[str, Form()] = "{}",
        user: User = ANNOTATOR,
    ) -> dict[str, str]:
        info = by(user, params, "params")
        async with received(file) as (path,):
            await run_in_threadpool(check_image_file, path)
            name = image or without_suffix(Path(file.filename or "").name)
            return {"image": app.datastore().add_image(name, str(path), info)}

    @router.put("/image/info")
    async def update_image_info(image: str, info: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> None:
        app.datastore().update_image_info(image, by(user, info, "info"))

    @router.put("/label")
    async def save_label(
        image: str,
        label: Annotated[UploadFile | None, File()] = None,
        params: Annotated[str, Form()] = "{}",
        tag: str = FINAL,
        user: User = ANNOTATOR,
    ) -> dict[str, Any]:
        info = by(user, params, "params")
        tag = tag or FINAL
        if tag == FINAL:
            saved = app.datastore().save_label(image, "", tag, info)
        elif label is None:
            raise HTTPException(422, "send the label's file, or the class with the tag final.")
        else:
            async with received(label) as (path,):
                saved = app.datastore().save_label(image, str(path), tag, info)
        return {**(app.on_save_label(image, saved) or {}), "image": image, "label": saved}

    @router.put("/label/info")
    async def update_label_info(
        label: str, tag: str, info: Annotated[str, Form()] = "{}", user: User = ANNOTATOR
    ) -> None:
        app.datastore().update_label_info(label, tag, by(user, info, "info"))

    @router.put("/updatelabelinfo", include_in_schema=False, deprecated=True)
    async def update_label_info_by_old_name(
        label: str, tag: str, params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR
    ) -> None:
        app.datastore().update_label_info(label, tag, by(user, params, "params"))

    # In a thread: it may take minutes.
    @router.get("/dataset", dependencies=[ANNOTATOR])
    def download(limit_cases: int | None = None) -> FileResponse:
        if not app.datastore().labeled():
            raise HTTPException(404, "nothing is labeled yet.")
        path = app.datastore().get_dataset_archive(limit_cases)
        return FileResponse(
            path, media_type="application/zip", filename="dataset.zip", background=BackgroundTask(os.unlink, path)
        )

    return router
