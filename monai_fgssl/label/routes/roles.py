# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Roles that a route asks for. Without users in MONAI Label's settings it asks for none."""

from __future__ import annotations

from fastapi import Depends
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC

__all__ = ["ADMIN", "ANNOTATOR", "USER"]

USER = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
"""May see images, suggestions and labels."""

ANNOTATOR = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
"""May also save and remove labels, and send images."""

ADMIN = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
"""May also train, and change the model and the set of images."""
