# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts of a run that the configs call, such as the process group, the log and the batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite import distributed as idist
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_fgssl.data import CachedImages, DataError
from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PooledNet, distribute, unwrap
from monai_fgssl.report.provenance import command_line, versions
from monai_fgssl.utils import run_log
from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.run_log import tell

__all__ = [
    "build_first",
    "check_group",
    "check_puzzles",
    "fit_batch_size",
    "named_handler",
    "network_to_save",
    "network_to_train",
    "open_log",
    "start_process",
    "starts_solved",
    "tell_backbone_rate",
]


def open_log(output_dir: str | Path, settings: Mapping[str, Any]) -> None:
    """Open the log of a run, ``run.log`` in its output folder. It begins with command, versions and settings.

    Args:
        output_dir: folder of the run.
        settings: values by the names of the settings.
    """
    run_log.open_log(Path(output_dir) / "run.log", {"command": command_line(), **versions(), **settings})


def named_handler(handler: Any) -> Any:
    """Return the handler. Configs use it to name one in a list: ``{"_target_": ..., "handler": "@train#history"}``.

    MONAI's check of a bundle's properties expects a component in each entry of ``train#handlers``. A reference alone
    is not a component.
    """
    return handler


def build_first(*parts: Any) -> None:
    """Build parts of a run before its first phase, so that a mistake ends the run now and not after hours.

    A config passes references, ``$fgssl.build_first(@pretrain#trainer, @train#trainer)``. MONAI builds the parts before
    it calls this function, so the function has nothing to do.
    """


def check_puzzles(network: Any, image_size: int | Sequence[int], grids: Sequence[int | Sequence[int]]) -> None:
    """Refuse puzzles whose tiles cut the patches of a transformer.

    A patch becomes one token. If it held parts of two tiles, each token would see a seam that no image has, and the
    network would learn to find seams.

    Args:
        network: any network; without patches in its backbone there is nothing to check.
        image_size: pixels along each axis.
        grids: tiles along each axis, for each stage.

    Raises:
        SettingsError: when a tile is not a multiple of a patch. The message names grids that fit.
    """
    backbone = getattr(network, "backbone", None)
    patch = getattr(backbone, "patch_size", 0)
    if not patch:
        return
    dims = int(network.spatial_dims)
    sizes = ensure_tuple_rep(image_size, dims)
    for grid in grids:
        for tiles, size in zip(ensure_tuple_rep(grid, dims), sizes, strict=True):
            if (size // tiles) % patch:
                patches = size // patch
                whole = [n for n in range(1, patches + 1) if patches % n == 0]
                raise SettingsError(
                    f"--grids {list(grids)}: a tile of {size // tiles} px cuts the backbone's patches of {patch} px. "
                    f"Grids that fit along {size} px: {', '.join(map(str, whole))}."
                )


def fit_batch_size(name: str, batch_size: int, dataset: CachedImages) -> int:
    """Batch size of a phase: the setting, or the number of images if it is smaller, with a note.

    Args:
        name: name of the setting, for messages.
        batch_size: images for each process and step.
        dataset: images of the phase.

    Raises:
        DataError: when a process would have fewer than 2 images: batch norm needs at least 2.
    """
    share = len(dataset) // idist.get_world_size()
    if share >= batch_size:
        return batch_size
    if share < 2:
        raise DataError(
            f"there are {len(dataset)} images to learn from, but {idist.get_world_size()} process(es) need at least 2 "
            f"each (--{name}): add labeled images, or raise --label_fraction."
        )
    tell(f"note: --{name} {batch_size} is larger than the number of images: each batch has {share}")
    return share


def network_to_save(network: nn.Module, fine_tuning: str) -> nn.Module:
    """Network that the run calibrates, tests and saves.

    Args:
        network: network of :func:`network_to_train`.
        fine_tuning: setting of the run. ``"ensemble"``: an :class:`~monai_fgssl.networks.EnsembleNet` that shares all
            of the network's modules and adds a probe; otherwise the network itself. A network of another class than
            :class:`~monai_fgssl.networks.HierarchicalNet`, or one whose backbone has no name, stays as it is, with a
            note: a model's record could not describe the ensemble.
    """
    module = unwrap(network)
    if fine_tuning != "ensemble" or isinstance(module, EnsembleNet | PooledNet):
        return network
    if type(module) is not HierarchicalNet or not module.has_name():
        tell("note: the model gets no probe: --fine_tuning ensemble needs a HierarchicalNet on a backbone with a name")
        return network
    return EnsembleNet.of(module)


def starts_solved(network: nn.Module, fine_tuning: str) -> bool:
    """True if classifiers are solved on the frozen network before the training, see
    :func:`~monai_fgssl.engines.solve_heads`.

    Args:
        network: network of :func:`network_to_save`.
        fine_tuning: setting of the run.
    """
    return fine_tuning in ("probe", "lp_ft") or isinstance(unwrap(network), EnsembleNet)


def network_to_train(network: nn.Module, fine_tuning: str, num_classes: int) -> nn.Module:
    """Network that fine-tuning trains.

    Args:
        network: network of the pre-training. For several processes it was prepared by
            :func:`~monai_fgssl.networks.distribute`.
        fine_tuning: setting of the run. ``"full"`` and ``"ensemble"``: the network itself. ``"probe"`` and
            ``"lp_ft"``: a :class:`~monai_fgssl.networks.PooledNet` that shares its backbone.
        num_classes: number of classes.
    """
    module = unwrap(network)
    if fine_tuning in ("full", "ensemble") or isinstance(module, PooledNet):
        return network
    pooled = PooledNet.of(module, num_classes)
    return pooled if idist.get_world_size() == 1 else distribute(pooled)


def tell_backbone_rate(weights: object, backbone_rate: float) -> None:
    """Print how fast the backbone learns, and why, if the run starts from published weights.

    Args:
        weights: setting of the run; None: it starts from random weights, and nothing is printed.
        backbone_rate: setting of the run.
    """
    if weights is not None:
        tell(
            f"the backbone learns at {backbone_rate:g} of the learning rate: --backbone_rate sets this (default: 0.1 "
            "with --weights, to keep what they know; 1 with random weights)"
        )


def check_group(device: str) -> None:
    """Refuse a device of one's own for one model in several processes: without ``start_process``, they know no group.

    Args:
        device: device of this process.

    Raises:
        SettingsError: when this process is in no group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise SettingsError(
            f"--device {device} does not work with multi_gpu_train.json: leave it out. Each process then uses the GPU "
            "of its number, or the CPU if there is none."
        )


def start_process() -> str:
    """Join the process group that ``torchrun`` describes, unless done already, and return this process's device."""
    if dist.is_available() and dist.is_initialized():
        return str(idist.device())
    # Ignite must know the group, since idist.finalize() ends it. So torch's own function is not used.
    # The others may wait for an hour while the first process decodes all images. A process that dies is noticed at
    # once, by its connections or by torchrun. The limit is for a process that hangs, or whose machine is lost.
    idist.initialize("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(hours=1))
    return str(idist.device())
