# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of any window and slice, and heat maps that are laid over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import write_ct_series, write_dicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from monai_fgssl.bundle import copy_bundle, save_model
from monai_fgssl.data import DataError, DecoderPool, ImageGeometry
from monai_fgssl.label.heat_layers import HeatLayers, place_in_whole, slice_at
from monai_fgssl.label.model import LabelModel
from monai_fgssl.label.viewer import Viewer
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.report import stage_heat_maps
from monai_fgssl.report.pictures import draw_image

GRAY = np.random.default_rng(0).integers(0, 4096, (24, 32), dtype=np.uint16)
# To the patient's right and front, near the head: X, Y, Z of a volume.
SPOT = (8, 10, 5)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool() as pool:
        yield pool


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume of 10 x 12 x 8 voxels whose slices differ, with a bright spot at :data:`SPOT`."""
    values = np.broadcast_to(np.arange(8.0) * 10, (10, 12, 8)).copy()
    values[SPOT] = 1000
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.eye(4)), tmp_path / "volume.nii.gz")
    return tmp_path / "volume.nii.gz"


def test_a_gray_picture_is_drawn_with_any_window(tmp_path: Path, pool: DecoderPool) -> None:
    path = write_dicom(
        tmp_path / "x.dcm", GRAY, WindowCenter=1000, WindowWidth=500, RescaleSlope=2, RescaleIntercept=-100
    )
    viewer = Viewer(pool, lambda: 2, dict)
    view = viewer.draw(path)
    assert view.choices() == {
        "size": (32, 24),
        "window": (1000, 500),
        "values": (2 * float(GRAY.min()) - 100, 2 * float(GRAY.max()) - 100),
        "slices": 1,
        "slice": 0,
    }
    for window in (None, (3000, 2000)):
        header = pydicom.dcmread(path)
        if window:
            header.WindowCenter, header.WindowWidth = window
        expected = apply_voi_lut(apply_modality_lut(GRAY, header), header)
        # Some pixels are below the window, and some above it.
        expected = np.round(255 * (expected - expected.min()) / (expected.max() - expected.min()))
        drawn = viewer.draw(path, window=window)
        assert np.abs(drawn.pixels[..., 0] - expected).max() <= 1
        # What can be chosen stays what it was.
        assert drawn.levels is not None
        assert drawn.levels.values == (2 * float(GRAY.min()) - 100, 2 * float(GRAY.max()) - 100)


def test_a_photograph_has_nothing_to_choose(tmp_path: Path, pool: DecoderPool) -> None:
    Image.fromarray((GRAY / 16).astype(np.uint8)).convert("RGB").save(tmp_path / "x.png")
    viewer = Viewer(pool, lambda: 2, dict)
    view = viewer.draw(tmp_path / "x.png")
    assert view.choices() == {"size": (32, 24), "window": None, "values": None, "slices": 1, "slice": 0}
    assert (view.pixels == np.asarray(Image.open(tmp_path / "x.png"))).all()
    with pytest.raises(IndexError):
        viewer.draw(tmp_path / "x.png", index=1)


def test_every_slice_of_a_volume_is_drawn(volume: Path, pool: DecoderPool) -> None:
    viewer = Viewer(pool, lambda: 3, dict)
    middle = viewer.draw(volume)
    assert (middle.slices, middle.index, middle.pixels.shape) == (8, 4, (12, 10, 3))
    assert (middle.pixels == draw_image(volume, 3)).all()
    for index in range(8):
        drawn = viewer.draw(volume, window=(50, 100), index=index).pixels[..., 0]
        expected = np.full((12, 10), 255 * index / 10)
        if index == SPOT[2]:
            # The patient's right on the left, the front above.
            expected[12 - 1 - SPOT[1], 10 - 1 - SPOT[0]] = 255
        assert np.abs(drawn - expected).max() <= 0.5
    for index in (-1, 8):
        with pytest.raises(IndexError, match="slices 0 to 7"):
            viewer.draw(volume, index=index)


def test_dicom_and_nifti_show_the_same_slices(volume: Path, tmp_path: Path, pool: DecoderPool) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    write_ct_series(volume, folder, lambda z: f"{z}.dcm")
    viewer = Viewer(pool, lambda: 3, dict)
    for index in range(8):
        pictures = [viewer.draw(path, window=(50, 100), index=index).pixels for path in (volume, folder)]
        assert (pictures[0] == pictures[1]).all()


def test_a_volume_is_read_once_until_it_changes(volume: Path, pool: DecoderPool) -> None:
    viewer = Viewer(pool, lambda: 3, dict, max_bytes=1)
    first = viewer.slices(volume)
    assert viewer.slices(volume) is first
    other = volume.with_name("other.nii.gz")
    other.write_bytes(volume.read_bytes())
    viewer.slices(other)
    # There was room for one.
    assert viewer.slices(volume) is not first
    volume.write_bytes(b"no volume")
    with pytest.raises(DataError):
        viewer.slices(volume)


def test_a_region_has_the_pixels_of_the_file(tmp_path: Path, pool: DecoderPool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    viewer = Viewer(pool, lambda: 2, dict)
    assert viewer.draw(tmp_path / "x.png", max_size=50).pixels.shape == (30, 50, 3)
    part = viewer.draw(tmp_path / "x.png", region=(120, 30, 200, 90))
    assert part.size == (500, 300)
    assert (part.pixels == pixels[30:120, 120:320]).all()
    smaller = viewer.draw(tmp_path / "x.png", max_size=40, region=(120, 30, 200, 90)).pixels
    expected = Image.fromarray(pixels[30:120, 120:320])
    expected.thumbnail((40, 40))
    assert (smaller == np.asarray(expected)).all()
    for wrong in ((0, 0, 501, 1), (-1, 0, 5, 5), (0, 0, 0, 5), (499, 299, 1, 2), (0, 0, -5, -5)):
        with pytest.raises(IndexError, match="500 x 300"):
            viewer.draw(tmp_path / "x.png", region=wrong)


def test_regions_of_gray_pictures_and_of_slices_have_the_window(
    tmp_path: Path, volume: Path, pool: DecoderPool
) -> None:
    path = write_dicom(tmp_path / "x.dcm", GRAY, WindowCenter=1000, WindowWidth=500)
    viewer = Viewer(pool, lambda: 2, dict)
    for window in (None, (3000, 2000)):
        whole = viewer.draw(path, window=window)
        part = viewer.draw(path, window=window, region=(10, 4, 20, 12))
        assert (part.pixels == whole.pixels[4:16, 10:30]).all()
        assert part.levels == whole.levels
    slices = Viewer(pool, lambda: 3, dict)
    whole = slices.draw(volume, index=SPOT[2])
    part = slices.draw(volume, index=SPOT[2], region=(0, 1, 7, 5))
    assert (part.pixels == whole.pixels[1:6, :7]).all()
    assert part.size == whole.size == (10, 12)
    with pytest.raises(IndexError, match="10 x 12"):
        slices.draw(volume, region=(0, 0, 12, 10))


def test_a_picture_is_read_once_for_all_its_regions(
    tmp_path: Path, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray((GRAY / 16).astype(np.uint8)).convert("RGB").save(tmp_path / "x.png")
    asked = []
    call = pool.call
    monkeypatch.setattr(pool, "call", lambda *args, **options: asked.append(args[1]) or call(*args, **options))
    viewer = Viewer(pool, lambda: 2, dict)
    for left in range(5):
        viewer.draw(tmp_path / "x.png", region=(left, 0, 4, 4))
    assert asked == [tmp_path / "x.png"]
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(tmp_path / "x.png")
    assert viewer.draw(tmp_path / "x.png", region=(4, 0, 4, 4)).pixels.max() == 0
    assert len(asked) == 2
    # A large one also before a region is asked for.
    Image.new("RGB", (2500, 2000), "red").save(tmp_path / "large.png")
    assert viewer.draw(tmp_path / "large.png", max_size=500).pixels.shape == (400, 500, 3)
    assert viewer.draw(tmp_path / "large.png", region=(2496, 1996, 4, 4)).pixels.tolist() == [[[255, 0, 0]] * 4] * 4
    assert asked[2:] == [tmp_path / "large.png"]


def test_the_part_that_the_network_sees_is_placed_in_the_whole() -> None:
    """The same as cutting a volume's middle out, and putting it back."""
    whole = torch.zeros(12, 10, 8)
    whole[5:7, 4:6, 3:5] = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(0))
    middle = whole[3:9, 2:8, 2:6]
    placed = place_in_whole(middle, [6 / 12, 6 / 10, 4 / 8])
    torch.testing.assert_close(placed, whole, rtol=0, atol=1e-6)
    # What was added around a small volume is cut off.
    torch.testing.assert_close(place_in_whole(whole, [2, 10 / 6, 2]), middle, rtol=0, atol=1e-6)


