# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Classifiers of a pre-trained network, solved instead of trained."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from ignite import distributed as idist
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.metrics import LinearProbe, solve_linear_probe
from monai_fgssl.networks import unwrap
from monai_fgssl.utils.distributed import of_first_process

__all__ = ["solve_heads"]

BATCH_SIZE = 256


@torch.no_grad()
def solve_heads(network: nn.Module, images: CachedImages, device: str | torch.device) -> dict[str, float]:
    """Replace the weights of each classifier of a network by the linear probe of the vectors that it reads.

    A classifier with random weights sends large and aimless gradients into what pre-training learned. Solved ones are
    right from the first step, and without any further step they are a classifier on frozen features. Each step of
    :class:`~monai_fgssl.networks.HierarchicalNet` is solved by itself; the sum of their logits is the prediction.

    Args:
        network: one of :mod:`monai_fgssl.networks`, maybe wrapped by :func:`~monai_fgssl.networks.distribute`; it is
            used in evaluation mode, with the running statistics that it has.
        images: labeled training images; they are not augmented.
        device: where to compute.

    Returns:
        The chosen penalty by the name of the classifier.

    Raises:
        ValueError: when fewer than two classes have an image; no weight is changed then.

    Source:
        Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022,
        sec. 3.4: https://arxiv.org/abs/2202.10054
    """
    module: Any = unwrap(network)
    classifiers = module.classifiers()
    read: dict[str, list[Tensor]] = defaultdict(list)
    hooks = [
        classifier.register_forward_pre_hook(lambda _, inputs, name=name: read[name].append(inputs[0].float().cpu()))
        for name, classifier in classifiers.items()
    ]
    try:
        with eval_mode(module):
            for batch in make_loader(images, BATCH_SIZE):
                module.stage_logits(prepare_images(batch, torch.device(device))[0])
    finally:
        for hook in hooks:
            hook.remove()
    solved: dict[str, LinearProbe] = {
        name: solve_linear_probe(torch.cat(read[name]), images.labels, images.groups, classifier.out_features)
        for name, classifier in classifiers.items()
    }
    for name, probe in solved.items():
        # Processes on unlike machines may differ in the last digits.
        classifiers[name].weight.copy_(of_first_process(probe.weight.to(device)))
        classifiers[name].bias.copy_(of_first_process(probe.bias.to(device)))
    penalties = {name: probe.penalty for name, probe in solved.items()}
    if idist.get_rank() == 0:
        values = ", ".join(f"{value:g}" for value in penalties.values())
        print(f"classifiers solved on {len(images)} labeled images (C by cross-validation: {values})", flush=True)
    return penalties
