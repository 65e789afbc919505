# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Features of a frozen network, for the configs ``embed``, ``similar`` and ``probe``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from monai.data import Dataset
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, ImageGeometry, ImageStream, PreparedData, ReadImaged, list_images
from monai_fgssl.engines import Embeddings, embed_files, embed_images, solve_pooled
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import DecisionRule, FeatureDistances, FindingSets, PredictionSets
from monai_fgssl.networks import PooledNet, StagedNet, unwrap
from monai_fgssl.networks.placement import memory_format
from monai_fgssl.networks.precision import move
from monai_fgssl.tasks import MULTICLASS, TASKS, Task
from monai_fgssl.utils.command import in_bundle_command
from monai_fgssl.utils.errors import SettingsError

from .locate import command_line_overrides
from .model_file import load_pretrained, load_weights, make_network

__all__ = [
    "embed_folder",
    "embed_parts",
    "embed_query",
    "frozen_network",
    "predict_features",
    "solve_probe",
    "tell_random_weights",
]


OF_A_BACKBONE = ("backbone", "stem", "inflate_weights")
"""Settings that choose the network, besides ``weights`` and ``pretrained``."""


def frozen_network(
    bundle_root: str | Path,
    model_path: str | Path | None,
    device: str | torch.device,
    trusted_networks: str | Sequence[str] | None = None,
    pretrained: str | Path | None = None,
    **start: Any,
) -> StagedNet:
    """Build the network that computes the features: the network of a trained model, or a published backbone.

    Args:
        bundle_root: see :func:`~monai_fgssl.bundle.read_record`.
        model_path: weights of a trained model, with its record in the same folder; None: use the backbone that
            ``start`` names.
        device: where to compute.
        trusted_networks: see :func:`~monai_fgssl.bundle.make_network`.
        pretrained: ``pretrained.pt`` of an earlier run with that backbone; used only without ``model_path``.
        start: arguments of :class:`~monai_fgssl.networks.PooledNet`; used only without ``model_path``.

    Raises:
        SettingsError: when the model is missing, damaged, or has no stages; when other settings choose the network too.
    """
    others = {name: value for name, value in (("weights", start.get("weights")), ("pretrained", pretrained)) if value}
    if in_bundle_command():
        others |= {name: value for name, value in command_line_overrides().items() if name in OF_A_BACKBONE}
    if model_path is not None and others:
        told = " and ".join(f"--{name}" for name in ("model_path", *others))
        raise SettingsError(f"{told} choose the network: a model has its own backbone and weights, so give one.")
    if model_path is None:
        network: nn.Module = PooledNet(num_classes=1, **start)
        if pretrained is not None:
            load_pretrained(network, pretrained)
        tell_random_weights(start.get("weights"), pretrained)
    else:
        if Path(model_path).suffix == ".onnx":
            raise SettingsError(f"{model_path} gives classes, not features: name a model.pt with --model_path.")
        network = make_network(bundle_root, model_path, trusted_networks)
        load_weights(network, model_path)
    if not isinstance(network, StagedNet):
        raise SettingsError(f"features need a network with stages, but {type(network).__name__} has no stages.")
    move(network, device, memory_format(network))
    return network.eval()


def tell_random_weights(weights: object, pretrained: object) -> None:
    """Print a note if features come from random weights.

    Args:
        weights: setting of the run.
        pretrained: setting of the run.
    """
    if weights is None and pretrained is None and idist.get_rank() == 0:
        print(
            "note: the backbone has random weights. For published weights add --weights; for weights of an earlier run "
            "add --pretrained",
            flush=True,
        )


def embed_folder(
    network: StagedNet,
    dataset_dir: str | Path | None,
    geometry: ImageGeometry,
    batch_size: int,
    cache_dir: str | Path | None = None,
) -> Embeddings:
    """Compute the features of all images in a folder, see :func:`~monai_fgssl.engines.embed_files`.

    Args:
        network: network of :func:`frozen_network`.
        dataset_dir: see :func:`~monai_fgssl.data.list_images`.
        geometry: geometry of the images.
        batch_size: images that are computed at once.
        cache_dir: see :func:`~monai_fgssl.engines.embed_files`.
    """
    if dataset_dir is None:
        raise SettingsError("there are no images to embed: name a folder, a list or a file with --dataset_dir.")
    items = list_images(dataset_dir, geometry.spatial_dims, geometry.frame)
    stream = ImageStream(Dataset(items, ReadImaged("image", geometry)), batch_size)
    start = time.perf_counter()
    embeddings = embed_files(network, stream, geometry, network.mean.device, cache_dir)
    print(f"features of {len(embeddings.names)} images in {time.perf_counter() - start:.1f} s", flush=True)
    return embeddings


