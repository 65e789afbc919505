# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's own routes that this server keeps.

All others are replaced, or left out, such as those for whole-slide images. A new route of a later MONAI Label is not
served until somebody has reviewed it and listed it here.
"""

from __future__ import annotations

from fastapi import APIRouter
from monailabel.config import settings
from monailabel.endpoints import activelearning, batch_infer, datastore, info, login, logs, model, scoring, train

__all__ = ["KEPT_PAGES", "make_kept_router"]

KEPT_PAGES = ("/", "/docs", "/favicon.ico", "/openapi.json", "/static")
"""Routes of the server itself, which belong to no router."""

KEPT = {
    "GET /info/",
    "POST /activelearning/{strategy}",
    "GET /scoring/",
    "DELETE /scoring/",
    "GET /batch/infer",
    "DELETE /batch/infer",
    "GET /train/",
    "GET /model/{model}",
    "GET /model/info/{model}",
    "GET /datastore/",
    "DELETE /datastore/",
    "HEAD /datastore/image",
    "GET /datastore/image",
    "DELETE /datastore/image",
    "GET /datastore/image/info",
    "HEAD /datastore/label",
    "GET /datastore/label",
    "DELETE /datastore/label",
    "GET /datastore/label/info",
    "GET /logs/",
    "GET /auth/",
    "GET /auth/token/valid",
}


def make_kept_router() -> APIRouter:
    """Select MONAI Label's own routes that stay as they are."""
    modules = [info, activelearning, scoring, batch_infer, train, model, datastore, logs]
    if settings.MONAI_LABEL_AUTH_ENABLE:
        modules.append(login)
    routes = [route for module in modules for route in module.router.routes]
    return APIRouter(
        routes=[route for route in routes if {f"{method} {route.path}" for method in route.methods} <= KEPT]
    )
