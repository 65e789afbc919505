# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The viewer OHIF that comes with MONAI Label."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from monailabel.endpoints import ohif

from .roles import USER

__all__ = ["make_ohif_router"]

FOLDER = Path(ohif.__file__).resolve().parent / "static" / "ohif"


def make_ohif_router() -> APIRouter:
    """``GET /ohif/...``: a file of OHIF. All other addresses are views inside OHIF, and get its page."""
    router = APIRouter(prefix="/ohif", dependencies=[USER])

    @router.get("/{path:path}", include_in_schema=False)
    def get(path: str) -> FileResponse:
        page = FOLDER / "index.html"
        if not page.is_file():
            raise HTTPException(404, "this MONAI Label has no OHIF.")
        file = page if "\0" in path else (FOLDER / path).resolve()
        # MONAI Label's own route changes names with slashes, and fails at "..".
        return FileResponse(file if file.is_file() and file.is_relative_to(FOLDER) else page)

    return router
