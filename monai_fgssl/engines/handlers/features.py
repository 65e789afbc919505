# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Watch the quality and the variety of the features during pre-training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Workflow
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from monai_fgssl.engines.hierarchical import prepare_images, step_names
from monai_fgssl.metrics.collapse import effective_rank, feature_std
from monai_fgssl.metrics.probes import knn_accuracy
from monai_fgssl.networks import PrecisionChoice, unwrap
from monai_fgssl.networks.precision import autocast_of
from monai_fgssl.utils.run_log import tell
from monai_fgssl.utils.words import readable

from .epochs import every_epochs

__all__ = ["FeatureMonitor"]

logger = logging.getLogger(__name__)

MIN_IMAGES_OF_RANK = 16
"""Smallest number of images for which the effective rank shows a collapse."""


class FeatureMonitor:
    """Measures kNN accuracy and signs of collapse, every few epochs of a pre-training.

    The network sees whole images in evaluation mode. The handler writes to ``engine.state.metrics``:

    - ``knn_accuracy``, ``knn_balanced_accuracy``: accuracy on the validation part, classified by the labeled training
      images on the concatenated vectors of all steps. Epoch 0, before the first iteration, is measured too, so that a
      pre-training that makes features worse than random features is seen at once;
    - ``rank_<step>``, ``std_<step>``: effective rank and standard deviation of each step's vectors on the validation
      part, see :mod:`monai_fgssl.metrics.collapse`. The rank of N images is below N, so a low rank of few images is
      not a sign of collapse.

    Epochs that are not measured have none of these metrics.

    Args:
        network: network with ``stage_vectors(images)``.
        train_loader: batches of labeled training images, with ``"image"`` and ``"label"``; None: there are no labels,
            and kNN is left out.
        val_loader: batches of labeled validation images; without labels, of any images.
        device: where to compute.
        interval: epochs between two measurements; the last epoch is always measured.
        neighbors: k of kNN.
        min_rank: smallest effective rank. A step that falls below it is reported once as collapsed, if there are at
            least :data:`MIN_IMAGES_OF_RANK` images.
        min_std: smallest standard deviation. A step that falls below it is reported once as collapsed.
        amp: compute in mixed precision, with ``amp_kwargs`` for ``torch.autocast``.
        precision: precision of the run, instead of ``amp`` and ``amp_kwargs``.
    """

    def __init__(
        self,
        network: nn.Module,
        train_loader: Iterable[dict[str, Any]] | None,
        val_loader: Iterable[dict[str, Any]],
        device: str | torch.device,
        interval: int = 1,
        neighbors: int = 20,
        min_rank: float = 3.0,
        min_std: float = 0.02,
        amp: bool = False,
        amp_kwargs: dict[str, Any] | None = None,
        precision: PrecisionChoice | None = None,
    ) -> None:
        self.network = network
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.device = torch.device(device)
        self.interval = interval
        self.neighbors = neighbors
        self.min_rank = min_rank
        self.min_std = min_std
        self.amp = amp
        self.amp_kwargs = amp_kwargs
        self.precision = precision
        self._reported: set[str] = set()
        self._written: set[str] = set()

    def attach(self, engine: Workflow) -> None:
        """Attach to a pre-trainer."""
        if engine.state.rank == 0:
            engine.add_event_handler(Events.STARTED, self._measure_start)
            engine.add_event_handler(Events.EPOCH_STARTED, self._forget)
            engine.add_event_handler(every_epochs(self.interval), self.measure)

    def state_dict(self) -> dict[str, Any]:
        """Steps that were reported as collapsed."""
        return {"reported": sorted(self._reported)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`: these steps are not reported again."""
        self._reported = set(state["reported"])

    def _measure_start(self, engine: Workflow) -> None:
        if engine.state.iteration == 0:
            self.measure(engine)
            shown = [name for name in engine.state.metrics if name.startswith("knn_")] or ["rank_concat"]
            values = ", ".join(f"{readable(name)} {engine.state.metrics[name]:.3g}" for name in shown)
            tell(f"before pre-training: {values}")

    def _forget(self, engine: Workflow) -> None:
        # An epoch that is not measured must not show the figures of an earlier epoch.
        for name in self._written:
            engine.state.metrics.pop(name, None)

    @torch.no_grad()
    def _vectors(self, loader: Iterable[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        vectors, labels = [], []
        network = unwrap(self.network)
        with eval_mode(network), autocast_of(self.device, self.precision, self.amp, self.amp_kwargs):
            for batch in loader:
                images, batch_labels = prepare_images(batch, self.device)
                vectors.append(network.stage_vectors(images).float())
                labels.append(batch_labels if batch_labels is not None else images.new_empty(0))
        return torch.cat(vectors), torch.cat(labels)

    def measure(self, engine: Workflow) -> None:
        """Measure now, and write the figures to ``engine.state.metrics``."""
        val_vectors, val_labels = self._vectors(self.val_loader)
        metrics = engine.state.metrics
        if self.train_loader is not None:
            train_vectors, train_labels = self._vectors(self.train_loader)
            knn = knn_accuracy(
                train_vectors.flatten(1), train_labels, val_vectors.flatten(1), val_labels, self.neighbors
            )
            metrics.update({f"knn_{name}": value for name, value in knn.items()})
            self._written.update(f"knn_{name}" for name in knn)
        enough = len(val_vectors) >= MIN_IMAGES_OF_RANK
        for name, vectors in zip(step_names(val_vectors.shape[1]), val_vectors.unbind(1), strict=True):
            metrics[f"rank_{name}"] = rank = effective_rank(vectors)
            metrics[f"std_{name}"] = std = feature_std(vectors)
            self._written.update((f"rank_{name}", f"std_{name}"))
            if ((enough and rank < self.min_rank) or std < self.min_std) and name not in self._reported:
                self._reported.add(name)
                logger.warning(
                    f"the features of {name} are collapsing in epoch {engine.state.epoch}: effective rank {rank:.1f} "
                    f"of at most {min(len(vectors) - 1, vectors.shape[1])}, standard deviation {std:.3f}. Try a "
                    "smaller learning rate, a larger batch, or weaker distortions."
                )
