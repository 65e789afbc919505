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

import numpy as np
import pytest
import torch
import yaml

from monai_fgssl.__main__ import make_parser
from monai_fgssl.bundle import BUNDLES, read_record, save_model
from monai_fgssl.bundle.settings import RENAMED_SETTINGS
from monai_fgssl.bundle.settings_table import OF_BUNDLE, by_name
from monai_fgssl.cli.commands import DEMO_SETTINGS
from monai_fgssl.data import ImageGeometry
from monai_fgssl.metrics import LogitAdjustment, PredictionSets, fit_feature_distances
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.utils.bundles import copy_bundle

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
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build a site, strictly: a warning is an error. With --quiet there are no warnings, so nothing would fail."""
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(site),
    ]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("link", ["missing.md", "index.md#no-such-heading", "/absolute.md"])
def test_a_dead_link_fails(link: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n[link]({link})\n", encoding="utf-8")
    whole = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    config = {"site_name": "test", "docs_dir": "docs", "validation": yaml.safe_load(whole)["validation"]}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert built.returncode != 0
    assert link.removeprefix("index.md") in built.stderr


def test_intervals_stay_on_one_line(site: Path) -> None:
    page = (site / "results.html").read_text(encoding="utf-8")
    assert "0.028\N{NO-BREAK SPACE}[0.010,\N{NO-BREAK SPACE}0.049]" in page
    pages = (file.read_text(encoding="utf-8") for file in site.rglob("*.html"))
    text = "".join(pages).replace("\N{NO-BREAK SPACE}", "_")
    assert "81_%_[77,_85]" in text
    assert re.findall(r"\d(?:[ _\n]%)?[ _\n]\[[-+\d.]+,[ \n][-+\d.]+\]", text) == []


def test_no_line_becomes_an_item_of_a_list_by_chance() -> None:
    """Markdown takes a line that begins with a year and a period for an item of a list, and drops the year."""
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md"), ROOT / "README.md"]
    found = [
        f"{page.name}: {line}"
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*\d{3,}[.)] ", line)
    ]
    assert found == []


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
    assert all(f'<h3 id="{name}"><code>{name}</code>' in page for name in [*described, "grayscale_prob"])
    assert "<code>distorted_view#grayscale_prob</code> 0.2" in page
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


def test_the_example_of_export_keeps_all_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "guides" / "export.md").read_text(encoding="utf-8")
    to_safetensors, to_torchscript = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    root, model = copy_bundle("fgssl", tmp_path / "bundles" / "fgssl"), "bundles/fgssl/models/model.pt"
    monkeypatch.chdir(tmp_path)
    network = HierarchicalNet("tiny-cnn", num_classes=3, width=8, embedding_dim=8)
    widths = network.backbone.channels
    features = np.random.default_rng(0).random((60, sum(widths)))
    rules = {
        "prediction_sets": PredictionSets(0.9, (0.5, 0.7, None)),
        "adjustment": LogitAdjustment(0.5, (0.2, 0.3, 0.5)),
        "distances": fit_feature_distances(features, features, widths),
    }
    geometry = ImageGeometry(32, window=(40.0, 400.0), frame=1, channel=2, time=3)
    save_model(network, model, ("0", "1", "2"), geometry, 1.5, task="ordinal", **rules)
    exec(to_safetensors, {})
    kept, stored = read_record(root, "model.safetensors"), read_record(root, model)
    stored.pop("weights_sha256")
    assert {name: kept[name] for name in stored} == stored
    exec(to_torchscript, {})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(torch.jit.load("model.ts")(images), network.eval()(images))


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
        assert (site / "tutorials" / path.name).read_bytes() == path.read_bytes()
        assert f'href="{path.name}"' in page
        title = next("".join(cell["source"]) for cell in cells).splitlines()[0].removeprefix("# ")
        assert f">{title}<a" in page
        assert page.count('class="highlight"') >= sum(cell["cell_type"] == "code" for cell in cells)


@pytest.mark.parametrize("path", sorted((ROOT / "tutorials").glob("*.ipynb")), ids=lambda path: path.stem)
def test_code_fits_the_page_and_pictures_have_a_description(path: Path) -> None:
    """The site shows 80 columns without scrolling. `metadata.alt` of a cell describes its picture."""
    descriptions = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert [line for line in "".join(cell["source"]).splitlines() if len(line) > 80] == []
            kinds = [kind for output in cell["outputs"] for kind in output.get("data", {}) if kind.startswith("image/")]
            descriptions += [cell["metadata"].get("alt", "")] * len(kinds)
    assert all(len(text) > 20 for text in descriptions)
    assert len(set(descriptions)) == len(descriptions)


@pytest.mark.parametrize("module", [hooks, griffe_roles])
def test_examples_of_the_builders(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_roles_become_links() -> None:
    text = "see :func:`~monai_fgssl.data.read_table`, :data:`LAYOUTS` and ``code``"
    link = '<autoref identifier="monai_fgssl.data.read_table" optional>`read_table`</autoref>'
    assert griffe_roles.roles_to_links(text) == f"see {link}, `LAYOUTS` and ``code``"
