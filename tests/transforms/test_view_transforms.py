# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Views as MONAI transforms: types, random state, keys, configuration."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, CopyItemsd

import monai_fgssl.transforms as module
from monai_fgssl.functional import DISTORTED, REGULARIZED, ViewSettings, random_view
from monai_fgssl.transforms import (
    RandDistortedView,
    RandDistortedViewd,
    RandRegularizedView,
    RandRegularizedViewd,
    RandView,
    RandViewd,
)

ARRAY = [(RandView, ViewSettings()), (RandRegularizedView, REGULARIZED), (RandDistortedView, DISTORTED)]
DICTIONARY = [(RandViewd, ViewSettings()), (RandRegularizedViewd, REGULARIZED), (RandDistortedViewd, DISTORTED)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=seeded())


@pytest.mark.parametrize("view_class", [RandRegularizedView, RandDistortedView])
@pytest.mark.parametrize("spatial", [(16, 16), (9, 12), (6, 7, 7)])
def test_same_type_and_same_values_for_array_tensor_and_metatensor(view_class, spatial):
    x = images(3, *spatial)
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    inputs = [x.numpy(), x, MetaTensor(x, affine=affine, meta={"filename_or_obj": "lesion.png"})]
    results = [view_class().set_random_state(1)(value) for value in inputs]
    for value, result in zip(inputs, results, strict=True):
        assert type(result) is type(value)
        assert result.dtype == value.dtype
        np.testing.assert_array_equal(np.asarray(result), results[0])
    assert results[2].meta["filename_or_obj"] == "lesion.png"
    assert torch.equal(results[2].affine, inputs[2].affine)
    assert results[2].applied_operations == []
    assert not np.array_equal(results[0], inputs[0])


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_bytes_become_values_from_0_to_1(prob):
    x = (images(3, 12, 12) * 255).to(torch.uint8)
    view = RandDistortedView(prob).set_random_state(0)(x)
    assert torch.equal(view, RandDistortedView(prob).set_random_state(0)(x / 255))
    batch = RandDistortedView(prob).batch(x[None], seeded())
    assert torch.equal(batch, RandDistortedView(prob).batch(x[None] / 255, seeded()))
    assert batch.dtype == view.dtype == torch.float32
    assert isinstance(RandDistortedView(prob)(x.numpy()), np.ndarray)


def test_random_state():
    x = images(3, 12, 12)
    view = RandDistortedView().set_random_state(3)
    first, second = view(x), view(x)
    assert not torch.equal(first, second)
    assert torch.equal(view(x, randomize=False), second)
    view.set_random_state(3)
    assert torch.equal(view(x), first)
    view.set_random_state(4)
    assert not torch.equal(view(x), first)


def test_global_random_states_are_left_alone():
    x = images(2, 3, 12, 12)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    view = RandDistortedView(0.5).set_random_state(0)
    view(x[0])
    view.batch(x)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_probability_of_a_call():
    x = images(1, 4, 4)
    view = RandView(0.3, solarize_prob=1, solarize_threshold=0).set_random_state(0)
    changed = [not torch.equal(view(x), x) for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.08)


def test_probability_of_a_sample():
    x = images(2000, 1, 2, 2)
    result = RandView(0.3, solarize_prob=1, solarize_threshold=0).batch(x, seeded())
    changed = (result != x).flatten(1)
    assert torch.equal(changed.any(1), changed.all(1))
    assert torch.equal(result[changed[:, 0]], 1 - x[changed[:, 0]])
    assert changed.double().mean().item() == pytest.approx(0.3, abs=0.05)


def test_batch_is_the_functional_view():
    x = images(6, 3, 16, 16)
    assert torch.equal(RandDistortedView().batch(x, seeded(2)), random_view(x, DISTORTED, seeded(2)))
    assert torch.equal(RandRegularizedView().batch(x, seeded(2)), random_view(x, REGULARIZED, seeded(2)))


def test_batch_draws_for_every_sample():
    x = images(1, 3, 16, 16).expand(8, -1, -1, -1)
    views = RandDistortedView().batch(x, seeded())
    assert len({view.numpy().tobytes() for view in views}) == 8


def test_batch_without_generator_follows_the_random_state():
    x = images(4, 3, 12, 12)
    view = RandDistortedView().set_random_state(1)
    first, second = view.batch(x), view.batch(x)
    assert not torch.equal(first, second)
    assert torch.equal(view.set_random_state(1).batch(x), first)


