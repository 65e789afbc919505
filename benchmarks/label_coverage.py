# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure which lines of the Label app the tests run, those that real servers run included.

Prints Markdown: ``python -m benchmarks.label_coverage > benchmarks/results/label_coverage.md``. Progress goes to
stderr. It needs ``pip install pytest-cov``, and all that the tests of the Label app need, see ``.ci/run``.

The servers run in an environment of their own, which the tests make. Every Python process of the tests imports
``sitecustomize`` from a folder in ``PYTHONPATH``, which starts coverage.py there. A server that is killed counts
nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import coverage

from .timing import command, processor

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "monai_fgssl" / "label"
OF_SERVERS = sorted(f"tests/integration/{path.name}" for path in ROOT.glob("tests/integration/test_label*.py"))
TESTS = ("tests/label", *OF_SERVERS)
"""Tests that are counted."""
SETTINGS = """[run]
data_file = {folder}/data
source = {package}
parallel = true
sigterm = true
disable_warnings = no-data-collected, module-not-imported
"""


def run_tests(folder: Path, tests: list[str], processes: int) -> int:
    """Run the tests with coverage.py in each process, and return the status of pytest."""
    settings = folder / "settings.ini"
    settings.write_text(SETTINGS.format(folder=folder, package=PACKAGE))
    started = folder / "started"
    started.mkdir()
    (started / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    # The environment of the servers has no coverage.py. Both have the same Python, so this one works there too.
    (started / "coverage").symlink_to(Path(coverage.__file__).parent)
    path = os.pathsep.join(filter(None, [str(started), str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "COVERAGE_PROCESS_START": str(settings)}
    pytest = [sys.executable, "-m", "pytest", "-q", f"-n{processes}", "--dist=loadfile", *tests]
    return subprocess.run(pytest, cwd=ROOT, env=environment, stdout=sys.stderr).returncode


def count_lines(folder: Path) -> dict[str, tuple[int, list[int]]]:
    """Number of lines of code of each file, and the lines that no test runs."""
    data = coverage.Coverage(data_file=str(folder / "data"), config_file=False)
    data.combine([str(folder)])
    data.config.exclude_list += ["if TYPE_CHECKING:"]
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        _, lines, _, missing, _ = data.analysis2(str(path))
        found[str(path.relative_to(PACKAGE))] = len(lines), missing
    return found


def ranges(lines: list[int]) -> str:
    """Lines in words, such as ``3-5, 9``."""
    parts: list[list[int]] = []
    for line in lines:
        if parts and line <= parts[-1][1] + 1:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def main() -> None:
    """Run the tests and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", nargs="+", default=list(TESTS), help="files or folders of tests")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        status = run_tests(Path(name), arguments.tests, arguments.processes)
        found = count_lines(Path(name))
    lines, missing = (sum(values) for values in zip(*((n, len(left)) for n, left in found.values()), strict=True))
    print(f"# Tests of the Label app\n\nCommand: `{command()}`  \nMachine: {processor()}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(
        "Lines of code of `monai_fgssl/label` that its tests run, in pytest's process or in real servers. The page for"
    )
    print("annotators is JavaScript, and is tested in a browser; its lines are not counted.\n")
    print(f"**{1 - missing / lines:.1%}** of {lines:,} lines.{'' if status == 0 else ' Some tests failed.'}\n")
    print("| file | lines | run | not run |\n| --- | ---: | ---: | --- |")
    for file, (count, left) in found.items():
        print(f"| `{file}` | {count} | {1 - len(left) / count if count else 1:.0%} | {ranges(left)} |")


if __name__ == "__main__":
    main()
