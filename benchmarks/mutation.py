# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure how much of the code the tests run, and how many small faults in it they notice.

Prints Markdown: ``python -m benchmarks.mutation > benchmarks/results/reliability.md``. Progress goes to stderr. It
needs ``pip install pytest-cov cosmic-ray``, and Linux.

First the tests run once, and coverage.py records which test runs which line. Then random places in the code get a
fault each: a mutation of cosmic-ray, such as ``<`` instead of ``<=``, in a copy of the repository. A test that runs the
line must fail. Each mutant is tried in a copy of a process that has imported the libraries already.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

from coverage import Coverage, CoverageData

from .timing import command, processor

ROOT = Path(__file__).parents[1]
PACKAGE = "monai_fgssl/data"
"""Package that reads what comes from outside. `monai_fgssl/label` is tested by real servers, in environments of their
own, where no line is counted."""
TESTS = ("tests/data", "tests/label")
"""Tests that are counted."""
LEFT_OUT = ("Is_", "IsNot_", "_Is", "BitOr", "VariableInserter", "VariableReplacer", "ExceptionReplacer")
"""Parts of names of mutations that are left out. Most mutants of the first do the same as the code. cosmic-ray 8.7 ends
with an error for exceptions whose names have a dot."""
AT_ONCE = 10
"""Number of tests that run together."""
MOST = 60
"""Largest number of tests of one mutant: those that run the fewest other lines."""
SECONDS = 90.0
"""Limit of the tests that run together. If they pass without the fault, a longer time is a noticed fault."""
LIBRARIES = (
    *("torch", "monai.transforms", "monai.data", "ignite.engine", "sklearn.linear_model", "scipy.ndimage"),
    *("nibabel", "pydicom", "PIL.Image", "tifffile", "hypothesis", "matplotlib.pyplot", "pytest", "_pytest.assertion"),
)
PASSED, HUNG = 0, -1


@dataclass(frozen=True)
class Place:
    """A place in a file that can have a fault.

    Attributes:
        path: file, relative to the repository.
        line: its line.
        faults: for each possible fault the name of the mutation, and its number among those of the file.
    """

    path: str
    line: int
    faults: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mutant:
    """A fault in a file.

    Attributes:
        path: file, relative to the repository.
        line: its line.
        operator: name of the mutation.
        source: text of the whole file with the fault.
    """

    path: str
    line: int
    operator: str
    source: str

    @cached_property
    def text(self) -> str:
        """The line with the fault."""
        return self.source.splitlines()[self.line - 1].strip()


def files() -> list[str]:
    """Files of the package, relative to the repository."""
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / PACKAGE).rglob("*.py"))]


def measure_coverage(file: Path) -> bool:
    """Run the tests, and record for each line the tests that run it. Return True if all pass."""
    settings = file.with_suffix(".ini")
    settings.write_text(f"[run]\ndata_file = {file}\nsource = {PACKAGE}\n")
    options = ["--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report=", "-n0"]
    pytest = [sys.executable, "-m", "pytest", *options, *TESTS]
    return subprocess.run(pytest, cwd=ROOT, stdout=sys.stderr).returncode == 0


def without_annotations(source: str) -> str:
    """Syntax tree of a file without annotations and docstrings, which do nothing here."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)


def places_of(path: str) -> Iterator[Place]:
    """Places of a file that can have a fault."""
    from cosmic_ray.ast import Visitor, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    names = [name for name in sorted(operator_names()) if not any(part in name for part in LEFT_OUT)]
    operators = {name: get_operator(name)() for name in names}
    counts: Counter[str] = Counter()
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}

    class Positions(Visitor):
        """Collects the positions of all mutations."""

        def visit(self, node: object) -> object:
            for name, operator in operators.items():
                for start, _ in operator.mutation_positions(node):
                    found.setdefault(start, []).append((name, counts[name]))
                    counts[name] += 1
            return node

    Positions().walk(get_ast((ROOT / path).read_text(encoding="utf-8")))
    for (line, _), faults in sorted(found.items()):
        yield Place(path, line, tuple(faults))


def mutant_at(place: Place, rng: random.Random) -> Mutant | None:
    """Mutant with one random fault of a place, or None if it changes no more than an annotation."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / place.path).read_text(encoding="utf-8")
    name, number = rng.choice(place.faults)
    mutated = mutate_code(source, get_operator(name)(), number)
    with suppress(SyntaxError):
        if mutated and without_annotations(mutated) != without_annotations(source):
            return Mutant(place.path, place.line, name.removeprefix("core/"), mutated)
    return None


class TestsOfLines:
    """Tests that run a line, the most specific first.

    Args:
        file: data of coverage.py with a context for each test.
    """

    def __init__(self, file: Path) -> None:
        data = CoverageData(str(file))
        data.read()
        self.by_line: dict[str, dict[int, set[str]]] = {}
        self.size: Counter[str] = Counter()
        for name in data.measured_files():
            lines = {
                line: {context.rpartition("|")[0] for context in contexts if context}
                for line, contexts in data.contexts_by_lineno(name).items()
            }
            self.by_line[str(Path(name).relative_to(ROOT))] = lines
            for tests in lines.values():
                self.size.update(tests)

    def of(self, mutant: Mutant) -> list[str]:
        """Tests that run the line; of a line that runs at the import, tests that run any line of the file."""
        lines = self.by_line.get(mutant.path, {})
        found = lines.get(mutant.line, set())
        if mutant.line in lines and not found:
            found = set().union(*lines.values())
        return sorted(found, key=lambda test: (self.size[test], test))


