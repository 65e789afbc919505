# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Progress bar of a training phase."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from ignite.engine import Events
from monai.engines import Workflow
from monai.utils.enums import CommonKeys as Keys
from tqdm import tqdm

from monai_fgssl.engines.handlers.history import metrics_with_validation

__all__ = ["PhaseProgress"]

# Reading a loss back waits for the device, so it is done at most this often.
SECONDS_BETWEEN_READS = 0.5


class PhaseProgress:
    """One bar over all epochs of a phase: loss of each step, images/s, time left; and a line for every epoch.

    The bar is drawn on a terminal only; the lines, with every number in ``engine.state.metrics``, are always printed.
    On ranks other than 0 nothing is printed.

    Args:
        name: what the phase is called, e.g. ``"pre-train"``.
        metrics: names in ``engine.state.metrics`` that an epoch's line shows; those missing are left out.
        evaluator: engine whose metrics can be named too, as ``val_<name>``.
    """

    def __init__(self, name: str, metrics: Sequence[str] = ("loss",), evaluator: Workflow | None = None) -> None:
        self.name = name
        self.metrics = tuple(metrics)
        self.evaluator = evaluator
        self._bar: tqdm | None = None

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        if engine.state.rank != 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Workflow) -> None:
        total = engine.state.max_epochs * engine.state.epoch_length
        self._bar = tqdm(
            total=total,
            initial=engine.state.iteration,
            desc=self.name,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed}, left {remaining}{postfix}",
        )
        self._last_read = 0.0

    def _start_epoch(self, engine: Workflow) -> None:
        self._epoch_start = time.perf_counter()
        self._epoch_images = 0

    def _rate(self) -> float:
        return self._epoch_images / max(time.perf_counter() - self._epoch_start, 1e-9)

    def _advance(self, engine: Workflow) -> None:
        assert self._bar is not None
        # A decollated output is a list with one dictionary per image.
        output: Any = engine.state.output
        decollated = isinstance(output, list)
        self._epoch_images += len(output) if decollated else len(output[Keys.IMAGE])
        self._bar.update()
        if self._bar.disable or time.perf_counter() - self._last_read < SECONDS_BETWEEN_READS:
            return
        first = output[0] if decollated else output
        losses = "/".join(f"{float(value):.3g}" for key, value in first.items() if key.startswith("loss_"))
        self._bar.set_description_str(f"{self.name} {engine.state.epoch}/{engine.state.max_epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {losses}, {self._rate():.0f} images/s")
        self._last_read = time.perf_counter()

    def _finish_epoch(self, engine: Workflow) -> None:
        metrics = metrics_with_validation(engine, self.evaluator)
        values = [f"{name} {metrics[name]:.3g}" for name in self.metrics if name in metrics]
        tqdm.write(
            f"{self.name} {engine.state.epoch}/{engine.state.max_epochs}: "
            + ", ".join([*values, f"{self._rate():.0f} images/s"])
        )
        sys.stdout.flush()

    def _close(self, engine: Workflow) -> None:
        if self._bar is not None:
            self._bar.close()

    def _fail(self, engine: Workflow, error: Exception) -> None:
        self._close(engine)
        # Ignite leaves it to the handlers of this event to raise: without this the error would pass unseen.
        raise error
