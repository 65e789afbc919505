# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What every request meets first, to MONAI Label's own routes too."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .origins import Sites

__all__ = ["guard_server"]

logger = logging.getLogger(__name__)

HEADERS = {
    # For browsers that do not say in a request which website embeds the answer.
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


def guard_server(server: FastAPI, sites: Sites) -> None:
    """Answer pages of no website but those that may use the server; MONAI Label's own rule lets all of them in.

    Args:
        server: of MONAI Label, before its first request.
        sites: that may use it.
    """
    others = [layer for layer in server.user_middleware if layer.cls is not CORSMiddleware]
    everything = {"allow_methods": ["*"], "allow_headers": ["*"], "allow_credentials": True}
    named = [Middleware(CORSMiddleware, allow_origins=list(sites.origins), **everything)] if sites.origins else []
    server.user_middleware[:] = [Middleware(Guard, sites=sites), *named, *others]
    # It was built when the server began to start, before it loaded this app.
    server.middleware_stack = server.build_middleware_stack()


class Guard:
    """Answers by itself what :meth:`~monai_fgssl.label.origins.Sites.refusal` refuses.

    Args:
        app: ASGI application that answers everything else.
        sites: that may use it.
    """

    def __init__(self, app: ASGIApp, sites: Sites) -> None:
        self.app = app
        self.sites = sites

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.sites.refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
            return
        status, reason = refusal
        logger.warning("refused %s %s: %s", scope["method"], scope["path"][:100], reason)
        await JSONResponse({"detail": reason}, status)(scope, receive, send_with_headers)
