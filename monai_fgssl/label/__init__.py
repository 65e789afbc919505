# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app: annotate, train and sample actively. Needs the extra `label`."""

from __future__ import annotations
