# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Small things that every package uses: errors, files, processes, random states. They use no other package."""

from __future__ import annotations
