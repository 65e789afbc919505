# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Where each stage of the network saw what speaks for a class: Grad-CAM, as numbers and as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.networks import HierarchicalNet

__all__ = ["overlay", "stage_heat_maps"]

COLORMAP = "inferno"


def stage_heat_maps(network: HierarchicalNet, images: Tensor, classes: Tensor | Sequence[int] | None = None) -> Tensor:
    """Grad-CAM of the prediction at the 3x3 convolution of every stage's block.

    The score is the sum of all classifiers' logits, so a stage's map shows what it contributes to the prediction,
    through its own classifier and through that of the concatenation. MONAI's ``GradCAM`` gives the same map for one
    image and one layer at a time; in a batch it mixes the classes of the images.

    Args:
        network: in any mode; left in the mode it was in, without gradients.
        images: ``(B, C, *spatial)`` float in [0, 1], on the network's device.
        classes: ``(B,)`` class of each image whose evidence is shown; None: the predicted one.

    Returns:
        ``(B, K, *spatial)`` float32 in [0, 1], stages from shallow to deep. The largest value of each map is 1, or the
        map is 0 everywhere: nothing at this stage speaks for the class.

    Source:
        Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2.
    """
    maps: list[Tensor] = []
    hooks = [
        block.convolutions.register_forward_hook(lambda _module, _inputs, output: maps.append(output))  # type: ignore[union-attr]
        for block in network.blocks
    ]
    training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            # Of the images, so that there is a graph even if all parameters are frozen.
            logits = network(images.detach().requires_grad_())
            chosen = logits.argmax(1) if classes is None else torch.as_tensor(classes, device=logits.device)
            gradients = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), maps)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    mode = {2: "bilinear", 3: "trilinear"}[images.ndim - 2]
    stages = []
    for feature_map, gradient in zip(maps, gradients, strict=True):
        weights = gradient.float().flatten(2).mean(2)
        evidence = torch.einsum("bc,bc...->b...", weights, feature_map.detach().float()).relu()[:, None]
        stages.append(F.interpolate(evidence, images.shape[2:], mode=mode, align_corners=False))
    heat = torch.cat(stages, dim=1)
    largest = heat.amax(tuple(range(2, heat.ndim)), keepdim=True)
    return heat / torch.where(largest > 0, largest, 1)


def overlay(image: Tensor, heat_map: Tensor, opacity: float = 0.6) -> NDArray[np.uint8]:
    """Lay a heat map over a picture; where it is 0 the picture shows unchanged.

    Args:
        image: ``(C, H, W)`` float in [0, 1], 1 or 3 channels.
        heat_map: ``(H, W)`` in [0, 1].
        opacity: of the heat map's highest value, in [0, 1].

    Returns:
        ``(H, W, 3)``, RGB.
    """
    picture = image.detach().float().cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
    heat = heat_map.detach().cpu().numpy()
    colors = matplotlib.colormaps[COLORMAP](heat)[..., :3]
    alpha = (opacity * heat)[..., None]
    return np.round(255 * np.clip((1 - alpha) * picture + alpha * colors, 0, 1)).astype(np.uint8)
