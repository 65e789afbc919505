# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A short run of the fuzzer with fixed inputs, and the fuzzer's own eyes. For longer: ``python tests/fuzz``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzz_mutations import mutate
from fuzz_run import run
from fuzz_seeds import make_seeds
from fuzz_targets import FINE, outcome_of
from fuzz_worker import input_of

pytestmark = pytest.mark.slow


def test_changed_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    report = run(first=0, numbers=range(2000), keep=tmp_path)
    assert report.failures == []
    assert report.numbers == sum(report.counts.values()) == 2000
    # Of every container some changes are harmless and others are not.
    containers = {container for container, _ in report.counts}
    assert len(containers) == 17
    for container in containers:
        assert report.counts[container, "told"] > 0
    assert sum(count for (_, kind), count in report.counts.items() if kind == "fine") > 200


def test_seeds_are_valid(tmp_path: Path) -> None:
    own = [seed for seed in make_seeds() if seed.container not in ("DICOM", "NIfTI", ".pt")]
    assert len(own) > 40
    wrong = []
    for number, seed in enumerate(own):
        # Each alone: a list may name the file of another seed.
        file = tmp_path / str(number) / seed.name
        file.parent.mkdir()
        file.write_bytes(seed.data)
        outcome = outcome_of(seed.target, file)
        if outcome != FINE:
            wrong.append((seed.container, seed.name, outcome))
    assert wrong == []


def test_an_input_is_made_from_its_number() -> None:
    seeds = make_seeds()
    data = [input_of(seeds, 3, number)[1] for number in range(40)]
    assert data == [input_of(seeds, 3, number)[1] for number in range(40)]
    assert len(set(data)) > 35
    assert data != [input_of(seeds, 4, number)[1] for number in range(40)]


@pytest.mark.parametrize("data", [b"", b"{}", b"\x1f\x8b broken", b"\x89PNG\r\n\x1a\n", b"a"])
def test_any_bytes_can_be_changed(data: bytes) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert isinstance(mutate(data, [data, b"other"], rng), bytes)


def test_faults_are_seen(tmp_path: Path) -> None:
    """A worker that does with the first inputs what no reader may do."""
    (tmp_path / "worker.py").write_text(
        """
import itertools, os, subprocess, sys
from pathlib import Path
import numpy as np
import fuzz_worker

numbers = itertools.count()
def outcome_of(target, path):
    if path.stem != "input":
        return "fine"  # Before the inputs.
    number = int(path.read_bytes())
    if number == 0:
        os.abort()
    if number == 1:
        while True: pass
    if number == 2:
        np.ones(15 << 20)  # 120 MB
    if number == 3:
        (path.parent.parent / "beside").write_text("x")
    if number == 4:
        try: open("/proc/self/comm", "w").close()
        except OSError: pass
    if number == 5:
        subprocess.run(["true"])
    if number == 6:
        return "foreign error: KeyError"
    if number == 7:
        return "without the name: is damaged"
    if number == 8:
        try: np.ones(1 << 40)
        except MemoryError: return "out of memory"
    return "told" if number == 9 else "fine"

fuzz_worker.MEMORY = 100 << 20
fuzz_worker.outcome_of = outcome_of
fuzz_worker.input_of = lambda seeds, first, number: (seeds[0], str(number).encode())
fuzz_worker.serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
"""
    )
    report = run(first=0, numbers=range(12), keep=tmp_path / "keep", worker=tmp_path / "worker.py", limit=2)
    outcomes = {failure.number: failure.outcome for failure in report.failures}
    assert sorted(outcomes) == [0, 1, 2, 3, 4, 5, 6, 7, 8], outcomes
    assert outcomes[0] == "crash: exit status -6"
    assert outcomes[1].startswith("hang")
    assert outcomes[2].startswith("out of memory: took")
    assert outcomes[3].startswith("stray write: ")
    assert "beside" in outcomes[3]
    assert outcomes[4] == "stray write: open /proc/self/comm"
    assert outcomes[5].startswith("stray write: subprocess.Popen")
    assert sum(count for (_, kind), count in report.counts.items() if kind == "fine") == 2
    assert report.highest > 100 << 20
    kept = {path.name.rsplit("_", 1)[1].split(".")[0]: path.read_text() for path in (tmp_path / "keep").iterdir()}
    assert kept == {str(number): str(number) for number in range(9)}
