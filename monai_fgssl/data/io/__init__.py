# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files to arrays: one module for each container, behind one door, :mod:`~monai_fgssl.data.io.reader`."""

from __future__ import annotations
