# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read files into arrays. Each file format has a module, and :mod:`~monai_fgssl.data.io.reader` chooses it."""

from __future__ import annotations
