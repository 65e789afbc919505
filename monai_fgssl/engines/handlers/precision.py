# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The fastest precision of a run, found by timing its own step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from ignite import distributed as idist
from ignite.engine import Events
from monai.engines import Workflow
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from monai_fgssl.data.store.cached_images import first_batch
from monai_fgssl.engines.evaluator import HierarchicalEvaluator
from monai_fgssl.engines.hierarchical import HierarchicalTrainer
from monai_fgssl.networks import Precision, PrecisionChoice, unwrap
from monai_fgssl.utils.distributed import of_first_process

__all__ = ["FastestPrecision", "shortest_times"]

Clock = Callable[[], float]
Candidate = TypeVar("Candidate")

HOPELESS = 1.5
"""A candidate whose first step took so many times the best one's is not timed again."""
GAIN = 0.95
"""A candidate takes the place of a more exact one if its step takes at most this share of the time."""
STEPS_WORTH_A_TRIAL = 50
"""In a shorter phase the trial would cost more than it gains."""
LONG = 5
"""Of a step that is so many times longer than a trial should be, the first one tells enough."""


def shortest_times(
    candidates: Sequence[Candidate], measure: Callable[[Candidate], float], seconds: float = 1.0
) -> dict[Candidate, float]:
    """Time a step of several candidates, in turns, so that what else the machine does meets all alike.

    The first step of each, in which kernels are chosen, counts only where there is no other.

    Args:
        candidates: to compare.
        measure: makes a step and returns its seconds.
        seconds: for each candidate, the first step included; each that may win is timed twice at least.

    Returns:
        Seconds of the shortest step of each candidate.
    """
    first = {candidate: measure(candidate) for candidate in candidates}
    fastest = min(first.values())
    if fastest > LONG * seconds:
        return first
    hopeful = [candidate for candidate, elapsed in first.items() if elapsed <= HOPELESS * fastest]
    shortest = first | dict.fromkeys(hopeful, float("inf"))
    left = seconds * len(candidates) - sum(first.values())
    while left > 0 or float("inf") in shortest.values():
        for candidate in hopeful:
            elapsed = measure(candidate)
            shortest[candidate] = min(shortest[candidate], elapsed)
            left -= elapsed
    return shortest


def _fastest(times: dict[Precision, float]) -> Precision:
    """The fastest precision; of those that are as fast, the first."""
    best, *others = times
    for precision in others:
        if times[precision] <= GAIN * times[best]:
            best = precision
    return best


class FastestPrecision:
    """Times each precision that may be the fastest, and chooses one, where ``--amp auto`` leaves it open.

    In a training it times the views, forward and backward of the whole network on real images. Everything is then as if
    nothing had been computed. In an evaluation it times the first batch. On several processes the first one decides.
    Where there is little to compute, the usual precision of the device is taken without a trial.

    Attach it after the :class:`~monai_fgssl.engines.handlers.Resumer`, which goes on with the precision of the
    checkpoint, and before the handlers that compute.

    Args:
        precision: of the run.
        num_steps: how many steps an evaluation will take; a trainer knows its own.
        seconds: of the trial for each precision.
        clock: function that returns the time in seconds.
    """

    def __init__(
        self,
        precision: PrecisionChoice,
        num_steps: int | None = None,
        seconds: float = 1.0,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.precision = precision
        self.num_steps = num_steps
        self.seconds = seconds
        self.clock = clock

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer or an evaluator of this package."""
        if isinstance(engine, HierarchicalTrainer):
            engine.add_event_handler(Events.STARTED, self._choose_for_training)
        else:
            engine.add_event_handler(Events.ITERATION_STARTED(once=1), self._choose_for_evaluation)

    def _choose_for_training(self, engine: HierarchicalTrainer) -> None:
        steps = engine.state.max_epochs * engine.state.epoch_length - engine.state.iteration
        if not self._is_settled(engine.module, steps):
            batch = first_batch(engine.data_loader)
            with engine.rehearsal(batch) as step:
                self._choose(engine.module, step, len(batch[Keys.IMAGE]) * idist.get_world_size())

    def _choose_for_evaluation(self, engine: HierarchicalEvaluator) -> None:
        network, batch = unwrap(engine.network), engine.state.batch
        if not self._is_settled(network, self.num_steps or 0):
            self._choose(network, lambda: engine.compute(batch), len(batch[Keys.IMAGE]))

    def _is_settled(self, network: nn.Module, steps: int) -> bool:
        """Tell whether there is nothing to time; the usual precision is taken then."""
        precision = self.precision
        # ONNX Runtime, which has no parameters here, has its own ways.
        is_torch = any(True for _ in network.parameters())
        if precision.open and is_torch and (steps < STEPS_WORTH_A_TRIAL or len(precision.candidates) == 1):
            precision.choose(precision.current, network)
        return not (precision.open and is_torch)

    def _choose(self, network: nn.Module, step: Callable[[], object], images: int) -> None:
        precision = self.precision

        def measure(candidate: Precision) -> float:
            precision.current = candidate
            precision.place(network)
            start = self._now()
            step()
            # All processes must take equally many steps.
            elapsed = torch.tensor(self._now() - start, dtype=torch.float64, device=precision.device)
            return of_first_process(elapsed).item()

        times = shortest_times(precision.candidates, measure, self.seconds)
        precision.choose(_fastest(times), network)
        if idist.get_rank() == 0:
            rates = ", ".join(f"{candidate.name} {images / elapsed:.0f}" for candidate, elapsed in times.items())
            print(
                f"precision: {precision} is the fastest here (images/s: {rates}); --amp {precision} repeats this run",
                flush=True,
            )

    def _now(self) -> float:
        if self.precision.device.type == "cuda":
            torch.cuda.synchronize(self.precision.device)
        return self.clock()
