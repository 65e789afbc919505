# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write checkpoints of a whole training, and continue from the newest."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Events
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from monai_fgssl.data.store.cached_images import EpochBatches
from monai_fgssl.engines.hierarchical import HierarchicalTrainer
from monai_fgssl.networks import unwrap
from monai_fgssl.utils.command import STOP_SIGNALS
from monai_fgssl.utils.files import remove_leftovers
from monai_fgssl.utils.random_state import get_random_state, set_random_state
from monai_fgssl.utils.run_log import tell
from monai_fgssl.utils.tensors import save_tensors

__all__ = ["Resumer"]

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
# Processes agree to save by exchanging a number, which on GPUs waits for the device.
GPU_ITERATIONS_BETWEEN_AGREEMENTS = 10
TIME_IS_UP = 1
SECONDS_OF_ONE_SIGNAL = 1.0
OF_OTHER_TYPES = (TypeError, AttributeError, IndexError, ZeroDivisionError, OverflowError)
"""Errors that a checkpoint raises if it holds something that this class never writes."""


class Resumer:
    """Saves everything that a training needs to continue as if it had never been stopped, and continues from it.

    A checkpoint is written every few minutes, at the end of the training, and when the process gets SIGTERM (for
    example from SLURM) or SIGINT (Ctrl-C), which then end it. It holds the objects of ``save_dict``, the trainer's
    place in its epoch, and the random states of all processes. On a CPU a resumed training ends with the same weights,
    bit for bit. With another number of processes or another batch size it continues after the same images, with new
    random views. With a loader that :func:`~monai_fgssl.data.make_loader` did not make, it repeats the interrupted
    epoch. Settings of the optimizer and of the learning rate's schedule are those of the present run, not those of the
    checkpoint: the schedule is taken to the place that the training has reached.

    Why not Ignite's ``Checkpoint``: it keeps one checkpoint, not two, while it writes the next, and does not know the
    checkpoints of an earlier process.

    Attach it before all other handlers, so that they see the resumed training at its start. If several processes share
    the work, all of them must see the folder.

    Args:
        save_dir: folder of the checkpoints. When a new training starts, checkpoints of an earlier training move to the
            subfolder ``previous``.
        name: name of the phase; the files begin with it.
        save_dict: objects with ``state_dict`` and ``load_state_dict``: network, optimizer, scheduler, handlers.
        minutes: minutes between checkpoints; 0: a checkpoint after each iteration.
        resume: True: continue from the newest checkpoint that is not damaged. Without a checkpoint, start.
        identity: data and settings that checkpoints belong to, by name, as text. None: they are not compared.
        hyperparameters: settings that may change when the training continues, by name, as text. Changes are printed.

    Raises:
        ValueError: at the start of the training, when the newest checkpoint belongs to other data or settings; the
            message names them.
        SystemExit: with the status 128 + number of the signal, after a signal.
    """

    def __init__(
        self,
        save_dir: str | Path,
        name: str,
        save_dict: Mapping[str, Any],
        minutes: float = 10.0,
        resume: bool = False,
        identity: Mapping[str, str] | None = None,
        hyperparameters: Mapping[str, str] | None = None,
    ) -> None:
        self.save_dir = Path(save_dir)
        self.name = name
        self.save_dict = dict(save_dict)
        self.minutes = minutes
        self.resume = resume
        self.identity = None if identity is None else dict(identity)
        self.hyperparameters = dict(hyperparameters or {})
        self._signal = 0
        self._signalled_at = 0.0
        self._finished_at = -1
        self._previous_handlers: dict[int, Any] = {}

    def attach(self, engine: HierarchicalTrainer) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._restore_signals)

    def _start(self, engine: HierarchicalTrainer) -> None:
        # A second run of an engine continues where the first ended.
        if engine.state.iteration == 0:
            if self.resume:
                self._restore(engine)
            elif idist.get_rank() == 0:
                self._put_aside()
            idist.barrier()
        if not engine.has_event_handler(self._after_iteration):
            # Attached only now, so that they come after all other handlers: a checkpoint holds the work of these.
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_due)
        self._saved_at = time.monotonic()
        self._signal = 0
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {number: signal.signal(number, self._remember_signal) for number in STOP_SIGNALS}

    def _remember_signal(self, number: int, frame: Any) -> None:
        # A launcher passes on a signal that the processes have got already: both are one signal.
        if self._signal and time.monotonic() - self._signalled_at < SECONDS_OF_ONE_SIGNAL:
            return
        if self._signal:
            # A second signal stops the process at once.
            self._restore_signals()
            # A shell starts its background processes with SIGINT ignored.
            if signal.getsignal(number) == signal.SIG_IGN:
                raise SystemExit(128 + number)
            signal.raise_signal(number)
        self._signal, self._signalled_at = number, time.monotonic()

    def _restore_signals(self, *_: Any) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers = {}

    def _after_iteration(self, engine: HierarchicalTrainer) -> None:
        # At the end of an epoch other handlers must do their work first.
        if engine.state.iteration % engine.state.epoch_length:
            self._save_if_due(engine)

    def _save_if_due(self, engine: HierarchicalTrainer) -> None:
        time_is_up = time.monotonic() - self._saved_at >= 60 * self.minutes
        reason = self._signal or (TIME_IS_UP if time_is_up else 0)
        if idist.get_world_size() > 1:
            if engine.state.device.type == "cuda" and engine.state.iteration % GPU_ITERATIONS_BETWEEN_AGREEMENTS:
                return
            reason = int(idist.all_reduce(reason, op="MAX"))
        if not reason:
            return
        self._save(engine, f"{engine.state.iteration:09d}")
        if reason != TIME_IS_UP:
            if idist.get_rank() == 0:
                print(
                    f"stopped by {signal.Signals(reason).name} in epoch {engine.state.epoch} of "
                    f"{engine.state.max_epochs} ({self.name}). To continue, repeat the command with --resume true.",
                    file=sys.stderr,
                    flush=True,
                )
            raise SystemExit(128 + reason)

    def _complete(self, engine: HierarchicalTrainer) -> None:
        self._restore_signals()
        if engine.state.iteration != self._finished_at:
            self._save(engine, "final")

    def _save(self, engine: HierarchicalTrainer, label: str) -> None:
        sampler = getattr(engine.data_loader, "sampler", None)
        random_state = get_random_state(engine.generator)
        checkpoint = {
            "trainer": engine.training_state(),
            "data": sampler.state_dict() if isinstance(sampler, EpochBatches) else None,
            "random": idist.all_gather(random_state) if idist.get_world_size() > 1 else [random_state],
            "objects": {name: unwrap(value).state_dict() for name, value in self.save_dict.items()},
            "identity": self.identity,
            "hyperparameters": self.hyperparameters,
        }
        if idist.get_rank() == 0:
            save_tensors(checkpoint, self.save_dir / f"{self.name}_{label}.pt", durable=True)
            for path in list(self._newest_first())[1 if label == "final" else KEPT_CHECKPOINTS :]:
                path.unlink(missing_ok=True)
        self._saved_at = time.monotonic()

    def _newest_first(self) -> Iterator[Path]:
        # "final" comes after all numbers.
        yield from sorted(self.save_dir.glob(f"{self.name}_*.pt"), reverse=True)

    def _put_aside(self) -> None:
        """Keep the checkpoints of an earlier training, in case it was to be resumed."""
        paths = list(self._newest_first())
        if not paths:
            return
        previous = self.save_dir / "previous"
        previous.mkdir(exist_ok=True)
        for path in previous.glob(f"{self.name}_*.pt"):
            path.unlink()
        for path in paths:
            path.rename(previous / path.name)
        if not paths[0].stem.endswith("_final"):
            tell(
                f"{self.name} starts anew (--resume true would continue). The checkpoints of the earlier, unfinished "
                f"run are now in {previous}."
            )

    def _restore(self, engine: HierarchicalTrainer) -> None:
        # Remove files that a killed process was writing.
        if idist.get_rank() == 0:
            remove_leftovers(self.save_dir)
        path, checkpoint = self._load_newest()
        if checkpoint is None:
            return
        self._compare(path, checkpoint)
        schedules = {name: value for name, value in self.save_dict.items() if _is_schedule(value)}
        scheduled = [schedule.optimizer for schedule in schedules.values()]
        try:
            steps = {name: int(checkpoint["objects"][name]["last_epoch"]) for name in schedules}
            for name, value in self.save_dict.items():
                if isinstance(value, Optimizer):
                    _load_optimizer(value, checkpoint["objects"][name], any(value is one for one in scheduled))
                # Objects that have no state in the checkpoint may be newer than it.
                elif name not in schedules and (name in checkpoint["objects"] or unwrap(value).state_dict()):
                    unwrap(value).load_state_dict(checkpoint["objects"][name])
        except (KeyError, RuntimeError, ValueError, *OF_OTHER_TYPES) as error:
            raise ValueError(
                f"{path} belongs to a training with other settings: repeat the command of the interrupted one, or "
                f"leave --resume out to start anew. {error}"
            ) from error
        is_random_state_set = False
        try:
            same_steps = self._set_position(engine, path, checkpoint)
            for name, schedule in schedules.items():
                # A schedule that makes a step in each iteration follows the number of iterations.
                is_by_iteration = steps[name] == checkpoint["trainer"]["iteration"]
                _replay(schedule, engine.state.iteration if is_by_iteration else steps[name])
            states = checkpoint["random"]
            if same_steps and len(states) == idist.get_world_size():
                set_random_state(engine.generator, states[idist.get_rank()])
                is_random_state_set = True
        except (RuntimeError, *OF_OTHER_TYPES) as error:
            raise ValueError(f"{path} is not a checkpoint of this package, or damaged ({error}): remove it.") from error
        except KeyError as error:
            raise ValueError(
                f"{path} lacks the entry {error}: another version of monai-fgssl wrote it. Continue with that version, "
                "or leave --resume out to start anew."
            ) from error
        if not is_random_state_set:
            # These random states belong to none of the processes of the run so far.
            engine.generator.manual_seed(engine.generator.initial_seed() + 1_000_000_007 * (engine.state.iteration + 1))
        state = engine.state
        total = state.max_epochs * state.epoch_length
        is_finished = state.iteration >= total
        if is_finished:
            self._finished_at = state.iteration
        if idist.get_rank() == 0:
            where = "is finished" if is_finished else f"continues after iteration {state.iteration} of {total}"
            tell(f"{self.name} {where} ({path})")
            for name, before, now in self._changes(checkpoint):
                if is_finished:
                    tell(
                        f"warning: {self.name} was done with {name} {before}; {now} comes too late and changes nothing."
                    )
                else:
                    tell(f"{self.name} continues with another {name}: {before} before, {now} now.")

    def _compare(self, path: Path, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of other data or settings."""
        before = checkpoint.get("identity")
        if not isinstance(before, (Mapping, type(None))) or not isinstance(checkpoint.get("trainer", {}), Mapping):
            raise ValueError(f"{path} is not a checkpoint of this package: remove it.")
        if self.identity is not None and before is not None:
            # A setting that an earlier release did not have counts as none.
            before = dict.fromkeys(self.identity, "null") | dict(before)
            names = sorted(before)
            others = [
                f"\n  - {name} was {before.get(name)}, and is now {self.identity.get(name)}"
                for name in names
                if before.get(name) != self.identity.get(name)
            ]
            if others:
                raise ValueError(
                    f"{path} belongs to a run with other data or settings:{''.join(others)}\nRepeat the command of "
                    "that run, leave --resume out to start anew, or give this run its own --output_dir."
                )
        elif self.identity is not None and idist.get_rank() == 0:
            tell(f"warning: an earlier release wrote {path}, so data and settings can't be compared.")

    def _changes(self, checkpoint: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """Name, former value and present value of the hyperparameters that have changed."""
        before, now = checkpoint.get("hyperparameters"), self.hyperparameters
        if not isinstance(before, Mapping):
            return []
        return [(name, old, now[name]) for name, old in before.items() if name in now and now[name] != old]

    def _load_newest(self) -> tuple[Path, dict[str, Any] | None]:
        """Load the newest checkpoint that can be read; all processes load the same."""
        newest = ""
        checkpoint: dict[str, Any] | None = None
        if idist.get_rank() == 0:
            for path in self._newest_first():
                checkpoint = _read(path)
                if checkpoint is not None and (reason := self._misfit(checkpoint)):
                    logger.warning(f"{path} does not fit its own run ({reason}): trying an older checkpoint.")
                    checkpoint = None
                if checkpoint is not None:
                    newest = path.name
                    break
        if idist.get_world_size() > 1:
            newest = str(idist.broadcast(newest, src=0, safe_mode=True))
            if newest and checkpoint is None:
                checkpoint = _read(self.save_dir / newest)
                if checkpoint is None:
                    raise ValueError(
                        f"{self.save_dir / newest}: process {idist.get_rank()} can't read this file; process 0 can. "
                        "All processes must see the folder of the checkpoints."
                    )
        return self.save_dir / newest, checkpoint

    def _misfit(self, checkpoint: Mapping[str, Any]) -> str:
        """Describe the tensor of a checkpoint of this run that has the wrong shape; empty if all shapes fit.

        A checkpoint of another run is not looked at: :meth:`_compare` reports it.
        """
        identity, objects = checkpoint.get("identity"), checkpoint.get("objects")
        if self.identity is None or not isinstance(identity, Mapping) or not isinstance(objects, Mapping):
            return ""
        if dict.fromkeys(self.identity, "null") | dict(identity) != self.identity:
            return ""
        for name, value in self.save_dict.items():
            if name not in objects:
                # Another release wrote it, which is reported when it is loaded.
                return ""
            found = ""
            if isinstance(value, Optimizer):
                found = _misfit_of_optimizer(value, objects[name])
            elif isinstance(value, nn.Module):
                found = _misfit_of_state(unwrap(value).state_dict(), objects[name])
            if found:
                return f"{name}: {found}"
        return ""

    def _set_position(self, engine: HierarchicalTrainer, path: Path, checkpoint: dict[str, Any]) -> bool:
        """Go to the place in the epoch. Return True if the next steps are the same as without the interruption."""
        trainer, data, length = checkpoint["trainer"], checkpoint["data"], engine.state.epoch_length
        if trainer["iteration"] < 0 or trainer["epoch_length"] < 1:
            raise IndexError("no training is in such a place")
        epoch, batch = divmod(trainer["iteration"], trainer["epoch_length"])
        sampler = getattr(engine.data_loader, "sampler", None)
        if not isinstance(sampler, EpochBatches) or data is None:
            engine.load_training_state({**trainer, "iteration": epoch * length, "loss_counts": []})
            return False
        now = sampler.state_dict()
        for field in ("images", "seed"):
            if data[field] != now[field]:
                raise ValueError(
                    f"{path} belongs to a training with other data: {field} was {data[field]}, and is now {now[field]}."
                    " Repeat the command of the interrupted training, or leave --resume out to start anew."
                )
        same_steps = data["images_per_step"] == now["images_per_step"]
        if not same_steps:
            # Continue after the same images; an unfinished epoch stays unfinished.
            batch = min(batch * data["images_per_step"] // now["images_per_step"], length - 1)
        engine.load_training_state({**trainer, "iteration": epoch * length + batch})
        sampler.set_epoch(epoch, batch)
        return same_steps


def _is_schedule(value: object) -> bool:
    """True if the number of steps alone tells the learning rate."""
    return isinstance(value, LRScheduler) and not isinstance(value, ReduceLROnPlateau)


def _load_optimizer(optimizer: Optimizer, stored: Any, is_scheduled: bool) -> None:
    """Load the moments of a checkpoint. Settings such as the weight decay stay those of this run.

    Args:
        optimizer: not used yet.
        stored: its state in the checkpoint.
        is_scheduled: True: the learning rates stay too, because a schedule will set them.
    """
    loaded = {"params"} if is_scheduled else {"params", "lr"}
    own = [{key: value for key, value in group.items() if key not in loaded} for group in optimizer.param_groups]
    optimizer.load_state_dict(stored)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def _replay(schedule: LRScheduler, steps: int) -> None:
    """Take a new schedule to the place that it has after this number of steps.

    Its own state would bring the former learning rate, warm-up and length with it.
    """
    with warnings.catch_warnings():
        # torch warns of steps before the first one of the optimizer.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(steps):
            schedule.step()


def _misfit_of_state(own: Mapping[str, Any], stored: Any) -> str:
    """Compare the tensors of a network with stored ones. Return the first difference, or an empty text."""
    if not isinstance(stored, Mapping):
        return f"is {type(stored).__name__}"
    for key, value in own.items():
        if isinstance(value, Tensor) and getattr(stored.get(key), "shape", None) != value.shape:
            return f"{key} is not of shape {tuple(value.shape)}"
    return ""


def _misfit_of_optimizer(optimizer: Optimizer, stored: Any) -> str:
    """Compare moments with their parameters. torch itself would notice a difference only at the next step."""
    try:
        groups, moments = stored["param_groups"], stored["state"]
        places = [place for group in groups for place in group["params"]]
        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in optimizer.param_groups]:
            return "has other groups of parameters"
        for place, parameter in zip(places, own, strict=True):
            for name, value in moments.get(place, {}).items():
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    return f"{name} of parameter {place} is not of shape {tuple(parameter.shape)}"
    except (KeyError, *OF_OTHER_TYPES) as error:
        return f"is not the state of an optimizer ({error!r})"
    return ""


def _read(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; if it is damaged, warn and return None."""
    try:
        # PyTorch itself does not check the checksums.
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged is not None:
            raise OSError(f"its entry {damaged} has a wrong checksum")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict):
            raise TypeError(f"it holds {type(checkpoint).__name__}")
        return checkpoint
    except Exception as error:
        logger.warning(f"{path} is damaged ({type(error).__name__}: {error}): trying an older checkpoint.")
        return None
