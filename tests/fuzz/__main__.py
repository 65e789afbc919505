# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Fuzz for as long as you like, from the root of the repository: ``python tests/fuzz --minutes 60``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Writers of files that other tests use too.
sys.path[1:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from fuzz_run import Report, run  # noqa: E402


def show(report: Report) -> None:
    kinds: dict[str, int] = {}
    for (_, kind), count in report.counts.items():
        kinds[kind] = kinds.get(kind, 0) + count
    print(f"{report.numbers} inputs: {kinds}; most memory {report.highest >> 20} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="after which no input is begun")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers: the same inputs each time")
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--stop", type=int, default=10**9, help="number after the last input")
    parser.add_argument("--keep", type=Path, help="folder that bad inputs are written to")
    args = parser.parse_args()
    report = run(args.seed, 60 * args.minutes, range(args.start, args.stop), args.keep, show)
    show(report)
    for failure in report.failures:
        print(f"input {failure.number}, {failure.container}: {failure.outcome}")
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
