# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Show the progress of a training phase."""

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
from monai_fgssl.utils.run_log import record, tell
from monai_fgssl.utils.words import readable

__all__ = ["PhaseProgress"]

# Reading a loss back waits for the device, so it is done at most this often.
SECONDS_BETWEEN_READS = 0.5


class PhaseProgress:
    """Shows one bar for all epochs of a phase on a terminal (losses, images/s, time left), and a line at the end.

    If the output goes to a file, lines replace the bar: after an epoch a line is printed if the last line is at least
    ``seconds`` old. The log of the run, see :mod:`monai_fgssl.utils.run_log`, gets a line with every metric for each
    epoch. Only rank 0 prints.

    Args:
        name: title of the phase, e.g. ``"pre-train"``.
        metrics: names in ``engine.state.metrics`` that a printed line shows; metrics that were not measured in the
            epoch are left out.
        evaluator: engine whose metrics can be named too, as ``val_<name>``.
        seconds: seconds between two printed lines.
    """

    def __init__(
        self,
        name: str,
        metrics: Sequence[str] = ("loss",),
        evaluator: Workflow | None = None,
        seconds: float = 60.0,
    ) -> None:
        self.name = name
        self.metrics = tuple(metrics)
        self.evaluator = evaluator
        self.seconds = seconds
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
            leave=False,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed}, left {remaining}{postfix}",
        )
        self._started = self._last_line = time.perf_counter()
        self._first_iteration = engine.state.iteration
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
        self._bar.set_description_str(self._title(engine), refresh=False)
        self._bar.set_postfix_str(f"loss {losses}, {self._rate():.0f} images/s")
        self._last_read = time.perf_counter()

    def _title(self, engine: Workflow) -> str:
        return f"{self.name} {engine.state.epoch}/{engine.state.max_epochs}"

    def _finish_epoch(self, engine: Workflow) -> None:
        assert self._bar is not None
        metrics, rate, now = metrics_with_validation(engine, self.evaluator), self._rate(), time.perf_counter()
        everything = [f"{name} {value:.4g}" for name, value in metrics.items()]
        is_last = engine.state.epoch == engine.state.max_epochs
        line = f"{self._title(engine)}: " + ", ".join([*everything, f"{rate:.0f} images/s"])
        if not is_last and (now - self._last_line < self.seconds or not self._bar.disable):
            record(line)
            return
        record(line)
        shown = [f"{readable(name)} {metrics[name]:.3g}" for name in self.metrics if name in metrics]
        passed = now - self._started
        steps = engine.state.iteration - self._first_iteration
        left = passed / max(steps, 1) * (engine.state.max_epochs * engine.state.epoch_length - engine.state.iteration)
        ends = f"took {_clock(passed)}" if is_last else f"left {_clock(left)}"
        tell(f"{self._title(engine)}: " + ", ".join([*shown, f"{rate:.0f} images/s", ends]), progress=True)
        self._last_line = now

    def _close(self, engine: Workflow) -> None:
        if self._bar is not None:
            self._bar.close()

    def _fail(self, engine: Workflow, error: Exception) -> None:
        self._close(engine)
        # Ignite does not raise the error if this event has a handler, so the handler must raise it.
        raise error


def _clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, and hours if there are any: ``2:05``."""
    return str(tqdm.format_interval(seconds)).removeprefix("0")
