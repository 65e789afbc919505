# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several test files: a browser, and the page for annotators in it."""

from __future__ import annotations

from label_browser import chrome, page, pictures, server

__all__ = ["chrome", "page", "pictures", "server"]
