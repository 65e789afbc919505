# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data sets on disk to one table: official sets, folders, CSV files, MONAI data lists."""

from __future__ import annotations
