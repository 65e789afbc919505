# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Roles that a route asks for. Without users in MONAI Label's settings it asks for none."""

from __future__ import annotations

from fastapi import Depends
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC

__all__ = ["ADMIN", "ANNOTATOR", "USER"]

USER = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
"""Sees images, suggestions and labels."""

ANNOTATOR = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
"""Saves and removes labels, and sends images."""

ADMIN = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
"""Trains, and changes the model and the set of images."""
