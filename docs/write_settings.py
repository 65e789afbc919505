# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the tables of settings in the READMEs of the bundles: ``python docs/write_settings.py``."""

from __future__ import annotations

import re
from pathlib import Path

from monai_fgssl.bundle.settings_table import markdown_table

BUNDLES = Path(__file__).parents[1] / "bundles"
TABLE = re.compile(r"\| setting \| default \| meaning \|\n(?:\|.*\n)+")


def written(name: str) -> str:
    """README of a bundle with the table as it should be."""
    other = None if name == "fgssl" else BUNDLES / "fgssl"
    text = (BUNDLES / name / "docs" / "README.md").read_text(encoding="utf-8")
    table = markdown_table(BUNDLES / name, other) + "\n"
    return TABLE.sub(lambda _: table, text, count=1)


if __name__ == "__main__":
    for bundle in ("fgssl", "fgssl_volume"):
        (BUNDLES / bundle / "docs" / "README.md").write_text(written(bundle), encoding="utf-8")
