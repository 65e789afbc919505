# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compute Grad-CAM for each stage of a network, and draw it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.engines import Workflow
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from monai_fgssl.data.store.stream import ImageStream
from monai_fgssl.metrics import DecisionRule, decide
from monai_fgssl.networks import StagedNet, unwrap
from monai_fgssl.tasks import MULTICLASS, TASKS, Task
from monai_fgssl.utils.files import atomic_write, concerns_one_file

__all__ = ["HeatMapWriter", "axial_slices", "color_layer", "overlay", "stage_heat_maps"]

COLORMAP = "inferno"
# Height in pixels to which smaller pictures are enlarged.
MIN_HEIGHT = 256


def stage_heat_maps(network: StagedNet, images: Tensor, classes: Tensor | Sequence[int] | None = None) -> Tensor:
    """Compute Grad-CAM of the prediction at every stage: at the 3x3 convolution of its block, or at its averaged map.

    The score is the sum of the logits of all classifiers. So the map of a stage shows the stage's contribution to the
    prediction through its own classifier and through the concat classifier, but not through deeper stages. Of a
    :class:`~monai_fgssl.networks.MeanEnsembleNet`, it is the mean over the members. MONAI's
    ``GradCAM`` gives the same map for one image and one layer at a time; in a batch it mixes the classes of the images.

    Args:
        network: a :class:`~monai_fgssl.networks.HierarchicalNet` or :class:`~monai_fgssl.networks.PooledNet`, in any
            mode. Its mode does not change, and no gradients are left in it.
        images: images ``(B, C, *spatial)``, float in [0, 1], on the network's device.
        classes: class of each image whose evidence is shown, ``(B,)``; None: the likeliest class.

    Returns:
        ``(B, K, *spatial)`` float32 in [0, 1], stages from shallow to deep. The largest value of each map is 1, or the
        map is 0 everywhere: this stage has no evidence for the class.

    Source:
        Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2.
    """
    maps: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
        for layer in network.heat_map_layers()
    ]
    training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            # The images need gradients: without them there would be no graph if all parameters are frozen.
            logits = network.explained_logits(images.detach().requires_grad_())
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
    # Members of an ensemble have the same stages: the evidence of a stage is the mean over them.
    heat = torch.cat(stages, dim=1).unflatten(1, (network.num_members, -1)).mean(1)
    largest = heat.amax(tuple(range(2, heat.ndim)), keepdim=True)
    return heat / torch.where(largest > 0, largest, 1)


def overlay(image: Tensor, heat_map: Tensor, opacity: float = 0.6) -> NDArray[np.uint8]:
    """Lay a heat map over a picture. Where the heat map is 0, the picture does not change.

    Args:
        image: ``(C, H, W)`` float in [0, 1], 1 or 3 channels.
        heat_map: ``(H, W)`` in [0, 1].
        opacity: opacity of the heat map's highest value, in [0, 1].

    Returns:
        ``(H, W, 3)``, RGB.
    """
    picture = image.detach().float().cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
    colors, heat = _colors_of(heat_map)
    alpha = (opacity * heat)[..., None]
    return np.round(255 * np.clip((1 - alpha) * picture + alpha * colors, 0, 1)).astype(np.uint8)


def color_layer(heat_map: Tensor) -> NDArray[np.uint8]:
    """Make a heat map for a program that lays it over a picture. Its opacity grows with its value.

    Args:
        heat_map: ``(H, W)`` in [0, 1].

    Returns:
        ``(H, W, 4)``, RGBA, not premultiplied.
    """
    colors, heat = _colors_of(heat_map)
    return np.round(255 * np.dstack([colors, heat])).astype(np.uint8)


