# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files to arrays: one module for each file format, and :mod:`~monai_fgssl.data.io.reader`, which chooses it."""

from __future__ import annotations