@pytest.mark.parametrize(("view_class", "preset"), ARRAY + DICTIONARY)
def test_signature_names_every_strength_with_its_default(view_class, preset):
    parameters = inspect.signature(view_class).parameters
    assert {name: parameters[name].default for name in asdict(preset)} == asdict(preset)
    assert parameters["prob"].default == 1.0
    assert "strengths" not in parameters


@pytest.mark.parametrize(("view_class", "preset"), ARRAY)
def test_defaults_and_changes(view_class, preset):
    assert view_class().settings == preset
    assert asdict(view_class(blur_sigma=[0, 3]).settings) == asdict(preset) | {"blur_sigma": (0.0, 3.0)}


@pytest.mark.parametrize(("view_class", "preset"), DICTIONARY)
def test_defaults_and_changes_of_the_dictionary_version(view_class, preset):
    assert view_class("image").transform.settings == preset
    assert asdict(view_class("image", contrast=0.9).transform.settings) == asdict(preset) | {"contrast": 0.9}


@pytest.mark.parametrize("make", [RandDistortedView, lambda **strengths: RandDistortedViewd("image", **strengths)])
def test_unknown_and_wrong_strengths(make):
    with pytest.raises(TypeError, match="no strength named hue; there are crop_scale, crop_ratio"):
        make(hue=0.1)
    with pytest.raises(ValueError, match=r"blur_prob must lie in \[0, 1\], got 3"):
        make(blur_prob=3)


@pytest.mark.parametrize("view_class", [RandRegularizedViewd, RandDistortedViewd])
def test_keys_share_one_draw(view_class):
    x = images(3, 12, 12)
    view = view_class(["first", "second"]).set_random_state(0)
    result = view({"first": x, "second": x, "label": 3})
    assert torch.equal(result["first"], result["second"])
    assert not torch.equal(result["first"], x)
    assert result["label"] == 3
    array_view = RandView(**asdict(view.transform.settings)).set_random_state(0)
    assert torch.equal(result["first"], array_view(x))


def test_missing_keys():
    data = {"image": images(3, 8, 8)}
    with pytest.raises(KeyError, match="other"):
        RandDistortedViewd(["image", "other"])(data)
    assert RandDistortedViewd(["image", "other"], allow_missing_keys=True)(data).keys() == {"image"}
    assert RandDistortedViewd("other", allow_missing_keys=True)(data) == data


def test_two_views_of_one_image_in_a_pipeline():
    copy = CopyItemsd("image", times=2, names=["light", "strong"])
    pipeline = Compose([copy, RandRegularizedViewd("light"), RandDistortedViewd("strong")])
    data = {"image": images(3, 12, 12)}
    first = pipeline.set_random_state(0)(data)
    again = pipeline.set_random_state(0)(data)
    assert torch.equal(first["image"], data["image"])
    for key in ("light", "strong"):
        assert torch.equal(first[key], again[key])
        assert not torch.equal(first[key], data["image"])


def test_data_loader_collates_views():
    dataset = Dataset([{"image": image} for image in images(6, 3, 8, 8)], RandDistortedViewd("image"))
    batches = list(DataLoader(dataset, batch_size=3))
    assert [batch["image"].shape for batch in batches] == [(3, 3, 8, 8)] * 2


@pytest.mark.parametrize("view_class", [RandDistortedView, RandRegularizedView])
def test_from_a_bundle_config(view_class):
    config = {"_target_": f"monai_fgssl.transforms.{view_class.__name__}", "crop_scale": [0.7, 1.0], "brightness": 0}
    view = ConfigParser({"view": config}).get_parsed_content("view")
    assert type(view) is view_class
    assert (view.settings.crop_scale, view.settings.brightness) == ((0.7, 1.0), 0)


def test_pickle_keeps_settings_and_random_state():
    view = RandDistortedView(0.9, brightness=0.7).set_random_state(5)
    copy = pickle.loads(pickle.dumps(view))
    x = images(3, 8, 8)
    assert copy.settings == view.settings
    assert torch.equal(copy(x), view(x))


@pytest.mark.parametrize("name", ["RandView", "RandRegularizedView", "RandDistortedView"])
def test_aliases(name):
    assert getattr(module, f"{name}D") is getattr(module, f"{name}Dict") is getattr(module, f"{name}d")
