# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Readers that turn a data set on disk into one table: official sets, folders, CSV files, MONAI data lists."""

from __future__ import annotations
