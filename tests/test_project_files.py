# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files around the package agree with each other: pyproject.toml, workflows, changelog, guides."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from monai_fgssl import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_workflow(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return content


def test_ci_runs_every_python_that_is_promised() -> None:
    tested = read_workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: 3."
    assert [f"{prefix}{version.removeprefix('3.')}" for version in tested] == [
        text for text in PROJECT["classifiers"] if text.startswith(prefix)
    ]
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed] == tested
    oldest = [step["run"] for step in read_workflow("ci.yml")["jobs"]["lowest"]["steps"] if "uv venv" in str(step)]
    assert len(oldest) == 1
    assert f"--python {tested[0]} " in oldest[0]


def test_every_dependency_has_a_lowest_version() -> None:
    extras = PROJECT["optional-dependencies"]
    named = [
        *PROJECT["dependencies"],
        *(text for extra in ("timm", "dicom", "onnx", "tracking") for text in extras[extra]),
    ]
    assert len(named) > 15
    assert [text for text in named if not re.fullmatch(r"[\w-]+>=[\d.]+", text)] == []


@pytest.mark.parametrize("bundle", ["fgssl", "fgssl_volume"])
def test_a_bundle_names_this_package_and_versions_that_it_allows(bundle: str) -> None:
    file = ROOT / "bundles" / bundle / "configs" / "metadata.json"
    metadata = json.loads(file.read_text(encoding="utf-8"))
    assert metadata["version"] == next(iter(metadata["changelog"])) == __version__
    named = metadata["required_packages_version"]
    named |= {"torch": metadata["pytorch_version"], "monai": metadata["monai_version"]}
    assert named.pop("monai-fgssl") == __version__
    allowed = {needed.name: needed.specifier for needed in map(Requirement, PROJECT["dependencies"])}
    assert [name for name, version in named.items() if version not in allowed[name]] == []


def test_the_citation_names_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__


@pytest.mark.parametrize("page", ["README.md", "docs/contributing.md", ".ci/run"])
def test_pages_name_the_fast_tests_as_ci_runs_them(page: str) -> None:
    jobs = read_workflow("ci.yml")["jobs"]
    (fast,) = {step["run"] for job in ("test", "lowest") for step in jobs[job]["steps"] if "pytest" in str(step)}
    text = (ROOT / page).read_text(encoding="utf-8")
    assert fast in text
    assert "bash .ci/run" in text
    assert "bash .ci/run" in {step.get("run") for step in jobs["everything"]["steps"]}


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    version = Version(__version__)
    # A version that ends with .dev0 is not released; the release has the same number without it.
    first = "Unreleased" if version.is_devrelease else f"{__version__} ("
    assert headings[0].startswith(first)
    releases = [heading for heading in headings if heading != "Unreleased"]
    matches = [re.fullmatch(r"(\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)", heading) for heading in releases]
    assert all(matches)
    released = [Version(match[1]) for match in matches if match]
    assert released == sorted(set(released), reverse=True)
    assert version > released[0] if version.is_devrelease else version == released[0]
    # The workflow looks for the heading in this form.
    check = str(read_workflow("release.yml")["jobs"]["build"]["steps"])
    assert "^## $version (" in check


def test_a_release_has_hashes_and_a_bill_of_materials() -> None:
    jobs = read_workflow("release.yml")["jobs"]
    built = str(jobs["build"]["steps"])
    (published,) = [step["run"] for step in jobs["describe"]["steps"] if "gh release create" in str(step)]
    for name in ("SHA256SUMS", "sbom.cdx.json"):
        assert f"release/{name}" in built
        assert name in published
    assert jobs["describe"]["needs"] == "publish"


def test_the_console_script_is_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = PROJECT["scripts"].items()
    assert script[0] == "monai-fgssl"
    module, _, function = script[1].partition(":")
    main = getattr(__import__(module, fromlist=[function]), function)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"monai-fgssl {__version__}\n"


