# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The archive's images for a viewer in the browser, such as OHIF, which signs in to this server only.

The server knows the archive's password, so it passes on only what a viewer needs: DICOMweb requests for studies, series
and instances. Everyone may read; only annotators may store.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from typing import Any

import requests
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from monailabel.config import settings
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from monai_fgssl.label.archive import make_session, unreachable

from .roles import ANNOTATOR, USER

__all__ = ["make_proxy_router"]

SEGMENT = r"(?!\.+(?:/|$))[A-Za-z0-9._,-]+"
RESOURCE = re.compile(rf"(?:studies|series|instances)(?:/{SEGMENT})*")
"""Addresses that are passed on: those of DICOM PS3.18, table 8.2.1-1, and bulk data below them."""

STORE = re.compile(rf"studies(?:/{SEGMENT})?")
PASSED_ON = ("accept", "content-type")
ANSWERED = ("content-type", "content-length", "content-encoding")
CHUNK = 1 << 16


def make_proxy_router(root: str | None) -> APIRouter:
    """``GET`` and ``POST /proxy/dicom/...``. MONAI Label's own routes pass on any path, and the person's token.

    Args:
        root: address of the archive's DICOMweb service; None: there is no archive.
    """
    router = APIRouter(prefix="/proxy/dicom")
    session = make_session()

    def pass_on(request: Request, address: str, **body: Any) -> StreamingResponse:
        kept = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        try:
            answer = session.request(
                request.method,
                f"{address}?{request.url.query}" if request.url.query else address,
                # The archive's answer is passed on as it is.
                headers={"Accept-Encoding": request.headers.get("accept-encoding", "identity"), **kept},
                timeout=settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT,
                # Follow no redirect: only this address was checked.
                allow_redirects=False,
                stream=True,
                **body,
            )
        except requests.RequestException as error:
            raise unreachable() from error
        if answer.is_redirect:
            raise HTTPException(502, "the archive redirects to another address, which this server does not follow.")
        headers = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
        content = answer.raw.stream(CHUNK, decode_content=False)
        return StreamingResponse(content, answer.status_code, headers, background=BackgroundTask(answer.close))

    # In a thread, since it waits for the archive.
    @router.get("/{path:path}", include_in_schema=False, dependencies=[USER])
    def look(request: Request, path: str) -> StreamingResponse:
        return pass_on(request, _address(root, path, RESOURCE))

    @router.post("/{path:path}", include_in_schema=False, dependencies=[ANNOTATOR])
    async def store(request: Request, path: str) -> StreamingResponse:
        address = _address(root, path, STORE)
        with tempfile.TemporaryFile() as body:
            async for part in request.stream():
                body.write(part)
            body.seek(0)
            return await run_in_threadpool(pass_on, request, address, data=body)

    return router


def _address(root: str | None, path: str, allowed: re.Pattern[str]) -> str:
    if root is None:
        raise HTTPException(404, "the images are in a folder: there is no archive to ask.")
    prefixes: Mapping[str, str | None] = {
        "wado": settings.MONAI_LABEL_WADO_PREFIX,
        "qido": settings.MONAI_LABEL_QIDO_PREFIX,
        "stow": settings.MONAI_LABEL_STOW_PREFIX,
    }
    service, _, resource = path.partition("/")
    if service not in prefixes:
        service, resource = "", path
    if not allowed.fullmatch(resource):
        raise HTTPException(
            404, "only requests for studies, series and instances of DICOMweb are passed on to the archive."
        )
    # Some versions of OHIF ask the search service for metadata.
    if service == "qido" and resource.endswith("/metadata"):
        service = "wado"
    return "/".join(filter(None, (root.rstrip("/"), (prefixes.get(service) or "").strip("/"), resource)))
