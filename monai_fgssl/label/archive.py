# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The way to the archive (PACS) behind DICOMweb, as MONAI Label's settings name it."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy

import requests
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX

__all__ = ["make_client", "make_session", "unreachable"]


def make_session() -> requests.Session:
    """Session that signs in to the archive, and keeps nothing of one request for the next."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    user = settings.MONAI_LABEL_DICOMWEB_USERNAME or settings.MONAI_LABEL_DATASTORE_USERNAME
    if user:
        session.auth = user, settings.MONAI_LABEL_DICOMWEB_PASSWORD or settings.MONAI_LABEL_DATASTORE_PASSWORD
    return session


def make_client(address: str) -> DICOMwebClientX:
    """Client of the archive's DICOMweb service.

    Args:
        address: of its root.
    """
    return DICOMwebClientX(
        url=address,
        session=make_session(),
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )


def unreachable() -> HTTPException:
    """Answer while the archive is away."""
    return HTTPException(503, "the archive does not answer at the moment; the administrator may know why.")