@pytest.mark.parametrize("missing", ["dpkg", "root"])
def test_the_script_of_all_checks_says_what_it_needs(missing: str, tmp_path: Path) -> None:
    # As on another system, or as another user: programs of these names come first.
    programs = {"dpkg": "exit 1", "id": "echo 1000", "apt-get": "exit 1"}
    if missing == "dpkg":
        del programs["dpkg"], programs["apt-get"]
    # This Python: the one on the path may be a script that looks for others, as pyenv's is.
    found = {"python3": sys.executable} | {name: shutil.which(name) for name in ("bash", "dirname", "env")}
    for name, file in found.items():
        assert file is not None
        (tmp_path / name).symlink_to(file)
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    result = subprocess.run(
        ["bash", ".ci/run"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    expected = "only root can install them" if missing == "root" else "run this on Debian"
    assert result.stderr.startswith("error: some checks use programs of Debian")
    assert expected in result.stderr
    assert 'pytest -m "not slow"' in result.stderr


def test_commands_in_the_docs_open_the_label_server_to_this_machine_only() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))]
    commands = re.findall(r"^monailabel start_server .*$", "\n".join(texts), re.MULTILINE)
    assert len(commands) >= 4
    assert [command for command in commands if "--host 127.0.0.1" not in command] == []


def write_wheel(folder: Path, name: str, version: str, requires: list[str], extras: dict[str, list[str]]) -> None:
    """A wheel without any code, which says what it requires."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    for extra, texts in extras.items():
        lines += [f"Provides-Extra: {extra}", *(f'Requires-Dist: {text}; extra == "{extra}"' for text in texts)]
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index on which MONAI Label 0.8.6 is, with the requirements that its main branch had in November 2026."""
    folder = tmp_path_factory.mktemp("index")
    others = ["pynetdicom>=2.0.2", "dicomweb-client>=0.59.1"]
    packages = {
        "monailabel": {"0.8.5": ["pydicom>=2.4.4", *others], "0.8.6": ["pydicom>=3.0.1", *others]},
        "pydicom": {"2.4.5": [], "3.0.1": []},
        "pynetdicom": {"2.1.1": ["pydicom>=2.4,<2.5"], "3.0.1": ["pydicom>=3"]},
        "dicomweb-client": {"0.59.3": ["pydicom>=2.2"], "0.60.0": ["pydicom>=2.2"]},
        "highdicom": {"0.22.0": ["pydicom>=2.3"], "0.26.0": ["pydicom>=3.0.1"], "0.28.0": ["pydicom>=3.0.1"]},
        "python-gdcm": {"3.2.2": []},
    }
    for name, versions in packages.items():
        for version, requires in versions.items():
            write_wheel(folder, name, version, requires, {})
    extras = {name: PROJECT["optional-dependencies"][name] for name in ("label", "label-next", "dicom")}
    write_wheel(folder, "monai-fgssl", "1.0", ["pydicom>=2.4"], extras)
    return folder


@pytest.mark.parametrize(
    ("extra", "chosen"),
    [
        ("label", {"monailabel": "0.8.5", "pydicom": "2.4.5", "pynetdicom": "2.1.1", "highdicom": "0.22.0"}),
        ("label-next", {"monailabel": "0.8.6", "pydicom": "3.0.1", "pynetdicom": "3.0.1", "highdicom": "0.28.0"}),
        # One environment for everything.
        ("dicom,label-next", {"monailabel": "0.8.6", "pydicom": "3.0.1", "highdicom": "0.28.0"}),
        # Not with the present release.
        ("dicom,label", None),
    ],
)
def test_pip_finds_an_environment_for_each_release_of_monai_label(
    extra: str, chosen: dict[str, str] | None, index: Path
) -> None:
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--no-index", "--find-links", str(index), "--report", "-", f"monai-fgssl[{extra}]"]
    result = subprocess.run(command, capture_output=True, text=True)
    if chosen is None:
        assert "ResolutionImpossible" in result.stderr
        return
    assert result.returncode == 0, result.stderr
    found = {entry["metadata"]["name"]: entry["metadata"]["version"] for entry in json.loads(result.stdout)["install"]}
    assert found.items() >= chosen.items()
