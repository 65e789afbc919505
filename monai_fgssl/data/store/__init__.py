# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoded images in memory or on disk, and batches of them."""

from __future__ import annotations
