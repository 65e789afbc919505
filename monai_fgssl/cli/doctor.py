# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Findings of the checks of ``doctor``, and their output."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Check", "print_checks"]

WIDTH = 100


@dataclass(frozen=True)
class Check:
    """Finding of one check.

    Attributes:
        name: thing that was checked.
        finding: result of the check.
        fix: advice on what to do; empty if there is nothing to do.
        required: True if nothing works until the fix is done.
    """

    name: str
    finding: str
    fix: str = ""
    required: bool = False

    @property
    def mark(self) -> str:
        """One word: ``ok``, ``note`` or ``fix``."""
        return ("fix" if self.required else "note") if self.fix else "ok"


def print_checks(checks: Sequence[Check]) -> int:
    """Print a line for each check, and its fix below.

    Returns:
        The number of things that must be fixed.
    """
    width = max(len(check.name) for check in checks)
    indent = " " * (width + 8)
    for check in checks:
        finding, fix = (_indented(text, indent) for text in (check.finding, check.fix))
        print(f"{check.mark:<4}  {check.name:<{width}}  {finding}")
        if fix:
            print(f"{indent}-> {fix}")
    num_fixes = sum(check.mark == "fix" for check in checks)
    print(f"\n{num_fixes} to fix." if num_fixes else "\nReady.")
    return num_fixes


def _indented(text: str, indent: str) -> str:
    """Lines of at most :data:`WIDTH` letters (or one longer word). All but the first are indented."""
    lines = [
        textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ") or [""]
        for line in text.splitlines()
    ]
    return f"\n{indent}".join(line for wrapped in lines for line in wrapped)
