# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic lesions and volumes. Their class is known for certain."""

from __future__ import annotations
