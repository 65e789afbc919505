# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Solve the classifiers of a pre-trained network instead of training them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines.embedding import BATCH_SIZE, embed_images
from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.metrics import LinearProbe, solve_linear_probe
from monai_fgssl.networks import EnsembleNet, PooledNet, unwrap
from monai_fgssl.utils.distributed import of_first_process
from monai_fgssl.utils.run_log import tell

__all__ = ["solve_heads", "solve_pooled"]


@torch.no_grad()
def solve_heads(
    network: nn.Module, images: CachedImages, device: str | torch.device, class_weights: Tensor | None = None
) -> dict[str, float]:
    """Replace the weights of each classifier of a network by a linear probe on the vectors that the classifier reads.

    A classifier with random weights sends large and useless gradients into the pre-trained backbone. A solved
    classifier is useful from the first step, and without any training it is a classifier on frozen features. Each step
    of :class:`~monai_fgssl.networks.HierarchicalNet` is solved by itself, and the prediction is the sum of their
    logits. The single classifier of a :class:`~monai_fgssl.networks.PooledNet` is solved by :func:`solve_pooled`. Of an
    :class:`~monai_fgssl.networks.EnsembleNet` only the probe is solved, on the features that the network has now. Solve
    it before the fine-tuning.

    Args:
        network: network of :mod:`monai_fgssl.networks`, which may be wrapped by ``DistributedDataParallel``; it is
            used in evaluation mode, with the running statistics that it has.
        images: labeled training images; they are not augmented.
        device: where to compute.
        class_weights: see :func:`~monai_fgssl.metrics.solve_linear_probe`.

    Returns:
        Chosen penalty of each classifier, by its name.

    Raises:
        ValueError: when fewer than two classes have an image; no weight changes then.

    Source:
        Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022,
        sec. 3.4: https://arxiv.org/abs/2202.10054
    """
    module: Any = unwrap(network)
    if isinstance(module, EnsembleNet):
        module.copy_backbone()
        module = module.probe
    if isinstance(module, PooledNet):
        means = module.select(embed_images(module, images, device))
        penalties = {"classifier": solve_pooled(module, means, images.labels, images.groups, class_weights)}
    else:
        penalties = _solve_steps(module, images, device, class_weights)
    values = ", ".join(f"{value:g}" for value in penalties.values())
    tell(f"classifiers solved on {len(images)} labeled images (C by cross-validation: {values})")
    return penalties


@torch.no_grad()
def solve_pooled(
    network: PooledNet, means: Tensor, labels: Tensor, groups: Sequence[str], class_weights: Tensor | None = None
) -> float:
    """Replace standardization and classifier of a network by those of a linear probe on known features.

    Args:
        network: network whose ``feature_mean``, ``feature_std`` and ``classifier`` are set.
        means: means ``(N, D)`` of the stages that the classifier reads, see :func:`embed_images`.
        labels: labels ``(N,)``, integers from 0.
        groups: lesion or patient of each image.
        class_weights: see :func:`~monai_fgssl.metrics.solve_linear_probe`.

    Returns:
        Chosen penalty, see :func:`~monai_fgssl.metrics.solve_linear_probe`.

    Raises:
        ValueError: when fewer than two classes have an image; the network does not change then.
    """
    probe = solve_linear_probe(means, labels, groups, network.classifier.out_features, class_weights=class_weights)
    network.fit_standardization(means)
    center, scale = network.feature_mean.double().cpu(), network.feature_std.double().cpu()
    weight, bias = probe.weight.double(), probe.bias.double()
    # This is the same classifier, written for standardized features.
    solved = LinearProbe((weight * scale).float(), (bias + weight @ center).float(), probe.penalty)
    _copy(solved, network.classifier)
    for value in (network.feature_mean, network.feature_std):
        value.copy_(of_first_process(value))
    return probe.penalty


def _solve_steps(
    module: Any, images: CachedImages, device: str | torch.device, class_weights: Tensor | None
) -> dict[str, float]:
    """Solve the classifier of each step by itself."""
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
        name: solve_linear_probe(
            torch.cat(read[name]),
            images.labels,
            images.groups,
            classifier.out_features,
            class_weights=class_weights,
        )
        for name, classifier in classifiers.items()
    }
    for name, probe in solved.items():
        _copy(probe, classifiers[name])
    return {name: probe.penalty for name, probe in solved.items()}


@torch.no_grad()
def _copy(probe: LinearProbe, classifier: nn.Linear) -> None:
    """Set a classifier to the same values on all processes, since different machines may differ in the last digits."""
    device = classifier.weight.device
    classifier.weight.copy_(of_first_process(probe.weight.to(device)))
    classifier.bias.copy_(of_first_process(probe.bias.to(device)))
