# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test files share: a browser, and the page for annotators in this browser."""

from __future__ import annotations

from label_browser import chrome, page, pictures, server

__all__ = ["chrome", "page", "pictures", "server"]
