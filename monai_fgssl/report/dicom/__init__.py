# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Results as DICOM objects: structured reports (TID 1500) and secondary captures."""

from __future__ import annotations