def _colors_of(heat_map: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Colors ``(H, W, 3)`` of a heat map, and the map itself, both in [0, 1]."""
    heat = heat_map.detach().float().cpu().numpy()
    return matplotlib.colormaps[COLORMAP](heat)[..., :3], heat


def axial_slices(volume: Tensor) -> Tensor:
    """Slices of a volume as radiologists look at them: the patient's right on the left side, the front at the top.

    Args:
        volume: ``(C, X, Y, Z)``, to the patient's right, to the front, to the head.

    Returns:
        ``(C, Z, Y, X)``, a view.
    """
    return volume.flip(1, 2).permute(0, 3, 2, 1)


def middle_slice(volume: Tensor) -> Tensor:
    """Middle slice of :func:`axial_slices`, ``(C, Y, X)``."""
    return axial_slices(volume)[:, volume.shape[-1] // 2]


def draw_heat_maps(image: Tensor, heat_maps: Tensor) -> NDArray[np.uint8]:
    """Draw an image, and next to it the image under each of its heat maps.

    Args:
        image: ``(C, H, W)`` float in [0, 1], 1 or 3 channels; or a volume ``(C, X, Y, Z)``, which is drawn by its
            :func:`middle_slice`.
        heat_maps: ``(K, *spatial)`` in [0, 1].

    Returns:
        ``(h, (K + 1) * w, 3)``, RGB, enlarged to a height of at least 256 pixels.
    """
    if image.ndim == 4:
        image, heat_maps = middle_slice(image), middle_slice(heat_maps)
    scale = max(1, MIN_HEIGHT / image.shape[1])
    large, heat = (
        F.interpolate(x[None].float().cpu(), scale_factor=scale, mode="bilinear", align_corners=False)[0].clamp(0, 1)
        for x in (image, heat_maps)
    )
    return np.concatenate([overlay(large, heat_map) for heat_map in (torch.zeros_like(heat[0]), *heat)], axis=1)


def batch_heat_maps(
    engine: Workflow,
    temperature: float = 1.0,
    adjustment: DecisionRule | None = None,
    task: Task = TASKS[MULTICLASS],
    class_number: int | None = None,
) -> Tensor:
    """Heat maps of the batch that an evaluator has just predicted. They are computed once for all writers.

    Args:
        engine: a :class:`~monai_fgssl.engines.HierarchicalEvaluator` of a network with ``heat_map_layers``.
        temperature: see :func:`~monai_fgssl.report.results.describe`.
        adjustment: see :func:`~monai_fgssl.report.results.describe`.
        task: see :func:`~monai_fgssl.report.results.describe`.
        class_number: number of the class to explain; None: the predicted class, or the likeliest finding.

    Returns:
        Maps of :func:`stage_heat_maps` for these classes, kept in ``engine.state.output["heat_maps"]``.
    """
    output = engine.state.output
    if "heat_maps" not in output:
        classes = explained_classes(engine, temperature, adjustment, task, class_number)
        output["heat_maps"] = stage_heat_maps(unwrap(engine.network), output[Keys.IMAGE], classes)
    return output["heat_maps"]


def explained_classes(
    engine: Workflow,
    temperature: float = 1.0,
    adjustment: DecisionRule | None = None,
    task: Task = TASKS[MULTICLASS],
    class_number: int | None = None,
) -> list[int]:
    """Number of the class that :func:`batch_heat_maps` explains for each image of the batch, with its arguments."""
    predicted = engine.state.output[Keys.PRED].cpu()
    if class_number is not None:
        return [class_number] * len(predicted)
    return classes_to_explain(task.probabilities(predicted / temperature), adjustment, task)


def classes_to_explain(
    probabilities: Tensor, adjustment: DecisionRule | None = None, task: Task = TASKS[MULTICLASS]
) -> list[int]:
    """Number of the class of each image that its heat maps explain, if a person chooses none.

    Args:
        probabilities: predictions ``(N, num_classes)``.
        adjustment: see :func:`~monai_fgssl.metrics.decide`.
        task: task of the model. Of several findings the likeliest is explained, since none may be predicted.
    """
    return list(map(int, decide(probabilities, None if task.independent else adjustment)))


class HeatMapWriter:
    """Draws the heat maps of every image that a :class:`~monai_fgssl.engines.HierarchicalEvaluator` predicts.

    It writes ``heat_maps/<name>.png`` in ``output_dir``: the maps of :func:`stage_heat_maps` for the predicted class.

    Args:
        output_dir: folder of the folder ``heat_maps``.
        stream: stream that the evaluator reads from; a picture that can't be written is added to its ``incomplete``.
            None: it ends the evaluation.
        temperature: see :func:`~monai_fgssl.report.results.describe`.
        adjustment: see :func:`~monai_fgssl.report.results.describe`.
        task: see :func:`~monai_fgssl.report.results.describe`.
        class_number: see :func:`batch_heat_maps`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        stream: ImageStream | None = None,
        temperature: float = 1.0,
        adjustment: DecisionRule | None = None,
        task: Task = TASKS[MULTICLASS],
        class_number: int | None = None,
    ) -> None:
        self.folder = Path(output_dir) / "heat_maps"
        self.stream = stream
        self.temperature = temperature
        self.adjustment = adjustment
        self.task = task
        self.class_number = class_number

    def attach(self, engine: Workflow) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._check)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._draw)

    def _check(self, engine: Workflow) -> None:
        network = unwrap(engine.network)
        if not isinstance(network, StagedNet) or not network.heat_map_layers():
            raise ValueError(
                f"heat maps need the gradients of a HierarchicalNet or PooledNet, got {type(network).__name__}: take "
                "the model.pt, or leave out heat_maps."
            )

    def _draw(self, engine: Workflow) -> None:
        chosen = self.temperature, self.adjustment, self.task, self.class_number
        images, maps = engine.state.output[Keys.IMAGE], batch_heat_maps(engine, *chosen)
        for name, image, heat_maps in zip(engine.state.batch["name"], images, maps, strict=True):
            try:
                with atomic_write(self.folder / f"{name}.png") as temporary:
                    Image.fromarray(draw_heat_maps(image, heat_maps)).save(temporary)
            except OSError as error:
                if self.stream is None or not concerns_one_file(error):
                    raise
                self.stream.incomplete.append((name, f"{name} has no heat map, since it could not be written: {error}"))
