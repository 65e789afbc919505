# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Hook of the build: the README as PyPI shows it, where links to files of the repository need its address."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)\s]+\))")


class ReadmeHook(MetadataHookInterface):
    """Makes relative links absolute where the repository's address is known.

    That is where GitHub builds a release: it gives the address in its variables. Elsewhere they stay as they are.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``, which ``pyproject.toml`` names as dynamic."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if repository := os.environ.get("GITHUB_REPOSITORY"):
            # A tag, or the commit: a link goes on leading to what belongs to this version.
            version = os.environ.get("GITHUB_REF_NAME", "main")
            address = f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}"

            def absolute(link: re.Match[str]) -> str:
                image, start, target = link.groups()
                return f"{image}{start}{address}/{'raw' if image else 'blob'}/{version}/{target}"

            text = RELATIVE.sub(absolute, text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
