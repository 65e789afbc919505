# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find the fastest precision of a run by timing its own step."""

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
from monai_fgssl.utils.processors import CoreUse, others_note

__all__ = ["FastestPrecision", "shortest_times"]

Clock = Callable[[], float]
Candidate = TypeVar("Candidate")

HOPELESS = 1.5
"""A candidate is not timed again if its first step took this many times as long as the fastest candidate's."""
GAIN = 0.95
"""A candidate replaces a more exact candidate if its step takes at most this share of the other's time."""
STEPS_WORTH_A_TRIAL = 50
"""Smallest number of steps of a phase for a trial. In a shorter phase the trial would cost more than it gains."""
LONG = 5
"""If a step takes this many times the seconds of a trial, its first measurement is enough."""


def shortest_times(
    candidates: Sequence[Candidate], measure: Callable[[Candidate], float], seconds: float = 1.0
) -> dict[Candidate, float]:
    """Time a step of several candidates in turns, so that other work of the machine slows all of them alike.

    Kernels are chosen in the first step of a candidate. That step counts only if the candidate has no other.

    Args:
        candidates: precisions to compare.
        measure: function that makes a step and returns its seconds.
        seconds: seconds for each candidate, with the first step. Each candidate that may win is timed at least twice.

    Returns:
        Seconds of the fastest step of each candidate.
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
    """Fastest precision; if several are about equally fast, the first of them."""
    best, *others = times
    for precision in others:
        if times[precision] <= GAIN * times[best]:
            best = precision
    return best


class FastestPrecision:
    """Times each precision that may be the fastest, and chooses the fastest. ``--amp auto`` asks for it.

    In a training it times the views, forward and backward of the whole network on real images. The trial has no effect
    on the training. In an evaluation it times the first batch. With several processes, the first process decides. If
    there is little to compute, the usual precision of the device is taken without a trial.

    Attach it after the :class:`~monai_fgssl.engines.handlers.Resumer`, which continues with the precision of the
    checkpoint, and before the handlers that compute.

    Args:
        precision: precision of the run.
        num_steps: number of steps that an evaluation will take; a trainer knows its own number.
        seconds: seconds of the trial for each precision.
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
        """Return True if there is nothing to time. The usual precision is then taken."""
        precision = self.precision
        # A model of ONNX Runtime has no parameters here, and chooses its precision itself.
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
            # All processes must make the same number of steps.
            elapsed = torch.tensor(self._now() - start, dtype=torch.float64, device=precision.device)
            return of_first_process(elapsed).item()

        use = CoreUse()
        times = shortest_times(precision.candidates, measure, self.seconds)
        note = others_note(use.of_others())
        precision.choose(_fastest(times), network)
        if idist.get_rank() == 0:
            rates = ", ".join(f"{candidate.name} {images / elapsed:.0f}" for candidate, elapsed in times.items())
            print(
                f"precision: {precision} is the fastest here (images/s: {rates}); --amp {precision} repeats this run",
                flush=True,
            )
            if note:
                print(note, flush=True)

    def _now(self) -> float:
        if self.precision.device.type == "cuda":
            torch.cuda.synchronize(self.precision.device)
        return self.clock()
