# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What the page for annotators asks for beyond MONAI Label's own API, and all routes of the app together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import FileResponse, Response
from monailabel.config import settings

from monai_fgssl.bundle import SettingsError
from monai_fgssl.data import DataError
from monai_fgssl.metrics.acquisition import STRATEGIES

from .datastore import FINAL
from .pictures import as_png, draw_image
from .proxy import make_proxy_router
from .roles import ANNOTATOR, USER
from .sign_in import accept_tokens, make_sign_in_router
from .stock_routes import make_stock_router
from .tasks import without_folder

if TYPE_CHECKING:
    from .server import FGSSLApp

__all__ = ["add_routes"]

PAGE = Path(__file__).parent / "page"


def add_routes(server: FastAPI, app: FGSSLApp) -> None:
    """Add all routes; those that MONAI Label has too take the place of its own.

    Args:
        server: of MONAI Label, before its first request.
        app: what they show.
    """
    stock = list(server.router.routes)
    archive = app.studies if app.is_archive() else None
    routers = [make_router(app), make_stock_router(app), make_proxy_router(archive)]
    if settings.MONAI_LABEL_AUTH_ENABLE:
        accept_tokens(server)
        routers.append(make_sign_in_router())
    for router in routers:
        server.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
    # The first one that fits a request answers it.
    server.router.routes[:] = [*server.router.routes[len(stock) :], *stock]


def make_router(app: FGSSLApp) -> APIRouter:
    """Routes below ``/fgssl``; all but the page's own files ask for the roles that MONAI Label asks for.

    Args:
        app: whose data store and model they show.
    """
    router = APIRouter(prefix="/fgssl", tags=["FG-SSL"])

    def picture(image_id: str, draw: Callable[[str], Any]) -> Response:
        app.datastore().check_image(image_id)
        path = app.datastore().get_image_uri(image_id)
        try:
            content = as_png(draw(path))
        except SettingsError as error:
            raise HTTPException(409, str(error)) from error
        except (DataError, OSError) as error:
            raise HTTPException(422, f"the image can't be read: {without_folder(error, path)}") from error
        return Response(content, media_type="image/png", headers={"Cache-Control": "no-store"})

    # Names of their own, so that no other file can be asked for.
    @router.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @router.get("/page.js", include_in_schema=False)
    def script() -> FileResponse:
        return FileResponse(PAGE / "page.js")

    @router.get("/page.css", include_in_schema=False)
    def style() -> FileResponse:
        return FileResponse(PAGE / "page.css")

    @router.get("/info", dependencies=[USER])
    async def info() -> dict[str, Any]:
        return {
            "classes": app.class_names(),
            "model": "fgssl",
            "has_model": app.model.is_trained(),
            "num_stages": app.model.num_stages,
            "strategies": list(STRATEGIES),
            "num_images": len(app.datastore().list_images()),
            "num_labelled": len(app.datastore().labelled()),
        }

    @router.get("/image/{image_id}", dependencies=[USER])
    def image(image_id: str) -> Response:
        return picture(image_id, lambda path: draw_image(path, app.spatial_dims))

    @router.get("/heat_maps/{image_id}", dependencies=[USER])
    def heat_maps(image_id: str) -> Response:
        return picture(image_id, app.model.draw_heat_maps)

    # In the event loop, as MONAI Label's own routes: the data store is no place for two threads at once.
    @router.get("/label/{image_id}", dependencies=[USER])
    async def label(image_id: str) -> dict[str, str | None]:
        app.datastore().check_image(image_id)
        return {"class": app.datastore().class_of(image_id)}

    @router.delete("/label/{image_id}", dependencies=[ANNOTATOR])
    async def remove_label(image_id: str) -> dict[str, str | None]:
        app.datastore().remove_label(image_id, FINAL)
        return {"class": None}

    return router
