# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Show a training in TensorBoard or MLflow while it runs: losses, metrics, learning rates and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Events
from matplotlib.figure import Figure
from monai.engines import Workflow
from monai.utils.module import look_up_option, optional_import

from monai_fgssl.data import CachedImages
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.engines.handlers.epochs import every_epochs
from monai_fgssl.engines.handlers.history import metrics_with_validation
from monai_fgssl.networks import unwrap
from monai_fgssl.transforms import RandView

from .correlation_figure import plot_correlations, step_correlations
from .figures import plot_confusion
from .views_figure import plot_views

__all__ = ["FinetuneTracker", "MlflowWriter", "PretrainTracker", "RunTracker"]

TOOLS = ("tensorboard", "mlflow")
NUM_SHOWN_IMAGES = 4
# More images than the default network has features; otherwise chance correlations hide the others.
NUM_CORRELATED_IMAGES = 256
# Limits of MLflow: parameters in one request, characters of a value.
MLFLOW_MAX_PARAMETERS = 100
MLFLOW_MAX_LENGTH = 6000


class Writer(Protocol):
    """Writer of scalars and figures; torch's ``SummaryWriter`` is one."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write a number."""

    def add_figure(self, tag: str, figure: Figure, global_step: int) -> None:
        """Write a picture."""

    def add_text(self, tag: str, text_string: str) -> None:
        """Write a text."""

    def close(self) -> None:
        """Write values that are still in memory."""


