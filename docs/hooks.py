# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages that MkDocs makes while it builds the site: the table of settings, and the notebooks."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from monai_fgssl.bundle.settings_table import GROUPS, SETTINGS, default_of

__all__ = ["notebook_page", "on_files", "on_page_markdown", "settings_table"]

ROOT = Path(__file__).parents[1]
MARKER = "<!-- settings -->"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NOTEBOOKS = ROOT / "tutorials"


def settings_table() -> str:
    """Markdown of all settings by group, each with its defaults in both bundles.

    Example:
        >>> [line for line in settings_table().splitlines() if "`val_interval`" in line]
        ['| <span id="val_interval"></span>`val_interval` | 1; synthetic: 3 |  | epochs between two validations |']
    """
    pictures, volumes = (ROOT / "bundles" / name for name in ("fgssl", "fgssl_volume"))
    lines: list[str] = []
    for group, title in GROUPS.items():
        rows = ["| setting | default | in volumes | meaning |", "| --- | --- | --- | --- |"]
        for setting in SETTINGS:
            if setting.group == group:
                default = setting.default or default_of(setting.name, pictures) or "none"
                volume = setting.volumes_default or setting.default or default_of(setting.name, volumes) or "none"
                # The part of the bundle's README below its table is a page of its own here.
                meaning = re.sub(r"\bsee below\b", "see [own images](guides/own_images.md)", setting.meaning)
                if setting.volumes is not None:
                    meaning += f"<br>Volumes: {setting.volumes}"
                anchor = f'<span id="{setting.name}"></span>`{setting.name}`'
                rows.append(f"| {anchor} | {default} | {'' if volume == default else volume} | {meaning} |")
        lines += [f"## {title}", "", *rows, ""]
    return "\n".join(lines)


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook with its outputs, and its pictures by name."""
    lines: list[str] = []
    pictures: dict[str, bytes] = {}

    def show(output: dict[str, Any]) -> None:
        data = output.get("data", {})
        if "image/png" in data or "image/jpeg" in data:
            kind = "png" if "image/png" in data else "jpeg"
            name = f"{path.stem}_{len(pictures) + 1}.{kind}"
            pictures[name] = base64.b64decode("".join(data[f"image/{kind}"]))
            lines.append(f"![Output of the cell above]({name})\n")
            return
        text = ANSI.sub("", "".join(output.get("text") or data.get("text/plain") or ""))
        if text.strip():
            lines.append(f"```text\n{text.rstrip()}\n```\n")

    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines.append(f"{source}\n")
        elif "remove-cell" not in cell["metadata"].get("tags", []):
            lines.append(f"```python\n{source}\n```\n")
            for output in cell["outputs"]:
                show(output)
    note = f"*This page is the notebook `tutorials/{path.name}`, as it ran.*\n"
    return "\n".join([*lines, note]), pictures


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks as pages."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        page, pictures = notebook_page(path)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    index = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "tutorials/index.md", content=index.replace(".ipynb)", ".md)")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table of settings where a page asks for it."""
    return markdown.replace(MARKER, settings_table()) if MARKER in markdown else markdown
