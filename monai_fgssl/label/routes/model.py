# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Routes by which an administrator replaces or removes the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, UploadFile
from monailabel.endpoints.model import delete_model
from starlette.concurrency import run_in_threadpool

from monai_fgssl.bundle import SettingsError
from monai_fgssl.label.model import without_folder

from .forms import received
from .roles import ADMIN

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["make_model_router"]


def make_model_router(app: FGSSLApp) -> APIRouter:
    """``PUT`` and ``DELETE /model/{model}``. MONAI Label's own routes let annotators send any bytes.

    Args:
        app: app whose model the routes serve.
    """
    router = APIRouter(prefix="/model", tags=["Model"], dependencies=[ADMIN])

    @router.put("/{model}")
    async def replace(model: str, file: UploadFile) -> dict[str, Any]:
        check_model(model)
        async with received(file, names=["model.pt"]) as (path,):
            try:
                await run_in_threadpool(app.model.replace, path)
            except SettingsError as error:
                raise HTTPException(422, f"the model was not replaced: {without_folder(error, path)}") from error
        return dict(app.model_info(model))

    @router.delete("/{model}")
    def remove(model: str) -> dict[str, Any]:
        check_model(model)
        return dict(delete_model(model))

    def check_model(model: str) -> None:
        if app.model_file(model, validate=False) is None:
            raise HTTPException(404, f"there is no model {model[:100]!r}: GET /info/ lists them.")

    return router
