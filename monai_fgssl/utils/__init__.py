# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Small helpers that every package uses: errors, files, processes, random states. They import no other package."""

from __future__ import annotations
