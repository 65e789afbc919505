# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there: :func:`monai_fgssl.data.atomic.atomic_write`."""

from __future__ import annotations

from monai_fgssl.data.atomic import atomic_write

__all__ = ["atomic_write"]
