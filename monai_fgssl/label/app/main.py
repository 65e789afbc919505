# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Entry point of `monailabel start_server --app`."""

from __future__ import annotations

import sys

from monai_fgssl.label.early_run import start_early

# Before the next import, which takes seconds.
start_early(sys.argv[1:])

from monai_fgssl.label.server import FGSSLApp  # noqa: E402

__all__ = ["FGSSLApp"]
