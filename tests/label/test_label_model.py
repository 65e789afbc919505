# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The app with the model of a linear probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_fgssl.bundle import SettingsError, copy_bundle, decision_rule, read_record, save_model
from monai_fgssl.label.model import LabelModel, ranked
from monai_fgssl.metrics import LogitAdjustment, Thresholds, fit_feature_distances
from monai_fgssl.networks import HierarchicalNet, PlainNet, PooledNet
from monai_fgssl.report.heat_maps import draw_heat_maps, stage_heat_maps


def test_the_model_of_a_probe_predicts_scores_and_has_heat_maps(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    torch.manual_seed(0)
    network = PooledNet("resnet18", num_classes=3).eval()
    save_model(network, root / "models" / "model.pt", ["a", "b", "c"], 32, temperature=2.0)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    model = LabelModel(root, "cpu")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = (network(image)[0] / 2).softmax(0)
    result = model.predict(tmp_path / "image.png")
    assert list(result["probabilities"]) == ["a", "b", "c"]
    assert list(result["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert model.num_stages == 4
    # The picture and a map for each stage.
    assert model.draw_heat_maps(tmp_path / "image.png").shape == (256, 5 * 256, 3)
    scored = model.score(image)
    assert scored.stage_logits.shape == (1, 1, 3)
    assert scored.features.shape == (1, 960)


def test_the_app_follows_the_decision_of_the_model(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    torch.manual_seed(0)
    network = PooledNet("resnet18", num_classes=3).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        prob = (network(image)[0] / 2).softmax(0)
    order = prob.argsort(descending=True).tolist()
    # The least likely class is by far the rarest.
    prior = [0.0, 0.0, 0.0]
    for place, share in zip(order, (0.5, 0.49999, 0.00001), strict=True):
        prior[place] = share
    rule = LogitAdjustment(1.0, tuple(prior))
    save_model(network, root / "models" / "model.pt", ["a", "b", "c"], 32, temperature=2.0, adjustment=rule)
    model = LabelModel(root, "cpu")
    result = model.predict(tmp_path / "image.png")
    assert result["prediction"] == "abc"[order[2]]
    assert list(result["probabilities"].values()) == pytest.approx(prob.tolist(), abs=1e-5)
    # Clients take the first one for the suggestion.
    assert [row["label"] for row in ranked(result, ["a", "b", "c"])] == ["abc"[place] for place in np.roll(order, 1)]
    drawn = model.draw_heat_maps(tmp_path / "image.png")
    assert np.array_equal(drawn, draw_heat_maps(image[0], stage_heat_maps(network, image, [order[2]])[0]))
    # Weights that somebody sends keep the rule of the record.
    save_model(network, tmp_path / "sent.safetensors", ["a", "b", "c"], 32, adjustment=rule)
    model.replace(tmp_path / "sent.safetensors")
    assert decision_rule(read_record(root)) == rule


def test_the_app_says_that_an_image_is_unlike_the_training_images(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    torch.manual_seed(0)
    network = PooledNet("resnet18", num_classes=3).eval()
    images = torch.rand(20, 3, 32, 32)
    with torch.no_grad():
        means = torch.cat(network.stage_means(images), dim=1)
    rule = fit_feature_distances(means, means, network.backbone.channels)
    weights = root / "models" / "model.pt"
    save_model(network, weights, ["a", "b", "c"], 32, distances=rule)
    model = LabelModel(root, "cpu")
    for name, pixels in (("noise", (images[0] * 255).byte()), ("black", torch.zeros(3, 32, 32, dtype=torch.uint8))):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{name}.png")
    assert model.predict(tmp_path / "noise.png")["reasons"] == []
    assert model.predict(tmp_path / "black.png")["reasons"] == ["unlike the training images"]
    # Other weights have other features.
    torch.save(PooledNet("resnet18", num_classes=3).state_dict(), tmp_path / "sent.pt")
    model.replace(tmp_path / "sent.pt")
    assert read_record(root)["feature_distances"] is None


def test_a_network_without_stages_is_refused(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    save_model(PlainNet("resnet18", num_classes=3), root / "models" / "model.pt", ["a", "b", "c"], 32)
    with pytest.raises(SettingsError, match="needs a HierarchicalNet or PooledNet, the bundle has a PlainNet"):
        LabelModel(root, "cpu").load()


def test_a_model_that_somebody_sends_keeps_its_task(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    network = HierarchicalNet("tiny-cnn", num_classes=3, width=8, embedding_dim=4)
    save_model(network, root / "models" / "model.pt", ["0", "1", "2"], 32, task="ordinal")
    save_model(network, tmp_path / "sent.safetensors", ["0", "1", "2"], 32, task="ordinal")
    LabelModel(root, "cpu").replace(tmp_path / "sent.safetensors")
    assert read_record(root)["task"] == "ordinal"
    save_model(
        network,
        tmp_path / "findings.safetensors",
        ["a", "b", "c"],
        32,
        adjustment=Thresholds((0.5,) * 3),
        task="multilabel",
    )
    with pytest.raises(SettingsError, match=r"several classes in one image.* start it with --conf task multilabel"):
        LabelModel(root, "cpu").replace(tmp_path / "findings.safetensors")
    assert read_record(root)["task"] == "ordinal"
    with pytest.raises(SettingsError, match=r"gives each image one class.* start it without"):
        LabelModel(root, "cpu", several=True).load()
    LabelModel(root, "cpu", several=True).replace(tmp_path / "findings.safetensors")
    assert (read_record(root)["task"], read_record(root)["thresholds"]) == ("multilabel", [0.5] * 3)


def test_findings_are_suggested_each_by_its_own_threshold(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    torch.manual_seed(0)
    network = PooledNet("resnet18", num_classes=3).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        prob = (network(image)[0] / 2).sigmoid()
    # The likeliest finding is below its threshold, the others are above theirs.
    likeliest = int(prob.argmax())
    thresholds = tuple(1.0 if k == likeliest else 0.0 for k in range(3))
    save_model(
        network, root / "models" / "model.pt", ["a", "b", "c"], 32, temperature=2.0,
        adjustment=Thresholds(thresholds), task="multilabel",
    )  # fmt: skip
    model = LabelModel(root, "cpu", several=True)
    result = model.predict(tmp_path / "image.png")
    others = [name for k, name in enumerate("abc") if k != likeliest]
    assert result["findings"] == others
    assert list(result["probabilities"].values()) == pytest.approx(prob.tolist(), abs=1e-5)
    # Clients take the first ones for the suggestion.
    rows = [row["label"] for row in ranked(result, ["a", "b", "c"])]
    assert sorted(rows[:2]) == others
    assert rows[2] == "abc"[likeliest]
    # The heat map of an image explains the likeliest finding, unless a person chooses one.
    drawn = model.draw_heat_maps(tmp_path / "image.png")
    assert np.array_equal(drawn, draw_heat_maps(image[0], stage_heat_maps(network, image, [likeliest])[0]))
    with torch.enable_grad():
        expected = stage_heat_maps(network, image, [(likeliest + 1) % 3])[0]
    torch.testing.assert_close(model.heat_maps(tmp_path / "image.png", "ABC"[(likeliest + 1) % 3]), expected)
