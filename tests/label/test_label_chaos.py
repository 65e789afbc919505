# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Each fault once while labels are saved. `python -m benchmarks.chaos_labels` injects a hundred faults."""

from __future__ import annotations

import pytest

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own (extra label)")

from benchmarks.chaos_labels import FAULTS, run_chaos
from benchmarks.faults import OF_A_DISK

pytestmark = pytest.mark.slow


def test_no_confirmed_label_is_lost() -> None:
    told: list[str] = []
    done, count, problems = run_chaos(len(FAULTS), seed=1, tell=told.append)
    assert problems == [], told
    assert count > 0
    assert set(FAULTS) - set(done) <= set(OF_A_DISK)