def test_a_slice_between_two_is_between_them() -> None:
    heat = torch.arange(4.0).expand(2, 3, 4)
    assert [float(slice_at(heat, place).mean()) for place in (0, 0.125, 0.375, 0.5, 0.875, 1)] == [
        0,
        0,
        1,
        1.5,
        3,
        3,
    ]
    marked = torch.zeros(5, 7, 1)
    marked[4, 6, 0] = 1
    assert slice_at(marked, 0.5)[0, 0] == 1


def test_a_layer_shows_the_evidence_for_a_class(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    torch.manual_seed(0)
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=8).eval()
    save_model(network, root / "models" / "model.pt", ["a", "b"], 32)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    model = LabelModel(root, "cpu")
    layers = HeatLayers(model)
    image = ImageGeometry(32).read(tmp_path / "image.png")[None] / 255
    for number, class_name in enumerate("ab"):
        expected = stage_heat_maps(network, image, [number])[0]
        for stage in range(3):
            alpha = layers.draw(tmp_path / "image.png", class_name.upper(), stage=stage)[..., 3] / 255
            assert np.abs(alpha - expected[stage].numpy()).max() < 0.01
    mean = layers.draw(tmp_path / "image.png", "a")
    assert mean.shape == (32, 32, 4)
    assert mean[..., 3].max() == 255
    for wrong in ({"class_name": "c"}, {"class_name": "a", "stage": 3}):
        with pytest.raises(LookupError):
            layers.draw(tmp_path / "image.png", **wrong)
