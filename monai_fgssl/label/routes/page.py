# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The page for annotators, and its requests beyond MONAI Label's own API."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from monai_fgssl.label.answers import Label, count_labels
from monai_fgssl.label.datastore import FINAL
from monai_fgssl.label.history import labels_until_better, read_trainings
from monai_fgssl.label.pictures import as_png
from monai_fgssl.label.training import training_refusal
from monai_fgssl.metrics.acquisition import STRATEGIES
from monai_fgssl.report.pictures import Region

from .pictures import answer_picture, image_file
from .roles import ANNOTATOR, USER

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["make_page_router"]

PAGE = Path(__file__).parents[1] / "page"
PARTS = frozenset(path.name for path in PAGE.iterdir() if path.suffix in (".css", ".js"))
"""Names of the page's files. No other file can be asked for."""

MAX_SIZE = 8192
"""Largest height and width of a picture, in pixels. A browser needs 256 MB for it."""

ALWAYS_NEW = {"Cache-Control": "no-cache"}
"""Header of files that a browser may cache but must check again, so that it never mixes the files of two releases."""


def make_page_router(app: FGSSLApp) -> APIRouter:
    """Routes below ``/fgssl``; all but the page's own files ask for the roles that MONAI Label asks for.

    Args:
        app: app whose data store and model the page shows.
    """
    router = APIRouter(prefix="/fgssl", tags=["FG-SSL"])

    @router.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=ALWAYS_NEW)

    @router.get("/page/{name}", include_in_schema=False)
    def part(name: str) -> FileResponse:
        if name not in PARTS:
            raise HTTPException(404, "the page has no such file.")
        return FileResponse(PAGE / name, headers=ALWAYS_NEW)

    @router.get("/info")
    async def info(user: User = USER) -> dict[str, Any]:
        unreadable = app.unreadable()
        labeled = app.labeled()
        counts = count_labels(labeled.values())
        classes = app.class_names()
        return {
            "classes": classes,
            "counts": {name: counts[name] for name in classes},
            "user": user.username if settings.MONAI_LABEL_AUTH_ENABLE else None,
            "multilabel": app.options.several,
            "training_refused": training_refusal(list(app.answers().values())),
            "model": "fgssl",
            "has_model": app.model.record is not None,
            "notices": app.notices(),
            "num_stages": app.model.num_stages,
            "strategies": list(STRATEGIES),
            "num_images": len(app.datastore().list_images()) - len(unreadable),
            "num_unreadable": len(unreadable),
            "num_labeled": len(labeled),
        }

    @router.get("/trainings", dependencies=[USER])
    async def trainings() -> dict[str, Any]:
        found = read_trainings(app.bundle_root, app.options.several)
        return {"trainings": found, "labels_until_better": labels_until_better(found, len(app.labeled()))}

    @router.get("/confusion_matrix", dependencies=[USER])
    def confusion_matrix() -> FileResponse:
        file = app.bundle_root / "output" / "train" / "confusion_matrix.png"
        if not file.is_file():
            raise HTTPException(404, "no training has ended yet, or images may have several findings.")
        return FileResponse(file, media_type="image/png", headers={"Cache-Control": "no-store"})

    @router.get("/image/{image_id}", dependencies=[USER])
    def image(
        image_id: str,
        max_size: Annotated[int, Query(ge=16, le=MAX_SIZE)] = 1024,
        window: str | None = None,
        index: Annotated[int | None, Query(alias="slice", ge=0)] = None,
        region: str | None = None,
    ) -> Response:
        chosen = None if window is None else _window(window)
        part = None if region is None else _region(region)
        with image_file(app, image_id) as path:
            view = app.viewer.draw(path, max_size, chosen, index, part)
        return answer_picture(as_png(view.pixels), X_View=json.dumps(view.choices()))

    @router.get("/heat_maps/{image_id}", dependencies=[USER])
    def heat_maps(image_id: str) -> Response:
        with image_file(app, image_id) as path:
            return answer_picture(as_png(app.model.draw_heat_maps(path)))

    @router.get("/heat_layer/{image_id}", dependencies=[USER])
    def heat_layer(
        image_id: str,
        class_name: Annotated[str, Query(alias="class")],
        stage: Annotated[int | None, Query(ge=0)] = None,
        index: Annotated[int | None, Query(alias="slice", ge=0)] = None,
    ) -> Response:
        place, extent = 0.5, None
        with image_file(app, image_id) as path:
            if app.spatial_dims == 3:
                volume = app.viewer.slices(path)
                extent = volume.extent
                if index is not None:
                    place = (index + 0.5) / len(volume.values)
            return answer_picture(as_png(app.heat_layers.draw(path, class_name, stage, place, extent)))

    # In the event loop, as MONAI Label's own routes, so that only one thread uses the data store.
    @router.get("/label/{image_id}", dependencies=[USER])
    async def label(image_id: str) -> dict[str, Label | None]:
        app.datastore().check_image(image_id)
        return {"class": app.datastore().class_of(image_id)}

    @router.delete("/label/{image_id}", dependencies=[ANNOTATOR])
    async def remove_label(image_id: str) -> dict[str, str | None]:
        app.datastore().remove_label(image_id, FINAL)
        return {"class": None}

    return router


def _window(text: str) -> tuple[float, float]:
    """Read center and width from a request."""
    try:
        center, width = map(float, text.split(","))
    except ValueError:
        center, width = math.nan, math.nan
    if not (math.isfinite(center) and math.isfinite(width) and width > 0):
        raise HTTPException(422, "window must be its center and its width, two numbers with a comma between them.")
    return center, width


def _region(text: str) -> Region:
    """Left edge, upper edge, width and height of a request, in pixels."""
    try:
        left, top, width, height = map(int, text.split(","))
    except ValueError as error:
        raise HTTPException(
            422, "region must be its left edge, upper edge, width and height, four whole numbers with commas between."
        ) from error
    return left, top, width, height
