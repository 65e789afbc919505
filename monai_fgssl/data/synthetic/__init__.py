# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic lesions and volumes, whose right answer is known."""

from __future__ import annotations
