# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The documentation builds without a warning, loads nothing from other hosts, and agrees with the code."""

from __future__ import annotations

import ast
import base64
import doctest
import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from monai_fgssl.__main__ import make_parser
from monai_fgssl.bundle import BUNDLES
from monai_fgssl.bundle.settings import RENAMED_SETTINGS
from monai_fgssl.bundle.settings_table import OF_BUNDLE, by_name
from monai_fgssl.cli.commands import DEMO_SETTINGS

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks, griffe_roles, write_settings = load("hooks"), load("griffe_roles"), load("write_settings")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return folder


class Loads(HTMLParser):
    """Addresses that a browser loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(values.get("src") or "")
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.addresses.append(values.get("href") or "")


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.addresses
        assert [address for address in loads.addresses if re.match(r"(https?:)?//", address)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)|@import", styles) == []


def test_reference_has_every_public_name(site: Path) -> None:
    for package in ("functional", "transforms", "networks", "losses", "engines", "data", "metrics", "report", "bundle"):
        page = (site / "reference" / f"{package}.html").read_text(encoding="utf-8")
        module = importlib.import_module(f"monai_fgssl.{package}")
        missing = [name for name in module.__all__ if f'id="monai_fgssl.{package}.{name}"' not in page]
        # Other names of one transform, as MONAI has them.
        aliases = {name for name in missing if re.search(r"(D|Dict)$", name)}
        # A function that is called like its module.
        aliases |= {name for name in missing if f'id="monai_fgssl.{package}.{name}.{name}"' in page}
        assert set(missing) - aliases == set()
        assert ":func:`" not in page
        assert ":class:`" not in page


def test_every_setting_is_in_the_table(site: Path) -> None:
    config = json.loads((ROOT / "bundles" / "fgssl" / "configs" / "train.json").read_text(encoding="utf-8"))
    plain = {
        name
        for name, value in config.items()
        if value is None or isinstance(value, (bool, int, float)) or OF_BUNDLE.fullmatch(str(value))
    }
    # Former names work, and are no settings any more.
    plain -= RENAMED_SETTINGS.keys()
    described = by_name()
    assert plain | set(config["settings"]) <= described.keys()
    page = (site / "settings.html").read_text(encoding="utf-8")
    assert all(f'<span id="{name}"></span><code>{name}</code>' in page for name in described)
    # And nothing is described that is not there.
    folder = ROOT / "bundles" / "fgssl" / "configs"
    known = {name for file in folder.glob("*.json") for name in json.loads(file.read_text(encoding="utf-8"))}
    assert described.keys() <= known


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_readme_of_a_bundle_has_the_table(bundle: str) -> None:
    """``python docs/write_settings.py`` writes it."""
    text = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert text == write_settings.written(bundle)
    assert "| `image_size` |" in text


def messages() -> list[str]:
    """All texts in the package, with ``...`` in place of what is put into them."""

    def text(node: ast.AST) -> str | None:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.JoinedStr):
            return "".join(value.value if isinstance(value, ast.Constant) else "..." for value in node.values)
        return None

    files = (ROOT / "monai_fgssl").rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return [" ".join(found.split()) for node in nodes if (found := text(node))]


def is_quote_of(quote: str, message: str) -> bool:
    """True if a message may begin so: what it takes from elsewhere (``...``) may be filled in."""
    begin, *rest = message.split("...")
    if not rest or not quote.startswith(begin):
        return message.startswith(quote)
    pattern = re.escape(begin)
    for literal in rest:
        # The quote may end within any of its fixed words.
        if any(re.fullmatch(f"{pattern}.+{re.escape(literal[:end])}", quote) for end in range(len(literal), 0, -1)):
            return True
        pattern += f".+{re.escape(literal)}"
    return message.startswith(quote)


def test_quoted_messages_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+)`$", page, flags=re.MULTILINE)
    assert len(quoted) > 25
    known = messages()
    missing = [quote for quote in quoted if not any(is_quote_of(quote, message) for message in known)]
    assert missing == []


def test_ids_that_the_guide_names_are_there() -> None:
    configs = [
        json.loads((ROOT / "bundles" / "fgssl" / "configs" / name).read_text(encoding="utf-8"))
        for name in ("train.json", "inference.json")
    ]
    text = (ROOT / "docs" / "guides" / "own_parts.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.split("| --- | --- |")[1].splitlines() if line.startswith("| `")]
    ids = [name for row in rows for name in re.findall(r"`([\w#]+)`", row)]
    assert len(ids) > 8
    for name in ids:
        top, _, nested = name.partition("#")
        assert any(top in config and (not nested or nested in config[top]) for config in configs), name


def test_commands_in_the_guides_name_files_of_the_bundle() -> None:
    pages = [*(ROOT / "docs").rglob("*.md")]
    named = {file for page in pages for file in re.findall(r"fgssl(?:_volume)?/[\w/]+\.json", page.read_text("utf-8"))}
    assert len(named) > 5
    # Of files that a run, or a reader, writes there is none yet.
    written = {"models/model.json", "output/split.json", "configs/my.json"}
    missing = [
        name for name in named if not (ROOT / "bundles" / name).is_file() and name.split("/", 1)[1] not in written
    ]
    assert missing == []


def anchor(heading: str) -> str:
    """Anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def test_links_of_the_pages_beside_the_site() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # mkdocs checks those of the site.
    pages = [ROOT / name for name in tracked.splitlines() if not name.startswith("docs/")]
    dead, checked = [], 0
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            path, _, part = link.partition("#")
            target = page.parent / path if path else page
            checked += 1
            if not target.exists():
                dead.append(f"{page.name}: {link}")
            elif part and target.suffix == ".md":
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
                if part not in map(anchor, headings):
                    dead.append(f"{page.name}: {link}")
    assert checked > 50
    assert dead == []


