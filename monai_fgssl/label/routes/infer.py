# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Route for predictions. It can answer with more kinds of files than MONAI Label's own."""

from __future__ import annotations

import mimetypes
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, UploadFile
from monailabel.endpoints.infer import send_response
from starlette.concurrency import run_in_threadpool

from .forms import check_image_file, json_object, received
from .roles import USER
from .sessions import find_session

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["make_infer_router"]

PARAMETERS = ("heat_map", "report")
"""Parameters that a request may set. MONAI Label accepts more, with which a mere reader could save labels."""

FILES = {"image": {"heat_map": True, "report": False}, "dicom": {"report": True}}
"""Parameters that ask for a file, by kind of output; see :class:`~monai_fgssl.label.tasks.ClassInfer`."""

mimetypes.add_type("application/dicom", ".dcm")


def make_infer_router(app: FGSSLApp) -> APIRouter:
    """``POST /infer/{model}``: predict an image of the data store, of a session, or an uploaded one.

    Args:
        app: app that predicts.
    """
    router = APIRouter()

    @router.post("/infer/{model}", tags=["Infer"], dependencies=[USER])
    async def infer(
        background_tasks: BackgroundTasks,
        model: str,
        image: str = "",
        session_id: str = "",
        params: Annotated[str, Form()] = "{}",
        file: Annotated[UploadFile | None, File()] = None,
        output: Literal["json", "image", "dicom", "all"] | None = None,
    ) -> Any:
        given = json_object(params, "params")
        chosen = {name: given[name] for name in PARAMETERS if name in given}
        request = {**chosen, **FILES.get(output or "", {}), "model": model}
        async with AsyncExitStack() as stack:
            path: Path | None = None
            if file:
                (path,) = await stack.enter_async_context(received(file))
                await run_in_threadpool(check_image_file, path)
            elif session_id:
                path = Path(find_session(app, session_id).image)
            elif not image:
                raise HTTPException(422, "name an image of the data store, or send a file.")
            # In a thread: other requests must not wait for the network or for an archive.
            if path:
                result = await run_in_threadpool(app.infer_file, path, request)
            else:
                result = await run_in_threadpool(app.infer, {**request, "image": image})
        return send_response(app.datastore(), result, "image" if output == "dicom" else output, background_tasks)

    return router
