# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a network as a whole, and each of its stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.functional import all_orientations
from monai_fgssl.networks import PrecisionChoice, unwrap
from monai_fgssl.networks.precision import autocast_of
from monai_fgssl.utils.distributed import num_processes, sum_over_processes
from monai_fgssl.utils.memory import naming_setting

__all__ = ["HierarchicalEvaluator"]


class HierarchicalEvaluator(SupervisedEvaluator):
    """Predict whole images with the sum of the logits of all classifiers (PMG eq. 7), and with each stage by itself.

    ``engine.state.output`` holds ``image``, ``label`` (if the batch has labels), ``pred`` (logits,
    ``(B, num_classes)``), ``stage_logits`` (``(B, K + 1, num_classes)``) and ``orientation_logits``
    (``(B, V, num_classes)``), float32. With ``orientations`` (test-time augmentation) the network sees each image in
    all V orientations that need no resampling, and ``pred`` and ``stage_logits`` are means over them. Otherwise V is 1.
    With ``stage_means``, the output has ``stage_means`` too: means of the stages' feature maps, ``(B, D)`` float32, of
    the images as they are.

    The processes of a group share the work: each computes its part of every batch, and then all have the output of the
    whole batch. All of them must run the evaluation.

    Args:
        device: device to evaluate on.
        val_data_loader: loader of dictionaries that ``prepare_batch`` understands; it is the same on every process.
        network: network with ``stage_logits(images)``, such as :class:`~monai_fgssl.networks.HierarchicalNet`.
        orientations: True for test-time augmentation, see above and :func:`~monai_fgssl.functional.all_orientations`.
        stage_means: True for the means of the stages; the network then needs ``stage_logits_and_means(images)``.
        batch_size_setting: setting that the message names when the memory is not enough.
        precision: precision of the run; an argument ``amp`` overrides it.
        kwargs: passed on to ``monai.engines.SupervisedEvaluator``; ``amp_kwargs`` go to ``torch.autocast`` of the
            device's type.

    Source:
        Du et al., ECCV 2020, eq. 7: https://arxiv.org/abs/2003.03836
    """

    def __init__(
        self,
        device: str | torch.device,
        val_data_loader: Iterable,
        network: nn.Module,
        prepare_batch: Callable = prepare_images,
        orientations: bool = False,
        stage_means: bool = False,
        batch_size_setting: str = "--batch_size",
        precision: PrecisionChoice | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            device=torch.device(device),
            val_data_loader=val_data_loader,
            network=network,
            prepare_batch=prepare_batch,
            **kwargs,
        )
        self.orientations = orientations
        self.stage_means = stage_means
        self.precision = None if "amp" in kwargs else precision
        self.batch_size_setting = batch_size_setting

    def run(self, global_epoch: int = 1) -> None:
        """Evaluate.

        Args:
            global_epoch: epoch of the training that the evaluation belongs to.

        Raises:
            SettingsError: when the memory is not enough; the message names the setting to lower.
        """
        with naming_setting("evaluation", self.batch_size_setting):
            super().run(global_epoch)

    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits ``(B, V, K + 1, num_classes)`` and means of the stages ``(B, D)`` or None, float32."""
        network = unwrap(self.network)
        views = all_orientations(images) if self.orientations else images[None]
        means = None
        logits = []
        for number, view in enumerate(views):
            if self.stage_means and number == 0:
                of_view, means = self.inferer(view, network.stage_logits_and_means)
                means = means.float()
            else:
                of_view = self.inferer(view, network.stage_logits)
            logits.append(of_view.float())
        return torch.stack(logits, dim=1), means

    def _shared_outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs as of :meth:`_outputs`. With N processes, each computes every N-th image."""
        count = num_processes()
        if count == 1:
            return self._outputs(images)
        own = slice(self.state.rank, None, count)
        # A process without an image computes one anyway, since it needs the shape of the result.
        outputs = self._outputs(images[own] if self.state.rank < len(images) else images[:1])

        def share(values: Tensor) -> Tensor:
            shared = values.new_zeros(len(images), *values.shape[1:])
            shared[own] = values[: len(shared[own])]
            return sum_over_processes(shared)

        logits, means = outputs
        return share(logits), None if means is None else share(means)

    def compute(self, batchdata: dict[str, Any]) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Compute images, labels, logits ``(B, V, K + 1, num_classes)`` and means of the stages of a batch.

        No event is fired.
        """
        images, labels = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        with self.mode(self.network), autocast_of(self.state.device, self.precision, self.amp, self.amp_kwargs):
            return images, labels, *self._shared_outputs(images)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        images, labels, logits, means = self.compute(batchdata)
        wrong = len(logits) - int(logits.isfinite().flatten(1).all(1).sum())
        if wrong:
            # Softmax and argmax would make a class of NaN.
            raise ValueError(
                f"the network gives no numbers (NaN or infinity) for {wrong} of {len(logits)} images: the model is "
                "damaged, or its training has diverged. Train it anew with a lower learning rate."
            )
        stage_logits = logits.mean(1)
        output = {
            Keys.IMAGE: images,
            Keys.PRED: stage_logits.sum(1),
            "stage_logits": stage_logits,
            "orientation_logits": logits.sum(2),
        }
        if labels is not None:
            output[Keys.LABEL] = labels
        if means is not None:
            output["stage_means"] = means
        engine.state.output = output
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        # Handlers have used the headers of DICOM files already. MONAI's decollation comes next and would break them.
        batchdata.pop("headers", None)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