def embed_query(network: StagedNet, query: str | Path | None, geometry: ImageGeometry) -> Embeddings:
    """Compute the features of the image that the others are compared with.

    Raises:
        SettingsError: when ``query`` does not name exactly one image.
    """
    if query is None:
        raise SettingsError("there is no image to compare with: name its file with --query.")
    items = list_images(query, geometry.spatial_dims, geometry.frame)
    if len(items) != 1:
        raise SettingsError(f"--query {query} holds {len(items)} images: name the file of one image.")
    stream = ImageStream(Dataset(items, ReadImaged("image", geometry)), 1)
    return embed_files(network, stream, geometry, network.mean.device)


def embed_parts(
    network: nn.Module, data: PreparedData, device: str | torch.device, cache_dir: str | Path | None = None
) -> dict[str, Tensor]:
    """Compute the features of the labeled images of each part. Each image is computed once.

    Args:
        network: a :class:`~monai_fgssl.networks.PooledNet`, which may be wrapped.
        data: data of the run.
        device: where to compute.
        cache_dir: folder that keeps the features of all images, so that runs with another split or other labels find
            them; None: they are not kept.

    Returns:
        Features ``(N, D)`` that the classifier reads, for the keys ``train`` (labeled images only), ``validation`` and
        ``test``.
    """
    module: PooledNet = unwrap(network)
    parts = {"train": data.train.labeled(), "validation": data.validation, "test": data.test}
    start = time.perf_counter()
    if cache_dir is None:
        features = {
            name: embed_images(module, images, device) if len(images) else torch.empty(0, sum(module.backbone.channels))
            for name, images in parts.items()
        }
    else:
        store = data.train.store
        rows = [str(row) for row in range(len(store))]
        everything = CachedImages(store, torch.zeros(len(store), dtype=torch.int64), rows, rows)
        known = embed_images(module, everything, device, cache_dir=cache_dir)
        features = {name: known[images.rows] for name, images in parts.items()}
    if idist.get_rank() == 0:
        count = sum(map(len, parts.values()))
        print(f"features of {count} images in {time.perf_counter() - start:.1f} s", flush=True)
    return {name: module.select(values) for name, values in features.items()}


def solve_probe(
    network: nn.Module, features: Mapping[str, Tensor], images: CachedImages, class_weights: Tensor | None = None
) -> float:
    """Solve the classifier of a network on known features, see :func:`~monai_fgssl.engines.solve_pooled`.

    Args:
        network: a :class:`~monai_fgssl.networks.PooledNet`, which may be wrapped.
        features: result of :func:`embed_parts`.
        images: labeled training images, in the order of the features ``train``.
        class_weights: see :func:`~monai_fgssl.metrics.solve_linear_probe`.

    Returns:
        Chosen penalty.
    """
    start = time.perf_counter()
    penalty = solve_pooled(unwrap(network), features["train"], images.labels, images.groups, class_weights)
    if idist.get_rank() == 0:
        chosen = f"{len(images)} labeled images (C by cross-validation: {penalty:g})"
        print(f"classifier solved on {chosen} in {time.perf_counter() - start:.1f} s", flush=True)
    return penalty


@torch.no_grad()
def predict_features(
    network: nn.Module,
    features: Tensor,
    images: CachedImages,
    temperature: float = 1.0,
    prediction_sets: PredictionSets | FindingSets | None = None,
    adjustment: DecisionRule | None = None,
    feature_distances: FeatureDistances | None = None,
    task: Task = TASKS[MULTICLASS],
) -> PredictionCollector:
    """Predict images whose features are known with a solved network.

    Args:
        network: a :class:`~monai_fgssl.networks.PooledNet`, which may be wrapped.
        features: features ``(N, D)`` of the images.
        images: images of one part.
        temperature: temperature of the calibration.
        prediction_sets: see :class:`~monai_fgssl.engines.handlers.PredictionCollector`.
        adjustment: see :class:`~monai_fgssl.engines.handlers.PredictionCollector`.
        feature_distances: see :class:`~monai_fgssl.engines.handlers.PredictionCollector`; it was fitted to features of
            the same kind.
        task: see :class:`~monai_fgssl.engines.handlers.PredictionCollector`.
    """
    module: PooledNet = unwrap(network)
    logits = module.classify(features.to(module.mean.device)).cpu()
    return PredictionCollector(
        list(images.names),
        list(images.groups),
        [images.labels],
        [logits[:, None]],
        temperature=temperature,
        prediction_sets=prediction_sets,
        adjustment=adjustment,
        feature_distances=feature_distances,
        _scores=[] if feature_distances is None else [feature_distances.scores(features)],
        task=task,
    )
