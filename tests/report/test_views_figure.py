# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The picture of views and puzzles: the tests read the content of its panels back from the figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from monai_fgssl.report.views_figure import plot_views
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView, RandView


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def panels(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes]


def sorted_pixels(picture: np.ndarray) -> np.ndarray:
    pixels = picture.reshape(-1, picture.shape[-1])
    return pixels[np.lexsort(pixels.T)]


def test_panels_of_one_image():
    x = images(3, 16, 16)
    figure = plot_views(x, grids=(8, 4, 2))
    image, light, *puzzles, strong = panels(figure)
    np.testing.assert_array_equal(image, x.movedim(0, -1))
    for puzzle in puzzles:
        assert not np.array_equal(puzzle, light)
        np.testing.assert_array_equal(sorted_pixels(puzzle), sorted_pixels(light))
    assert not np.array_equal(strong, light)


def test_labels_name_grids_and_stages():
    figure = plot_views(images(1, 12, 12), grids=(6, 3))
    assert [ax.get_title() for ax in figure.axes] == [
        "Image", "Regularized view", "Puzzle 6 \u00d7 6", "Puzzle 3 \u00d7 3", "Distorted view",
    ]  # fmt: skip
    notes = [ax.get_xlabel() for ax in figure.axes]
    assert [note.split("·")[-1].strip() for note in notes[1:]] == ["all stages", "stage 1", "stage 2", "every step"]


def test_grid_per_axis():
    figure = plot_views(images(1, 4, 8, 6), grids=((1, 4, 2), 2), spatial_dims=3)
    assert [ax.get_title() for ax in figure.axes[2:4]] == ["Puzzle 1 \u00d7 4 \u00d7 2", "Puzzle 2 \u00d7 2 \u00d7 2"]


def test_puzzles_keep_the_tiles_of_their_grid():
    figure = plot_views(torch.arange(64.0).view(1, 8, 8) / 64, grids=(2,), regularized=RandView())
    _, light, puzzle, _ = panels(figure)
    tiles = {light[i : i + 4, j : j + 4].tobytes() for i in (0, 4) for j in (0, 4)}
    assert {puzzle[i : i + 4, j : j + 4].tobytes() for i in (0, 4) for j in (0, 4)} == tiles


def test_own_views_are_used():
    x = images(3, 8, 8)
    figure = plot_views(
        x, grids=(1,), regularized=RandView(), distorted=RandView(solarize_prob=1, solarize_threshold=0)
    )
    image, light, puzzle, strong = panels(figure)
    np.testing.assert_array_equal(light, image)
    np.testing.assert_array_equal(puzzle, image)
    np.testing.assert_allclose(strong, 1 - image)


def test_a_batch_gives_one_row_per_image():
    x = images(3, 3, 8, 8)
    figure = plot_views(x, grids=(4, 2))
    rows = np.array(figure.axes, dtype=object).reshape(3, 5)
    for image, ax in zip(x, rows[:, 0], strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), image.movedim(0, -1))
    assert rows[0, 0].get_title() == "Image"
    assert not any(ax.get_title() for ax in rows[1:].flat)
    assert [bool(row[-1].get_xlabel()) for row in rows] == [False, False, True]


@pytest.mark.parametrize("shape", [(2, 6, 8, 10), (2, 2, 6, 8, 10)])
def test_volumes_show_their_middle_slice_in_gray(shape):
    x = images(*shape)
    figure = plot_views(x, grids=(2,), spatial_dims=3)
    # (X, Y, Z) to the right, to the front, to the head: rows from the front, columns from the patient's right.
    axial = x.view(-1, 2, 6, 8, 10)[0, 0, :, :, 5].numpy()
    np.testing.assert_array_equal(panels(figure)[0], np.fliplr(np.flipud(axial.T)))
    assert figure.axes[2].get_title() == "Puzzle 2 \u00d7 2 \u00d7 2"


def test_bytes_look_like_their_fractions():
    x = (images(3, 8, 8) * 255).to(torch.uint8)
    for ours, expected in zip(panels(plot_views(x)), panels(plot_views(x / 255)), strict=True):
        np.testing.assert_allclose(ours, expected)


def test_seed():
    x = images(3, 8, 8)
    first, again, other = (panels(plot_views(x, seed=seed)) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[-1], other[-1])


def test_saved_picture_is_complete_and_alone(tmp_path):
    path = tmp_path / "new" / "views.png"
    plot_views(images(3, 16, 16), path=path)
    assert [file.name for file in path.parent.iterdir()] == ["views.png"]
    width, height = Image.open(path).size
    assert width > 4 * height


def test_no_random_state_but_its_own():
    regularized, distorted = RandRegularizedView().set_random_state(1), RandDistortedView().set_random_state(1)
    before = torch.random.get_rng_state(), regularized.R.get_state()[2], distorted.R.get_state()[2]
    plot_views(images(3, 8, 8), regularized=regularized, distorted=distorted)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (regularized.R.get_state()[2], distorted.R.get_state()[2]) == before[1:]


@pytest.mark.parametrize(("shape", "spatial_dims"), [((8, 8), 2), ((1, 1, 1, 8, 8), 2), ((3, 8, 8), 3)])
def test_wrong_number_of_axes(shape, spatial_dims):
    with pytest.raises(ValueError, match=f"spatial_dims={spatial_dims} spatial axes, got shape"):
        plot_views(images(*shape), spatial_dims=spatial_dims)
