# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What MkDocs makes itself while it builds the site: the table of settings, and pages out of the notebooks."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

__all__ = ["default_of", "notebook_page", "on_files", "on_page_markdown", "read_meanings", "settings_table"]

ROOT = Path(__file__).parents[1]
BUNDLES = ("fgssl", "fgssl_volume")
MARKER = "<!-- settings -->"
DEFAULT = re.compile(r"\$@defaults\.get\('(\w+)'(?:, (.+))?\)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NOTEBOOKS = ROOT / "tutorials"


def read_meanings(bundle: str = "fgssl") -> dict[str, tuple[str, str]]:
    """Default and meaning of every setting, in the words of the bundle's README, which is the place to change them."""
    text = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text(encoding="utf-8")
    table = text.split("| setting | default | meaning |", 1)[1].split("\n\n", 1)[0]
    meanings: dict[str, tuple[str, str]] = {}
    for line in table.splitlines()[2:]:
        names, default, meaning = (cell.strip() for cell in line.strip()[1:-1].split("|"))
        each = re.findall(r"`(\w+)`", names)
        # One default for each name, unless it is one default with commas in it.
        defaults = default.split(", ") if len(each) > 1 else [default]
        for name, value in zip(each, defaults * len(each) if len(defaults) == 1 else defaults, strict=True):
            meanings[name] = (value, meaning)
    return meanings


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(map(str, value.values()))
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else str(value)


def default_of(name: str, bundle: str = "fgssl") -> str | None:
    """Default of a setting as the configs have it; None where they have none, or compute it from others.

    Example:
        >>> default_of("seed"), default_of("image_size"), default_of("dataset_dir"), default_of("amp")
        ('0', '64', None, None)
    """
    folder = ROOT / "bundles" / bundle / "configs"
    file = folder / "defaults.json"
    defaults = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    configs = [
        json.loads((folder / f"{config}.json").read_text("utf-8")) for config in ("train", "evaluate", "inference")
    ]
    value = next(config[name] for config in configs if name in config)
    if isinstance(value, str) and value.startswith("$"):
        match = DEFAULT.fullmatch(value)
        if match is None:
            return None
        value = defaults.get(match[1], json.loads(match[2] or "null"))
    is_component = isinstance(value, dict) and "_target_" in value
    return None if value is None or is_component else _as_text(value)


def settings_table() -> str:
    """Markdown table of all settings: names and meanings from the README, defaults from the configs."""
    rows = ["| setting | default | in volumes | meaning |", "| --- | --- | --- | --- |"]
    meanings = read_meanings()
    in_volumes = read_meanings("fgssl_volume")
    for name, (words, meaning) in meanings.items():
        default = default_of(name) or words
        # What only a README says of a default, such as that of synthetic images, is not in the configs.
        volume = default_of(name, "fgssl_volume") or in_volumes.get(name, (words, ""))[0]
        # What the README says below its table is a page of its own here.
        meaning = re.sub(r"\bsee below\b", "see [own images](guides/own_images.md)", meaning)
        rows.append(f"| `{name}` | {default} | {'' if volume == default else volume} | {meaning} |")
    return "\n".join(rows)


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
