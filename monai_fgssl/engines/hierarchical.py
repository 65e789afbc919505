# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Base of pre-training and fine-tuning: each iteration has several steps, from the finest puzzle to the whole image."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.trainer import Trainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from monai.utils.module import look_up_option
from torch import Tensor, nn

from monai_fgssl.networks import PrecisionChoice, unwrap
from monai_fgssl.networks.distributed import GradientAverage
from monai_fgssl.networks.precision import AUTO, autocast_of
from monai_fgssl.utils.distributed import num_processes, sum_over_processes
from monai_fgssl.utils.memory import naming_setting
from monai_fgssl.utils.random_state import get_random_state, set_random_state

__all__ = ["HierarchicalTrainer", "prepare_images", "step_names"]

SCHEDULES = ("progressive", "joint", "alternating")


def prepare_images(
    batchdata: dict[str, Any], device: torch.device, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Move a batch to the device and scale uint8 images to [0, 1].

    Args:
        batchdata: batch with ``"image"``, ``(B, C, *spatial)``, uint8 or float in [0, 1]; and maybe ``"label"``,
            ``(B,)``.
        device: device to move to.
        non_blocking: passed to ``Tensor.to``.
        kwargs: passed to ``Tensor.to``.

    Returns:
        Images as float32 in [0, 1], and the labels or None.
    """
    images = batchdata[Keys.IMAGE].to(device, non_blocking=non_blocking, **kwargs)
    if images.dtype == torch.uint8:
        images = images.float().div_(255)
    labels = batchdata.get(Keys.LABEL)
    return images, None if labels is None else labels.to(device, non_blocking=non_blocking)


def step_names(num_steps: int) -> list[str]:
    """Names of an iteration's steps: ``stage1`` ... ``stageK`` and ``concat`` for the last one."""
    return [f"stage{k}" for k in range(1, num_steps)] + ["concat"]


@contextmanager
def frozen_running_statistics(network: nn.Module) -> Iterator[None]:
    """Normalize with the batch's own statistics, without updating the running statistics.

    Evaluation sees whole images only. If puzzles and distorted views entered the running averages too, the averages
    would fit none of the images at evaluation.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class HierarchicalTrainer(SupervisedTrainer):
    """Base of the two trainers: each iteration goes through the network's steps, from fine to coarse.

    Steps 1..K train one stage each, on a jigsaw puzzle of its grid. Step K+1 trains the concatenation of all stages on
    the whole image. The schedule says which steps an iteration makes:

    - ``"progressive"``: all steps, each with its own backward pass and optimizer step (PMG, FG-SSL);
    - ``"joint"``: all steps, whose losses are summed for one optimizer step;
    - ``"alternating"``: one step, another one for each batch. An image then needs at most two forward passes (one in
      fine-tuning), whatever the number of stages.

    Running statistics of batch norms come from undistorted whole images only.

    It fires MONAI's ``IterationEvents``. ``engine.state.output`` has the keys ``image``, ``label``, ``pred``, ``loss``
    (sum of the weighted step losses) and, for each step that was made, ``loss_<step>`` (unweighted). At the end of an
    epoch ``engine.state.metrics`` has the means under the same names, so stock handlers log them.

    Args:
        device: device to train on.
        max_epochs: number of epochs.
        train_data_loader: loader of dictionaries that ``prepare_batch`` understands.
        network: network with ``num_steps``; for pre-training also with ``vectors_at_step(images, step)`` and
            ``stage_vectors(images)``, for fine-tuning with ``logits_at_step(images, step)`` and
            ``stage_logits(images)``, as in :class:`~monai_fgssl.networks.HierarchicalNet`. For several processes it
            was prepared by :func:`~monai_fgssl.networks.distribute`; ``DistributedDataParallel`` averages gradients.
        optimizer: optimizer of all parameters. A parameter that a step does not use has no gradient then, so neither
            momentum nor weight decay moves it.
        loss_function: loss; the subclass says what it gets.
        grids: tiles of the puzzles along each axis, one entry for each of the steps 1..K: an int, or an int per axis.
        permutation: ``"uniform"`` or ``"cyclic"``, see :func:`~monai_fgssl.functional.random_permutations`.
        final_weight: weight of the last step's loss; the others weigh 1 (PMG eq. 4-5, FG-SSL).
        schedule: ``"progressive"``, ``"joint"`` or ``"alternating"``.
        max_grad_norm: norm to which gradients are clipped before each optimizer step; None: they are not clipped.
        seed: seed of puzzles and views.
        precision: precision of the run; an argument ``amp`` overrides it.
        kwargs: passed on to ``monai.engines.SupervisedTrainer``. ``amp_kwargs`` go to ``torch.autocast`` of the
            device's type; a gradient scaler is used for float16 only.

    Raises:
        ValueError: when ``grids`` does not have one entry for each of the network's steps but the last.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable,
        grids: Sequence[int | Sequence[int]],
        permutation: str = "uniform",
        final_weight: float = 2.0,
        schedule: str = "progressive",
        max_grad_norm: float | None = None,
        seed: int = 0,
        precision: PrecisionChoice | None = None,
        prepare_batch: Callable = prepare_images,
        train_handlers: Sequence | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            prepare_batch=prepare_batch,
            optim_set_to_none=True,
            **kwargs,
        )
        self.module = unwrap(network)
        self.num_steps: int = self.module.num_steps
        if len(grids) != self.num_steps - 1:
            raise ValueError(
                f"grids must have one entry per stage, fine to coarse: the network has {self.num_steps - 1} "
                f"stage(s), got grids {list(grids)}."
            )
        self.grids = list(grids)
        self.permutation = permutation
        self.step_weights = [1.0] * (self.num_steps - 1) + [final_weight]
        self.precision = None if "amp" in kwargs else precision
        self.schedule = look_up_option(schedule, SCHEDULES)
        self.max_grad_norm = max_grad_norm
        # On the CPU, so that the same seed gives the same puzzles and views on every device; one stream per rank.
        self.generator = torch.Generator().manual_seed(seed + 1_000_003 * self.state.rank)
        self._average = GradientAverage(self.module)
        self._reset_loss_means()
        self.add_event_handler(Events.EPOCH_COMPLETED, self._store_loss_means)
        # Attached last, so that these handlers find the means of the epoch.
        self._register_handlers(train_handlers or [])
        # Ignite does not raise an error if this event has a handler, so the handler must raise it.
        self.add_event_handler(Events.EXCEPTION_RAISED, self._raise)

    def run(self) -> None:
        """Train. A second call continues where the first ended.

        Raises:
            SettingsError: when the memory is not enough; the message names the setting to lower.
        """
        uses_float16 = self.amp and self._autocast_dtype() == torch.float16
        self.scaler = torch.amp.GradScaler(self.state.device.type) if uses_float16 else None
        batch_size = getattr(getattr(self.data_loader, "sampler", None), "batch_size", "")
        with naming_setting(self.activity, f"{self.batch_size_setting} {batch_size}".strip()):
            # `Trainer.run` is skipped, since it makes a CUDA gradient scaler for any device and dtype.
            super(Trainer, self).run()

    activity = "training"
    batch_size_setting = "--batch_size"
    """Setting that the message names if the memory is not enough."""

    @abstractmethod
    def make_step_inputs(self, images: Tensor) -> Any:
        """Make the views that all steps of one iteration share, from images ``(B, C, *spatial)``."""

    @abstractmethod
    def step_loss(self, step: int, inputs: Any, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the prediction and the unweighted scalar loss of one step (1 .. num_steps)."""

    def forward(self, method: Callable[..., Tensor], images: Tensor, *step: int, update_statistics: bool) -> Tensor:
        """Call a method of the network in training mode.

        Args:
            method: method of the network that maps images (some methods: and a step) to logits or vectors.
            images: images ``(B, C, *spatial)``.
            step: step, for methods that take one.
            update_statistics: True if the images count for the running statistics of batch norms.
        """
        with nullcontext() if update_statistics else frozen_running_statistics(self.network):
            return self.inferer(images, method, *step)

    def _autocast_dtype(self) -> torch.dtype:
        return self.amp_kwargs.get("dtype", torch.get_autocast_dtype(self.state.device.type))

    def _autocast(self) -> torch.autocast:
        return autocast_of(self.state.device, self.precision, self.amp, self.amp_kwargs)

    @contextmanager
    def rehearsal(self, batchdata: dict[str, Any]) -> Iterator[Callable[[], None]]:
        """Yield a function that computes a step of the whole network without any effect, to time it.

        The function makes the views of a batch, a forward and a backward pass. It fires no event and changes no weight.
        When the block ends, random states and statistics of batch norms are as before.

        Args:
            batchdata: batch of the loader.

        Yields:
            Function without arguments that computes the step.
        """
        random_state = get_random_state(self.generator)
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]

        def step() -> None:
            images, labels = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
            self.network.train()
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                # The last steps use the whole network.
                loss, *_ = self._group_loss(self._all_groups()[-1], self.make_step_inputs(images), labels)
            loss.backward()

        try:
            yield step
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            set_random_state(self.generator, random_state)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        images, labels = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        output: dict[str, Any] = {Keys.IMAGE: images}
        if labels is not None:
            output[Keys.LABEL] = labels
        engine.state.output = output
        self.network.train()
        inputs = self.make_step_inputs(images)
        losses: dict[int, Tensor] = {}
        for group in self._groups():
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                loss, pred, step_losses = self._group_loss(group, inputs, labels)
            loss = self._average(loss, tuple(group))
            losses |= step_losses
            output[Keys.PRED] = pred
            output[Keys.LOSS] = loss
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            engine.fire_event(IterationEvents.LOSS_COMPLETED)
            self._backward_and_step(loss)
        names = step_names(self.num_steps)
        for step, value in losses.items():
            output[f"loss_{names[step - 1]}"] = value
            self._loss_sums[step - 1] += value
            self._loss_counts[step - 1] += 1
        output[Keys.LOSS] = sum(self.step_weights[step - 1] * value for step, value in losses.items())
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _group_loss(
        self, group: Sequence[int], inputs: Any, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Compute the weighted loss of a group of steps, the last prediction, and each unweighted loss."""
        loss: Tensor | None = None
        losses: dict[int, Tensor] = {}
        for step in group:
            pred, step_loss = self.step_loss(step, inputs, labels)
            losses[step] = step_loss.detach()
            weighted = self.step_weights[step - 1] * step_loss
            loss = weighted if loss is None else loss + weighted
        assert loss is not None
        return loss, pred.detach(), losses

    def _groups(self) -> list[list[int]]:
        """Groups of steps of this iteration; the steps of a group share an optimizer step."""
        groups = self._all_groups()
        return [groups[(self.state.iteration - 1) % len(groups)]] if self.schedule == "alternating" else groups

    def _all_groups(self) -> list[list[int]]:
        steps = list(range(1, self.num_steps + 1))
        return [steps] if self.schedule == "joint" else [[step] for step in steps]

    def _backward_and_step(self, loss: Tensor) -> None:
        scaler = self.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if self.max_grad_norm is not None:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.max_grad_norm)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _reset_loss_means(self) -> None:
        self._loss_sums = torch.zeros(self.num_steps, device=self.state.device)
        self._loss_counts = [0] * self.num_steps

    def _store_loss_means(self) -> None:
        # Means over all processes, whose shares of a batch are equally large. With the alternating schedule, an epoch
        # with fewer batches than steps does not make all steps: the others keep the mean of the last epoch that made
        # them, and have none before.
        counts = self._loss_sums.new_tensor(self._loss_counts)
        means = (sum_over_processes(self._loss_sums / counts) / num_processes()).tolist()
        names = [f"loss_{name}" for name in step_names(self.num_steps)]
        metrics = self.state.metrics
        metrics.update({name: mean for name, mean, count in zip(names, means, self._loss_counts, strict=True) if count})
        if all(name in metrics for name in names):
            metrics["loss"] = sum(w * metrics[name] for w, name in zip(self.step_weights, names, strict=True))
        self._reset_loss_means()
        found = [f"{name} {metrics[name]:g}" for name in names if not math.isfinite(metrics.get(name, 0.0))]
        if found:
            raise ValueError(
                f"the loss is not finite in epoch {self.state.epoch} of {self.state.max_epochs} ({', '.join(found)}): "
                "the training has diverged. Start anew with a lower learning rate; if that does not help, add "
                "--amp false."
            )

    def _raise(self, engine: Any, error: BaseException) -> None:
        raise error

    def training_state(self) -> dict[str, Any]:
        """State of the trainer itself, from which it can continue as if it had never been stopped."""
        return {
            "iteration": self.state.iteration,
            "epoch_length": self.state.epoch_length,
            "metrics": dict(self.state.metrics),
            "loss_sums": self._loss_sums,
            "loss_counts": list(self._loss_counts),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "precision": None if self.precision is None else str(self.precision),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`training_state`. Call it after the run has started."""
        # Checkpoints of earlier releases have no precision; a precision in the command overrides the checkpoint's.
        recorded = state.get("precision")
        if self.precision is not None and self.precision.open and recorded not in (None, AUTO):
            self.precision.choose(recorded, self.module)
        self.state.iteration = state["iteration"]
        self.state.epoch = state["iteration"] // self.state.epoch_length
        self.state.metrics.update(state["metrics"])
        self._reset_loss_means()
        if any(state["loss_counts"]):
            self._loss_sums = state["loss_sums"].to(self.state.device)
            self._loss_counts = list(state["loss_counts"])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
