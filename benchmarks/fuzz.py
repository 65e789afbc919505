# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read many damaged files, and count how each reading ends.

Prints Markdown: ``python -m benchmarks.fuzz --inputs 100000 > benchmarks/results/fuzz.md``. Progress goes to stderr.
The inputs are those of ``tests/fuzz``, whose first 2,000 run with every test. ``--processes`` share the work.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .timing import command, processor

# The fuzzer, and the writers of files that other tests use too.
TESTS = Path(__file__).parents[1] / "tests"
sys.path[1:1] = [str(TESTS / "fuzz"), str(TESTS)]

from fuzz_run import KINDS, LIMIT, Report, run  # type: ignore[import-not-found]  # noqa: E402

GOOD = ("fine", "told")
ENDS = {
    "fine": "read",
    "told": "refused by name",
    "foreign error": "error of a library",
    "without the name": "error that does not name the file",
    "wrong result": "values that are not finite or out of range",
    "out of memory": "more than 2 GB",
    "stray write": "file written elsewhere",
    "crash": "end of the process",
    "hang": f"more than {LIMIT:.0f} s of the processor",
}
"""Meaning of each outcome."""


def shares(inputs: int, processes: int) -> list[range]:
    """Split numbers of inputs into equal ranges, the last one shorter.

    Example:
        >>> shares(10, 3)
        [range(0, 4), range(4, 8), range(8, 10)]
    """
    size = -(-inputs // processes)
    return [range(start, min(start + size, inputs)) for start in range(0, inputs, size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=2026, help="seed of the inputs; the tests have seed 0")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="after which no input is begun")
    parser.add_argument("--keep", type=Path, help="folder for inputs that end badly")
    args = parser.parse_args()
    seconds = 60 * args.minutes if args.minutes else None

    def tell(report: Report) -> None:
        print(f"{report.numbers} inputs, {len(report.failures)} bad", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(args.processes) as pool:
        jobs = [
            pool.submit(run, args.seed, seconds, numbers, args.keep, tell)
            for numbers in shares(args.inputs, args.processes)
        ]
        reports = [job.result() for job in jobs]
    counts: Counter[tuple[str, str]] = sum((report.counts for report in reports), Counter())
    failures = [failure for report in reports for failure in report.failures]

    print("# Damaged files\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {processor()}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(
        f"{counts.total():,} files: valid files of {len({container for container, _ in counts})} containers whose bytes"
    )
    print("are changed, cut, repeated or exchanged at random. Each is read as a run reads it.\n")
    kinds = [kind for kind in ENDS if kind in GOOD or any(counted == kind for _, counted in counts)]
    print(f"| container | {' | '.join(ENDS[kind] for kind in kinds)} |")
    print("| --- " + "| ---: " * len(kinds) + "|")
    for container in sorted({container for container, _ in counts}):
        print(f"| {container} | {' | '.join(str(counts[container, kind]) for kind in kinds)} |")
    bad = ", ".join(
        f"{ENDS[kind]} {sum(counts[c, k] for c, k in counts if k == kind)}" for kind in ENDS if kind not in GOOD
    )
    print(f"\nBad ends: {bad}. Most memory of a reading: {max(report.highest for report in reports) >> 20} MB.")
    print(f"Longest reading: {max(report.slowest for report in reports):.0f} s by the clock.")
    for failure in failures:
        print(f"\n- input {failure.number}, {failure.container}: {failure.outcome}")
    assert {*KINDS, "crash", "hang"} == {*ENDS}
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
