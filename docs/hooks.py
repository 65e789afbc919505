# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages that MkDocs makes while it builds the site: the list of settings, and the notebooks."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from monai.bundle import ConfigParser

from monai_fgssl.bundle.settings_table import GROUPS, SETTINGS, default_of
from monai_fgssl.functional.views import ViewSettings

__all__ = ["notebook_page", "on_files", "on_page_content", "on_page_markdown", "settings_list"]

ROOT = Path(__file__).parents[1]
MARKER = "<!-- settings -->"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NOTEBOOKS = ROOT / "tutorials"
NO_BREAK = "\N{NO-BREAK SPACE}"
NUMBER = r"[-+]?\d+(?:\.\d+)?"
INTERVAL = re.compile(rf"({NUMBER})(?:\s+(%))?\s+(\[{NUMBER},)\s+({NUMBER}\])")
VIEWS = ("regularized_view", "distorted_view", "augmentation")


def settings_list() -> str:
    """Markdown of all settings by group: a heading with an anchor for each, its defaults in both bundles, its meaning.

    Headings, since the search of the site finds them.

    Example:
        >>> lines = settings_list().splitlines()
        >>> lines[lines.index("### `val_interval` { #val_interval }") + 2]
        'Default: 1; synthetic: 3. Epochs between two validations.'
    """
    pictures, volumes = (ROOT / "bundles" / name for name in ("fgssl", "fgssl_volume"))
    lines: list[str] = []
    for group, title in GROUPS.items():
        lines += [f"## {title}", ""]
        for setting in SETTINGS:
            if setting.group == group:
                default = setting.default or default_of(setting.name, pictures) or "none"
                volume = setting.volumes_default or setting.default or default_of(setting.name, volumes) or "none"
                # The part of the bundle's README below its table is a page of its own here.
                meaning = re.sub(r"\bsee below\b", "see [own images](guides/own_images.md)", setting.meaning)
                text = (
                    f"Default: {default}{'' if volume == default else f', in volumes {volume}'}. {_sentence(meaning)}"
                )
                lines += [f"### `{setting.name}` {{ #{setting.name} }}", "", text, ""]
                if setting.volumes is not None:
                    lines += [f"In volumes: {_sentence(setting.volumes)}", ""]
    return "\n".join([*lines, "## Strengths of the views", "", *_strengths()])


def _sentence(text: str) -> str:
    """Text that begins with a capital letter and ends with a period. Code stays as it is."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _strengths() -> list[str]:
    """Lines for each strength of a view, with its default in each of the three views."""
    lines = [
        "These settings say how much a view is changed: `--distorted_view#blur_prob 0.5`. Defaults are those for "
        "pictures.",
        "",
    ]
    config = json.loads((ROOT / "bundles" / "fgssl" / "configs" / "train.json").read_text(encoding="utf-8"))
    views = {name: ConfigParser(config[name]).get_parsed_content().settings for name in VIEWS}
    meanings = dict(re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", ViewSettings.__doc__ or "", flags=re.MULTILINE))
    for field in fields(ViewSettings):
        defaults = ", ".join(f"`{view}#{field.name}` {_value(getattr(views[view], field.name))}" for view in VIEWS)
        meaning = _sentence(" ".join(meanings[field.name].split()))
        lines += [f"### `{field.name}` {{ #{field.name} }}", "", f"Defaults: {defaults}. {meaning}", ""]
    return lines


def _value(value: float | tuple[float, float]) -> str:
    """Value as it is typed on the command line."""
    return f"[{value[0]:g}, {value[1]:g}]" if isinstance(value, tuple) else f"{value:g}"


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook with its outputs, and its pictures by name."""
    lines: list[str] = []
    pictures: dict[str, bytes] = {}

    def show(output: dict[str, Any], alternative: str) -> None:
        data = output.get("data", {})
        if "image/png" in data or "image/jpeg" in data:
            kind = "png" if "image/png" in data else "jpeg"
            name = f"{path.stem}_{len(pictures) + 1}.{kind}"
            pictures[name] = base64.b64decode("".join(data[f"image/{kind}"]))
            lines.append(f"![{alternative}]({name})\n")
            return
        text = ANSI.sub("", "".join(output.get("text") or data.get("text/plain") or ""))
        if text.strip():
            lines.append(f"```text\n{text.rstrip()}\n```\n")

    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines.append(f"{_to_pages(source)}\n")
        elif "remove-cell" not in cell["metadata"].get("tags", []):
            lines.append(f"```python\n{source}\n```\n")
            for output in cell["outputs"]:
                show(output, cell["metadata"].get("alt", ""))
    note = f"*This page is a notebook, as it ran: [download it]({path.name}).*\n"
    return "\n".join([*lines, note]), pictures


def _to_pages(markdown: str) -> str:
    """Turn links to notebooks into links to their pages, and links to ``docs`` into links within the site."""
    return markdown.replace(".ipynb)", ".md)").replace("](../docs/", "](../")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks as pages."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        page, pictures = notebook_page(path)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page))
        files.append(File.generated(config, f"tutorials/{path.name}", content=path.read_bytes()))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    index = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "tutorials/index.md", content=_to_pages(index)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    r"""Keep each interval on one line, by spaces that do not break.

    Example:
        >>> on_page_content("by 0.028 [0.010,\n0.049].").replace(NO_BREAK, "_")
        'by 0.028_[0.010,_0.049].'
        >>> on_page_content("right for 81 % [77,\n85]").replace(NO_BREAK, "_")
        'right for 81_%_[77,_85]'
    """
    return INTERVAL.sub(lambda match: NO_BREAK.join(filter(None, match.groups())), html)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the list of settings where a page asks for it."""
    return markdown.replace(MARKER, settings_list()) if MARKER in markdown else markdown
