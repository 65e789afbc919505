# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-correlation matrices of a network and their picture, against numpy."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.report.correlation_figure import plot_correlations, step_correlations
from monai_fgssl.transforms import RandView


def make_network() -> HierarchicalNet:
    torch.manual_seed(0)
    return HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=6)


def test_without_views_and_puzzles_it_is_the_correlation_of_the_features() -> None:
    network = make_network()
    images = torch.rand(32, 3, 32, 32)
    nothing = RandView()
    matrices = step_correlations(network, images, (1, 1, 1), nothing, nothing)
    assert matrices.shape == (4, 6, 6)
    with torch.no_grad():
        for step, matrix in enumerate(matrices, start=1):
            features = deepcopy(network).train().vectors_at_step(images, step).double().numpy()
            np.testing.assert_allclose(matrix, np.corrcoef(features.T), atol=1e-3)


def test_the_network_stays_as_it_was() -> None:
    network = make_network().eval()
    before = deepcopy(network.state_dict())
    step_correlations(network, torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), (4, 2, 1))
    assert not network.training
    after = network.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name]) and "num_batches" not in name]
    assert changed == []


def test_a_seed_gives_one_result_and_puzzles_matter() -> None:
    network = make_network()
    images = torch.rand(16, 3, 32, 32)
    first, again, other = (
        step_correlations(network, images, grids, seed=1) for grids in ((4, 2, 1),) * 2 + ((8, 2, 1),)
    )
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first[0], other[0])


def test_figure_tells_what_the_loss_is_made_of(tmp_path: Path) -> None:
    matrix = torch.full((4, 4), 0.5).fill_diagonal_(0.9)
    states = {"before": torch.zeros(2, 4, 4), "after": torch.stack([matrix, torch.eye(4)])}
    figure = plot_correlations(states, tmp_path / "correlations.png")
    panels = figure.axes[:4]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "before: stage1",
        "before: concat",
        "after: stage1",
        "after: concat",
    ]
    assert [axes.get_xlabel() for axes in panels[2:]] == ["on 0.90, off 0.50", "on 1.00, off 0.00"]
    np.testing.assert_array_equal(panels[2].images[0].get_array(), matrix)
    assert (tmp_path / "correlations.png").is_file()