class Copy:
    """A copy of the repository, in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in names.split("\0"):
            # Links stay links.
            if name and not name.endswith((".npz", ".xz", ".png")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name, follow_symlinks=False)

    def run(self, tests: Sequence[str], mutant: Mutant | None) -> tuple[int, str]:
        """Run tests with a mutant or without; return the status of pytest and the first test that failed."""
        kept = None
        if mutant is not None:
            path = self.folder / mutant.path
            kept = path.read_bytes()
            path.write_text(mutant.source, encoding="utf-8")
        report = self.folder / "failed.txt"
        report.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            self._become(tests, report)
        try:
            status = _wait(pid)
        finally:
            if kept is not None:
                path.write_bytes(kept)
        return status, report.read_text() if report.exists() else ""

    def _become(self, tests: Sequence[str], report: Path) -> None:
        code = 70
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            os.chdir(self.folder)
            sys.path.insert(0, str(self.folder))
            os.environ["PYTHONPATH"] = str(self.folder)
            import pytest

            class First:
                """Writes the name of the first test that fails."""

                def pytest_runtest_logreport(self, report: pytest.TestReport, file: Path = report) -> None:
                    if report.failed and not file.exists():
                        file.write_text(report.nodeid)

            code = int(pytest.main(["-x", "-n0", "-p", "no:cacheprovider", *tests], plugins=[First()]))
        finally:
            os._exit(code)


def _wait(pid: int) -> int:
    """Exit status of a process, or :data:`HUNG` if it does not end within :data:`SECONDS`."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return HUNG


def is_noticed(copy: Copy, mutant: Mutant, tests: Sequence[str]) -> bool:
    """True if a test fails or hangs with the mutant that passes without it."""
    for start in range(0, min(len(tests), MOST), AT_ONCE):
        some = list(tests[start : start + AT_ONCE])
        while some:
            status, failed = copy.run(some, mutant)
            if status == PASSED:
                break
            suspects = [failed] if failed else some
            if copy.run(suspects, None)[0] == PASSED:
                return True
            # These fail in a copied process anyway.
            some = [test for test in some if test not in suspects]
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100, help="number of faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--coverage", type=Path, help="file of coverage.py; an earlier one is taken")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as name:
        file = args.coverage or Path(name) / "coverage"
        if not file.exists() and not measure_coverage(file.absolute()):
            raise SystemExit("the tests fail without any fault in the code.")
        report(file, args, Path(name))


def report(file: Path, args: argparse.Namespace, folder: Path) -> None:
    """Print the page."""
    print(f"# Tests of the readers\n\nCommand: `{command()}`  \nMachine: {processor()}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(f"Lines of `{PACKAGE}` that {' and '.join(f'`{name}`' for name in TESTS)} run, and small faults in them that")
    print("these tests notice. Faults are random mutations of cosmic-ray at random places, also in lines that no test")
    print("runs. In brackets the 95 % interval (Clopper and Pearson).\n")
    lines, missing = count_lines(file)
    found = try_mutants(TestsOfLines(file), args, folder)
    noticed = sum(found.values())
    print("| lines | run by tests | faults | noticed |\n| ---: | ---: | ---: | --- |")
    print(f"| {lines:,} | {1 - missing / lines:.1%} | {len(found)} | {share(noticed, len(found))} |")
    print("\n## Faults that no test noticed\n")
    print(
        "Some of them change nothing that anybody could see.\n\n| place | fault | line with it |\n| --- | --- | --- |"
    )
    for mutant in (mutant for mutant, is_seen in found.items() if not is_seen):
        text = mutant.text.replace("|", "\\|").replace("`", "'")
        print(f"| `{mutant.path.removeprefix('monai_fgssl/')}:{mutant.line}` | {mutant.operator} | `{text}` |")


def share(number: int, of: int) -> str:
    """Percentage with its interval."""
    from monai_fgssl.metrics import binomial_interval
    from monai_fgssl.utils.words import percent_text

    low, high = binomial_interval(number, of)
    return percent_text({"value": number / of, "low": low, "high": high})


def count_lines(file: Path) -> tuple[int, int]:
    """Number of lines of code of the package, and of those that no test runs."""
    coverage = Coverage(data_file=str(file), config_file=False)
    coverage.load()
    coverage.config.exclude_list += ["if TYPE_CHECKING:"]
    statements = missing = 0
    for path in files():
        _, all_lines, _, not_run, _ = coverage.analysis2(str(ROOT / path))
        statements, missing = statements + len(all_lines), missing + len(not_run)
    return statements, missing


def try_mutants(tests: TestsOfLines, args: argparse.Namespace, folder: Path) -> dict[Mutant, bool]:
    """Try random mutants of the package; return whether each was noticed."""
    rng = random.Random(args.seed)
    places = [place for path in files() for place in places_of(path)]
    random_places = rng.sample(places, len(places))
    chosen = list(islice(filter(None, (mutant_at(place, rng) for place in random_places)), args.mutants))
    print(f"{len(chosen)} of {len(places)} places", file=sys.stderr, flush=True)
    for library in LIBRARIES:
        __import__(library)
    shares = [chosen[number :: args.processes] for number in range(args.processes)]
    folders = [folder / str(number) for number in range(args.processes)]
    # Not threads: a copy of a process with several threads may wait for a lock forever.
    with ProcessPoolExecutor(args.processes, get_context("fork")) as pool:
        results = list(pool.map(_try, shares, folders, [tests] * args.processes))
    return dict(zip(chain(*shares), chain(*results), strict=True))


def _try(mutants: Sequence[Mutant], folder: Path, tests: TestsOfLines) -> list[bool]:
    copy, found = Copy(folder), []
    for mutant in mutants:
        found.append(is_noticed(copy, mutant, tests.of(mutant)))
        verdict = "noticed" if found[-1] else f"NOT noticed: {mutant.text}"
        print(f"{mutant.path}:{mutant.line} {mutant.operator}: {verdict}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
