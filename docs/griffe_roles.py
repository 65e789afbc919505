# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Lets the reference understand the Sphinx roles in docstrings: ``:func:`~monai_fgssl.data.read_table``` is a link."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["RoleExtension", "roles_to_links"]

# The name under which griffe knows a section with code.
EXAMPLE = re.compile(r"^(\s*)Example:$", flags=re.MULTILINE)
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")


def roles_to_links(text: str) -> str:
    """Turn roles into code, and those of this package's objects into links where the site has them.

    Example:
        >>> roles_to_links("see :func:`~monai_fgssl.data.read_table` and :class:`Report`")
        'see <autoref identifier="monai_fgssl.data.read_table" optional>`read_table`</autoref> and `Report`'
    """

    def link(match: re.Match[str]) -> str:
        short, path = match.groups()
        name = path.rpartition(".")[2] if short else path
        if not path.startswith("monai_fgssl."):
            return f"`{name}`"
        return f'<autoref identifier="{path}" optional>`{name}`</autoref>'

    return ROLE.sub(link, text)


class RoleExtension(griffe.Extension):
    """Rewrites every docstring that is loaded."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"\1Examples:", roles_to_links(obj.docstring.value))
