# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Check every request before any route answers it, MONAI Label's own routes included."""

from __future__ import annotations

import logging

from fastapi import FastAPI, HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .origins import Sites

__all__ = ["guard_server"]

logger = logging.getLogger(__name__)

HEADERS = {
    # Needed since some browsers do not name the website that embeds an answer.
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


def guard_server(server: FastAPI, sites: Sites, max_upload_mb: float) -> None:
    """Put a :class:`Guard` before all routes. It replaces MONAI Label's own rule, which admits every website.

    Args:
        server: server of MONAI Label, before its first request.
        sites: see :class:`Guard`.
        max_upload_mb: see :class:`Guard`.
    """
    others = [layer for layer in server.user_middleware if layer.cls is not CORSMiddleware]
    everything = {"allow_methods": ["*"], "allow_headers": ["*"], "allow_credentials": True}
    named = [Middleware(CORSMiddleware, allow_origins=list(sites.origins), **everything)] if sites.origins else []
    server.user_middleware[:] = [Middleware(Guard, sites=sites, max_upload_mb=max_upload_mb), *named, *others]
    # The server has built its middleware already, before it loaded this app.
    server.middleware_stack = server.build_middleware_stack()


class Guard:
    """Refuses requests by :meth:`~monai_fgssl.label.origins.Sites.refusal`, and requests that are too large.

    Args:
        app: ASGI application that answers everything else.
        sites: names of the server, and websites that may use it.
        max_upload_mb: largest request, in megabytes (10^6 bytes).
    """

    def __init__(self, app: ASGIApp, sites: Sites, max_upload_mb: float) -> None:
        self.app = app
        self.sites = sites
        self.max_bytes = int(1e6 * max_upload_mb)
        self.too_large = (
            413,
            f"a request may send {max_upload_mb:g} MB; to allow more, start the server with --conf max_upload_mb.",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        num_bytes = 0

        async def receive_so_much() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_bytes:
                await _read_to_end(receive, message)
                raise HTTPException(*self.too_large)
            return message

        headers = Headers(scope=scope)
        refusal = self.sites.refusal(scope["method"], headers)
        if refusal is None and int(headers.get("content-length", 0)) > self.max_bytes:
            await _read_to_end(receive)
            refusal = self.too_large
        if refusal is None:
            await self.app(scope, receive_so_much, send_with_headers)
            return
        status, reason = refusal
        logger.warning("refused %s %s: %s", scope["method"], scope["path"][:100], reason)
        await JSONResponse({"detail": reason}, status)(scope, receive, send_with_headers)


async def _read_to_end(receive: Receive, message: Message | None = None) -> None:
    """Read and discard the rest of a request: a client that is still sending would not see the answer."""
    while message is None or message.get("more_body"):
        message = await receive()
