# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""All routes of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from monailabel.config import settings

from .datastore import make_datastore_router
from .infer import make_infer_router
from .model import make_model_router
from .ohif import make_ohif_router
from .operations import make_operations_router
from .page import make_page_router
from .proxy import make_proxy_router
from .review import make_review_router
from .sessions import make_session_router
from .sign_in import accept_tokens, make_sign_in_router
from .stock import KEPT_PAGES, make_kept_router

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["add_routes"]


def add_routes(server: FastAPI, app: FGSSLApp) -> None:
    """Give the server the routes of this package, and those of MONAI Label that stay as they are.

    Args:
        server: server of MONAI Label, before its first request.
        app: app that the routes belong to.
    """
    pages = [route for route in server.router.routes if getattr(route, "path", None) in KEPT_PAGES]
    routers = [
        make_page_router(app),
        make_review_router(app),
        make_infer_router(app),
        make_datastore_router(app),
        make_session_router(app),
        make_model_router(app),
        make_operations_router(app),
        make_proxy_router(app.studies if app.is_archive() else None),
        make_ohif_router(),
        make_kept_router(),
    ]
    if settings.MONAI_LABEL_AUTH_ENABLE:
        accept_tokens(server)
        routers.append(make_sign_in_router())
    server.router.routes[:] = pages
    for router in routers:
        server.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