def test_code_in_the_pages_can_be_parsed() -> None:
    checks = {
        "python": lambda code: ast.parse(code),
        "json": json.loads,
        "yaml": yaml.safe_load,
        "bash": lambda code: subprocess.run(["bash", "-n"], input=code, text=True, check=True),
    }
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    fences = re.findall(r"^```(\w+)\n(.*?)^```$", pages, flags=re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in fences} == {*checks, "text"}
    for kind, code in fences:
        if kind in checks:
            checks[kind](code)


def test_commands_of_the_package_are_described() -> None:
    text = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    usage = make_parser().format_help()
    commands = re.findall(r"^    (\w+) {2,}", usage, flags=re.MULTILINE)
    assert len(commands) >= 4
    assert re.findall(r"^\| `python -m monai_fgssl (\w+)", text, flags=re.MULTILINE) == commands
    start = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert f"The demo draws {DEMO_SETTINGS['synthetic_images']} synthetic lesions" in start


def test_notebooks_become_pages_with_their_outputs(site: Path) -> None:
    notebooks = sorted((ROOT / "tutorials").glob("*.ipynb"))
    assert len(notebooks) >= 6
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        pictures = [values[kind] for values in data for kind in ("image/png", "image/jpeg") if kind in values]
        page = (site / "tutorials" / f"{path.stem}.html").read_text(encoding="utf-8")
        shown = re.findall(rf'<img[^>]* src="({path.stem}_\d+\.\w+)"', page)
        assert [base64.b64encode((site / "tutorials" / name).read_bytes()).decode() for name in shown] == [
            "".join("".join(picture).split()) for picture in pictures
        ]
        title = next("".join(cell["source"]) for cell in cells).splitlines()[0].removeprefix("# ")
        assert f">{title}<a" in page
        assert page.count('class="highlight"') >= sum(cell["cell_type"] == "code" for cell in cells)


@pytest.mark.parametrize("module", [hooks, griffe_roles])
def test_examples_of_the_builders(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_roles_become_links() -> None:
    text = "see :func:`~monai_fgssl.data.read_table`, :data:`LAYOUTS` and ``code``"
    link = '<autoref identifier="monai_fgssl.data.read_table" optional>`read_table`</autoref>'
    assert griffe_roles.roles_to_links(text) == f"see {link}, `LAYOUTS` and ``code``"
