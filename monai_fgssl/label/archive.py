# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Client of the archive (PACS) that MONAI Label's settings name, by DICOMweb."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX
from requests.adapters import HTTPAdapter

__all__ = ["make_client", "make_session", "unreachable"]


SECONDS_TO_CONNECT = 5.0


class _ImpatientAdapter(HTTPAdapter):
    """Adapter that limits the time of each request. Without a limit, a request to a machine that is down never ends."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request, with the default time limit if the caller sets none."""
        limit = timeout or (SECONDS_TO_CONNECT, settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT)
        return super().send(request, stream, limit, verify, cert, proxies)


def make_session() -> requests.Session:
    """Make a session that signs in to the archive, and keeps no cookies."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _ImpatientAdapter())
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    user = settings.MONAI_LABEL_DICOMWEB_USERNAME or settings.MONAI_LABEL_DATASTORE_USERNAME
    if user:
        session.auth = user, settings.MONAI_LABEL_DICOMWEB_PASSWORD or settings.MONAI_LABEL_DATASTORE_PASSWORD
    return session


def make_client(address: str) -> DICOMwebClientX:
    """Make a client of the archive's DICOMweb service.

    Args:
        address: address of the archive's root.
    """
    client = DICOMwebClientX(
        url=address,
        session=make_session(),
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    # By default the client retries for half a minute, while a person waits.
    client.set_http_retry_params(retry=False)
    return client


def unreachable() -> HTTPException:
    """Make the answer to a request while the archive does not respond."""
    return HTTPException(503, "the archive does not answer at the moment; the administrator may know why.")
