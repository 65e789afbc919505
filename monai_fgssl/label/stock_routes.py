# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What takes the place of routes of MONAI Label that can't do what is needed here."""

from __future__ import annotations

import json
import mimetypes
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, UploadFile
from monailabel.endpoints.infer import run_inference

from .roles import ADMIN, USER
from .stopping import stop_training

if TYPE_CHECKING:
    from .server import FGSSLApp

__all__ = ["make_stock_router"]

FILES = {"image": {"heat_map": True, "report": False}, "dicom": {"report": True}}
"""Parameters that give the file of an output; see :class:`~monai_fgssl.label.tasks.ClassInfer`."""

mimetypes.add_type("application/dicom", ".dcm")


def make_stock_router(app: FGSSLApp) -> APIRouter:
    """``POST /infer/fgssl``, which knows more outputs, ``DELETE /train/`` and ``POST /reload``.

    Args:
        app: that answers.
    """
    router = APIRouter()

    # In the event loop, as all that MONAI Label does with the data store.
    @router.post("/infer/fgssl", tags=["Infer"], dependencies=[USER])
    async def infer(
        background_tasks: BackgroundTasks,
        image: str = "",
        session_id: str = "",
        params: Annotated[str, Form()] = "{}",
        file: Annotated[UploadFile | None, File()] = None,
        output: Literal["json", "image", "dicom", "all"] | None = None,
    ) -> Any:
        try:
            wanted = {**json.loads(params or "{}"), **FILES.get(output or "", {})}
        except (ValueError, TypeError) as error:
            raise HTTPException(422, "params must be a JSON object.") from error
        if not (image or session_id or file):
            raise HTTPException(422, "name an image of the data store, or send a file.")
        kind = "image" if output == "dicom" else output
        return run_inference(background_tasks, "fgssl", image, session_id, json.dumps(wanted), file, None, kind)

    # In a thread: it may take a while.
    @router.delete("/train/", tags=["Train"], dependencies=[ADMIN])
    def stop() -> dict[str, Any] | None:
        return stop_training()

    # MONAI Label would begin a second app beside this one, whoever asks.
    @router.post("/reload", include_in_schema=False, dependencies=[ADMIN])
    async def reload() -> dict[str, Any]:
        app.datastore().refresh()
        return {}

    return router
