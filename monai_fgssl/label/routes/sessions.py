# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Sessions: images that a person works on without adding them to the data store."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, File, HTTPException, UploadFile
from fastapi.responses import FileResponse
from monailabel.utils.others.generic import get_mime_type
from monailabel.utils.sessions import SessionInfo, Sessions
from starlette.concurrency import run_in_threadpool

from .forms import check_image_file, received, suffix_of
from .roles import USER

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["find_session", "make_session_router"]

SESSION_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Form of a session id. MONAI Label takes any other text for a path, and reads files and removes folders there."""


def find_session(app: FGSSLApp, session_id: str, update: bool = True) -> SessionInfo:
    """Find a session by its id.

    Raises:
        HTTPException: 404 when there is none.
    """
    found = _sessions(app).get_session(session_id, update_ts=update) if SESSION_ID.fullmatch(session_id) else None
    if found is None:
        raise HTTPException(404, "there is no such session, or it has expired.")
    return found


def _sessions(app: FGSSLApp) -> Sessions:
    if app.sessions() is None:
        raise HTTPException(406, "this server has no sessions.")
    return app.sessions()


def make_session_router(app: FGSSLApp) -> APIRouter:
    """``PUT /session/``, ``GET`` and ``DELETE /session/{session_id}``.

    Args:
        app: app whose sessions the routes serve.
    """
    router = APIRouter(prefix="/session", tags=["Session"], dependencies=[USER])

    @router.put("/")
    async def create(
        files: Annotated[list[UploadFile], File()], uncompress: bool = False, expiry: int = 0
    ) -> dict[str, Any]:
        if uncompress:
            raise HTTPException(422, "archives are not unpacked: send the files themselves.")
        names = [f"{number}{suffix_of(file.filename)}" for number, file in enumerate(files)]
        async with received(*files, names=names) as paths:
            for path in paths:
                await run_in_threadpool(check_image_file, path)
            # Of several files, as of a DICOM series, the folder is the image.
            image = paths[0] if len(paths) == 1 else paths[0].parent
            info = await run_in_threadpool(add, image, expiry)
        return {"session_id": info.name, "session_info": info.to_json()}

    def add(image: Path, expiry: int) -> SessionInfo:
        name = str(uuid.uuid4())
        try:
            return _sessions(app).add_session(str(image), expiry, False, name)[1]
        except OSError:
            _sessions(app).remove_session(name)
            raise

    @router.get("/{session_id}")
    def get(session_id: str, update_ts: bool = False, image: bool = False) -> Any:
        info = find_session(app, session_id, update_ts)
        if not image:
            return info.to_json()
        path = Path(info.image)
        if not path.is_file():
            raise HTTPException(404, "this session has several files: ask for them one by one where they came from.")
        return FileResponse(path, media_type=get_mime_type(path), filename=path.name)

    @router.delete("/{session_id}")
    def remove(session_id: str) -> Any:
        info = find_session(app, session_id)
        _sessions(app).remove_session(session_id)
        return info.to_json()

    return router