class MlflowWriter:
    """A run of MLflow with the methods of torch's ``SummaryWriter``.

    It writes to the server of ``MLFLOW_TRACKING_URI``, or else to ``mlflow.db`` in a folder, with pictures in the
    subfolder ``mlflow_artifacts``. The experiment is ``MLFLOW_EXPERIMENT_NAME``, or else ``monai-fgssl``.

    Why not Ignite's ``MLflowLogger``: it writes to the run that is active in the process, can't continue an earlier
    run, and names a metric ``epoch loss``, which MLflow does not group as it groups ``epoch/loss``.

    Args:
        folder: folder of the files, see above.
        name: name of the run.
        goes_on: True: continue the newest run of this name; False: start a new run.
        settings: parameters of a new run, by which MLflow compares runs.

    Raises:
        ImportError: without MLflow.
    """

    def __init__(
        self, folder: str | Path, name: str, goes_on: bool = False, settings: Mapping[str, Any] | None = None
    ) -> None:
        mlflow, found = optional_import("mlflow")
        if not found:
            raise ImportError('tracking with MLflow needs it: pip install "monai-fgssl[tracking]"')
        path = Path(folder).resolve()
        address, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not address:
            path.mkdir(parents=True, exist_ok=True)
            address, artifacts = f"sqlite:///{path.as_posix()}/mlflow.db", (path / "mlflow_artifacts").as_uri()
        self._client = mlflow.MlflowClient(address)
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "monai-fgssl")
        experiment = self._client.get_experiment_by_name(title)
        number = experiment.experiment_id if experiment else self._client.create_experiment(title, artifacts)
        runs = self._client.search_runs([number], f"attributes.run_name = '{name}'", max_results=1) if goes_on else []
        self._run = (runs[0] if runs else self._client.create_run(number, run_name=name)).info.run_id
        if not runs:
            # MLflow refuses to change a parameter, so a continued run keeps its first parameters.
            values = [(key, str(value)[:MLFLOW_MAX_LENGTH]) for key, value in (settings or {}).items()]
            for start in range(0, len(values), MLFLOW_MAX_PARAMETERS):
                batch = [mlflow.entities.Param(*value) for value in values[start : start + MLFLOW_MAX_PARAMETERS]]
                self._client.log_batch(self._run, params=batch)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write a number."""
        self._client.log_metric(self._run, tag, scalar_value, step=global_step)

    def add_figure(self, tag: str, figure: Figure, global_step: int) -> None:
        """Write a picture; the step is in the name of its file."""
        self._client.log_figure(self._run, figure, f"{tag}_{global_step:06d}.png")

    def add_text(self, tag: str, text_string: str) -> None:
        """Write a text."""
        self._client.log_text(self._run, text_string, f"{tag}.md")

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run)


def open_writer(
    tool: str, folder: str | Path, name: str, iteration: int, settings: Mapping[str, Any] | None = None
) -> Writer:
    """Open a writer.

    Args:
        tool: ``"tensorboard"`` or ``"mlflow"``.
        folder: folder of the files; TensorBoard's are in its subfolder ``name``.
        name: name of the run.
        iteration: last iteration before the training starts. TensorBoard hides earlier records of later iterations.
        settings: settings of the run; MLflow shows them as parameters.

    Raises:
        ImportError: when the tool is not installed.
    """
    if tool == "mlflow":
        return MlflowWriter(folder, name, goes_on=iteration > 0, settings=settings)
    tensorboard, found = optional_import("torch.utils.tensorboard")
    if not found:
        raise ImportError('tracking with TensorBoard needs it: pip install "monai-fgssl[tracking]"')
    # Steps from this one on are hidden. Step 0 holds the values before the first iteration.
    return tensorboard.SummaryWriter(
        str(Path(folder) / name), purge_step=iteration + 1 if iteration else 0, flush_secs=10
    )


class RunTracker:
    """Writes the values of a training for TensorBoard or MLflow. Only the first process writes.

    - ``iteration/loss_<step>``, ``iteration/loss``, ``iteration/learning_rate_<group>``: every few iterations;
    - ``epoch/<name>``: all of ``engine.state.metrics``, and the evaluator's as ``val_<name>``, after each
      epoch; at step 0 the values before the first iteration;
    - ``settings``: a table, once; in MLflow also as parameters of the run;
    - figures at the start, every few epochs, and at the end, see the subclasses.

    The step is always the number of iterations, so that all curves have the same axis. Attach it after the handlers
    that write metrics. It does not change a training: the weights are the same without it.

    Args:
        name: name of the run, one for each phase.
        folder: see :func:`open_writer`.
        tool: ``"tensorboard"`` or ``"mlflow"``.
        settings: settings of the run.
        evaluator: engine whose metrics are written too.
        interval: iterations between two losses. Reading a loss waits for the device.
        figure_interval: epochs between two figures.
    """

    def __init__(
        self,
        name: str,
        folder: str | Path,
        tool: str = "tensorboard",
        settings: Mapping[str, Any] | None = None,
        evaluator: Workflow | None = None,
        interval: int = 10,
        figure_interval: int = 5,
    ) -> None:
        self.name = name
        self.folder = Path(folder)
        self.tool = look_up_option(tool, TOOLS)
        self.settings = dict(settings or {})
        self.evaluator = evaluator
        self.interval = interval
        self.figure_interval = figure_interval
        self._writer: Writer | None = None

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED(every=self.interval), self._write_learning_rates)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._write_losses)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write_metrics)
        engine.add_event_handler(every_epochs(self.figure_interval), self._write_figures)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close)

    def figures(self, engine: Workflow) -> dict[str, Figure]:
        """Figures by name. All processes call this, since a figure may need all of them."""
        return {}

    def _start(self, engine: Workflow) -> None:
        if engine.state.rank == 0:
            self._writer = open_writer(self.tool, self.folder, self.name, engine.state.iteration, self.settings)
            rows = [f"| {name} | {value} |" for name, value in self.settings.items()]
            self._writer.add_text("settings", "\n".join(["| setting | value |", "| --- | --- |", *rows]))
        if engine.state.iteration == 0:
            self._write_metrics(engine)
            self._write_figures(engine)

    def _write_learning_rates(self, engine: Workflow) -> None:
        # The rates are read before the iteration. After it, a scheduler sets the rates of the next iteration.
        if self._writer is not None:
            for number, group in enumerate(engine.optimizer.param_groups):
                self._writer.add_scalar(f"iteration/learning_rate_{number}", group["lr"], engine.state.iteration)

    def _write_losses(self, engine: Workflow) -> None:
        if self._writer is None:
            return
        output = engine.state.output
        # A decollated output is a list with one dictionary per image.
        first = output[0] if isinstance(output, list) else output
        for name, value in first.items():
            if name.startswith("loss"):
                self._writer.add_scalar(f"iteration/{name}", float(value), engine.state.iteration)

    def _write_metrics(self, engine: Workflow) -> None:
        if self._writer is not None:
            for name, value in metrics_with_validation(engine, self.evaluator).items():
                self._writer.add_scalar(f"epoch/{name}", value, engine.state.iteration)

    def _write_figures(self, engine: Workflow) -> None:
        for name, figure in self.figures(engine).items():
            if self._writer is not None:
                self._writer.add_figure(name, figure, engine.state.iteration)

    def _close(self, engine: Workflow, error: BaseException | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class PretrainTracker(RunTracker):
    """Tracker of pre-training, with ``views`` of a few images at the start, and the ``correlations`` of the loss.

    Args:
        images: images, of which the first few are shown in the views, and the first 256 are correlated.
        regularized: view that the puzzles are cut from.
        distorted: view that the puzzles are compared with.
        kwargs: arguments of :class:`RunTracker`.
    """

    def __init__(self, images: CachedImages, regularized: RandView, distorted: RandView, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.images = images
        self.regularized = regularized
        self.distorted = distorted

    def _first(self, count: int) -> torch.Tensor:
        return self.images[range(min(count, len(self.images)))]["image"]

    def figures(self, engine: Workflow) -> dict[str, Figure]:
        """The correlations, and before the first iteration the views."""
        network = unwrap(engine.network)
        batch = self._first(NUM_CORRELATED_IMAGES).to(engine.state.device)
        # Dropout in the network must not use up random numbers of the training.
        with torch.random.fork_rng([] if batch.device.type == "cpu" else [batch.device]):
            matrices = step_correlations(network, batch, engine.grids, self.regularized, self.distorted)
        found = {"correlations": plot_correlations({f"epoch {engine.state.epoch}": matrices.cpu()})}
        if engine.state.iteration == 0:
            shown = self._first(NUM_SHOWN_IMAGES)
            found["views"] = plot_views(shown, engine.grids, self.regularized, self.distorted, shown.ndim - 2)
        return found


class FinetuneTracker(RunTracker):
    """Tracker of fine-tuning, with the ``confusion`` matrix of the evaluator's newest predictions.

    Args:
        evaluator: evaluator that a ``ValidationHandler`` runs within the epochs.
        class_names: names of the classes.
        kwargs: arguments of :class:`RunTracker`.
    """

    def __init__(self, evaluator: Workflow, class_names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(evaluator=evaluator, **kwargs)
        self.class_names = list(class_names)
        self.predictions = PredictionCollector()

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer, and to its evaluator."""
        super().attach(engine)
        assert self.evaluator is not None
        self.predictions.attach(self.evaluator)

    def figures(self, engine: Workflow) -> dict[str, Figure]:
        """The confusion matrix, once there are predictions; none for several findings in one image."""
        if not self.predictions.names or self.predictions.labels.ndim == 2:
            return {}
        figure = plot_confusion(self.predictions.labels, self.predictions.predicted, self.class_names)
        return {"confusion": figure}
