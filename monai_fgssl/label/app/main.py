# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Entry point of `monailabel start_server --app`."""

from __future__ import annotations

from monai_fgssl.label.server import FGSSLApp

__all__ = ["FGSSLApp"]
