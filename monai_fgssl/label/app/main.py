# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What `monailabel start_server --app` starts."""

from __future__ import annotations

from monai_fgssl.label.server import FGSSLApp

__all__ = ["FGSSLApp"]
