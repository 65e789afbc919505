# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Routes for the page's review of all images: list, thumbnails, marks, similar images, agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, HTTPException
from fastapi.responses import Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from monai_fgssl.bundle import decision_rule
from monai_fgssl.label.datastore import MARKS
from monai_fgssl.label.review import agreements, similar, suggestions
from monai_fgssl.tasks import TASKS

from .pictures import answer_picture, image_file
from .roles import ANNOTATOR, USER

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["make_review_router"]

NUM_NEIGHBORS = 4
"""Number of similar images that are shown beside an image."""


def make_review_router(app: FGSSLApp) -> APIRouter:
    """Routes ``/fgssl/images`` and below, and ``/fgssl/agreement``.

    Args:
        app: app whose images the routes serve.
    """
    router = APIRouter(prefix="/fgssl", tags=["FG-SSL"])

    def describe(name: str) -> dict[str, Any]:
        datastore = app.datastore()
        readings = datastore.readings_of(name)
        return {
            "id": name,
            "class": datastore.class_of(name),
            "user": datastore.user_of(name),
            **dict.fromkeys(datastore.marks_of(name), True),
            **({"readings": readings} if readings else {}),
        }

    # In the event loop, as MONAI Label's own routes, so that only one thread uses the data store.
    @router.get("/images", dependencies=[USER])
    async def images() -> list[dict[str, Any]]:
        record = app.model.record
        known = {}
        if record:
            rules = record["temperature"], decision_rule(record), TASKS[record["task"]]
            known = suggestions(app.scorer.scores, record["class_names"], *rules)
        names = app.datastore().list_images()
        # Scores the images without a suggestion in the background, for the next request.
        app.look_through(names)
        unreadable = app.unreadable()
        found = []
        for name in names:
            suggestion, doubt = known.get(name, (None, None))
            reason = {"unreadable": unreadable[name]} if name in unreadable else {}
            found.append({**describe(name), "suggestion": suggestion, "doubt": doubt, **reason})
        return found

    @router.get("/images/{image_id}", dependencies=[USER])
    async def image(image_id: str) -> dict[str, Any]:
        app.datastore().check_image(image_id)
        return describe(image_id)

    @router.put("/images/{image_id}/marks")
    async def mark(image_id: str, marks: Annotated[dict[str, bool], Body()], user: User = ANNOTATOR) -> dict[str, Any]:
        unknown = sorted(marks.keys() - set(MARKS))
        if unknown:
            raise HTTPException(422, f"there is no mark {unknown[0][:100]!r}; there are: {', '.join(MARKS)}.")
        app.datastore().set_marks(image_id, marks, user.username if settings.MONAI_LABEL_AUTH_ENABLE else None)
        return describe(image_id)

    @router.get("/images/{image_id}/similar", dependencies=[USER])
    async def neighbors(image_id: str) -> list[dict[str, Any]]:
        app.datastore().check_image(image_id)
        return similar(app.scorer.scores, image_id, app.labeled(), NUM_NEIGHBORS)

    @router.get("/images/{image_id}/thumbnail", dependencies=[USER])
    def thumbnail(image_id: str) -> Response:
        with image_file(app, image_id) as path:
            return answer_picture(app.thumbnails.of(path), "image/jpeg")

    @router.get("/agreement", dependencies=[USER])
    async def agreement() -> list[dict[str, Any]]:
        datastore = app.datastore()
        readings = {name: datastore.readings_of(name) for name in datastore.list_images()}
        return agreements(readings, app.class_names() if app.options.several else None)

    return router
