# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A model on disk: files that do not belong together are detected, and each problem is one line that names the file."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from monai_fgssl.bundle import (
    SettingsError,
    check_start,
    compare_geometry,
    copy_bundle,
    describe_model,
    export_model,
    feature_distances,
    load_pretrained,
    load_weights,
    make_network,
    own_model,
    read_record,
    save_model,
    shipped_bundle,
)
from monai_fgssl.bundle.model_file import GEOMETRY as GEOMETRY_ENTRIES
from monai_fgssl.data import ImageGeometry
from monai_fgssl.metrics import fit_feature_distances
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.networks.placement import place_network
from monai_fgssl.utils.tensors import hash_of_weights, read_metadata

BUNDLE = shipped_bundle("fgssl")
GEOMETRY = ImageGeometry((32, 48), window=(40, 400))


def make_net(num_classes: int = 2, seed: int = 0) -> HierarchicalNet:
    torch.manual_seed(seed)
    return HierarchicalNet("resnet18", num_classes=num_classes, width=8, embedding_dim=4)


def outputs(network: torch.nn.Module) -> torch.Tensor:
    image = torch.linspace(0, 1, 3 * 32 * 48).reshape(1, 3, 32, 48)
    with torch.no_grad():
        return network.eval()(image)


def save(path: Path, network: HierarchicalNet | None = None) -> HierarchicalNet:
    network = network or make_net()
    save_model(network, path, ["a", "b"][: network.definition()["num_classes"]], GEOMETRY, temperature=1.5)
    return network


def load(path: Path) -> torch.nn.Module:
    network = make_network(BUNDLE, path)
    load_weights(network, path)
    return network


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_model_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    network = save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == (
        ["model.safetensors"] if name == "model.safetensors" else ["model.json", "model.pt"]
    )
    record = read_record(BUNDLE, tmp_path / name)
    assert (record["class_names"], record["temperature"]) == (["a", "b"], 1.5)
    assert (record["image_size"], record["window"], record["spacing"]) == ([32, 48], [40, 400], None)
    assert torch.equal(outputs(load(tmp_path / name)), outputs(network))


def test_the_hash_of_the_weights_is_recorded_and_the_same_in_both_forms(tmp_path: Path) -> None:
    network = save(tmp_path / "a.pt")
    save(tmp_path / "b.safetensors", network)
    expected = hash_of_weights(network.state_dict())
    assert json.loads((tmp_path / "a.json").read_text())["weights_sha256"] == expected
    assert read_metadata(tmp_path / "b.safetensors")["sha256"] == expected
    assert hash_of_weights(make_net(seed=1).state_dict()) != expected
    assert describe_model(BUNDLE, tmp_path / "b.safetensors").checksum


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_distances_from_the_training_images_come_back_and_belong_to_the_network(name: str, tmp_path: Path) -> None:
    network, widths = make_net(), [64, 128, 256, 512]
    features = torch.rand(40, sum(widths), generator=torch.Generator().manual_seed(0))
    rule = fit_feature_distances(features[:20], features[20:], widths)
    save_model(network, tmp_path / name, ["a", "b"], GEOMETRY, distances=rule)
    again = feature_distances(read_record(BUNDLE, tmp_path / name))
    assert again is not None
    assert again.scores(features).tolist() == rule.scores(features).tolist()
    load(tmp_path / name)
    other = fit_feature_distances(features[:20], features[20:], [64, 896])
    save_model(network, tmp_path / name, ["a", "b"], GEOMETRY, distances=other)
    with pytest.raises(SettingsError, match=r"makes no network \(feature_distances are of stages with \(64, 896\)"):
        load(tmp_path / name)


def test_a_damaged_rule_in_a_record_is_named(tmp_path: Path) -> None:
    save(tmp_path / "model.pt")
    file = tmp_path / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"feature_distances": {"mean": "x"}}))
    with pytest.raises(SettingsError, match=r"model\.json: feature_distances must have widths, mean"):
        read_record(BUNDLE, tmp_path / "model.pt")


def test_a_bundle_with_safetensors_alone_has_a_model(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    assert own_model(root) == str(root / "models" / "model.pt")
    save(root / "models" / "model.safetensors")
    assert own_model(root) == str(root / "models" / "model.safetensors")
    for path in (None, root / "models" / "model.onnx"):
        assert read_record(root, path)["class_names"] == ["a", "b"]
    save(root / "models" / "model.pt")
    assert own_model(root) == str(root / "models" / "model.pt")


def test_any_loader_takes_both_forms(tmp_path: Path) -> None:
    network = save(tmp_path / "a.safetensors")
    again = make_net(seed=1)
    load_pretrained(again, tmp_path / "a.safetensors")
    assert torch.equal(outputs(again), outputs(network))
    more = make_net(num_classes=5, seed=1)
    load_pretrained(more, tmp_path / "a.safetensors")
    # Weights of another program, without a record and a hash.
    save_file({name: value.clone() for name, value in network.state_dict().items()}, tmp_path / "plain.safetensors")
    load_weights(again, tmp_path / "plain.safetensors")
    with pytest.raises(SettingsError, match=r"plain\.safetensors holds only weights"):
        read_record(BUNDLE, tmp_path / "plain.safetensors")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_record(path: Path) -> None:
    content = load_file(path)
    metadata = read_metadata(path)
    record = json.loads(metadata["monai_fgssl"])
    record["network_def"]["backbone"] = "$__import__('os').system('touch ran')"
    save_file(content, path, {**metadata, "monai_fgssl": json.dumps(record)})


def lie_about_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 99_000_000) + content[8:])


@pytest.mark.parametrize("damage", [cut, flip_last_byte, change_record, lie_about_header])
def test_damaged_safetensors_are_one_line(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(path)
    damage(path)
    with pytest.raises(SettingsError, match=re.escape(str(path))) as told:
        load(path)
    assert len(str(told.value).splitlines()) == 1


def test_weights_of_another_training_are_told_from_their_record(tmp_path: Path) -> None:
    save(tmp_path / "model.pt")
    save(tmp_path / "other" / "model.pt", make_net(seed=1))
    (tmp_path / "other" / "model.pt").replace(tmp_path / "model.pt")
    with pytest.raises(SettingsError, match=r"model\.json belongs to other weights than .*model\.pt"):
        load(tmp_path / "model.pt")
    record = json.loads((tmp_path / "model.json").read_text())
    del record["weights_sha256"]
    (tmp_path / "model.json").write_text(json.dumps(record))
    assert torch.equal(outputs(load(tmp_path / "model.pt")), outputs(make_net(seed=1)))


def test_weights_without_a_record_are_not_guessed_at(tmp_path: Path) -> None:
    save(tmp_path / "model.pt")
    (tmp_path / "model.json").unlink()
    with pytest.raises(SettingsError, match=r"model\.json is missing"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10**12}, "width 1000000000000"),
        ({"num_classes": 3}, "class_names has 2 names for a network with 3 classes"),
        ({"spatial_dims": 4}, "spatial_dims 4"),
        ({"embedding_dim": 0}, "embedding_dim 0"),
    ],
)
def test_a_record_out_of_range_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(tmp_path / "model.pt")
    record = json.loads((tmp_path / "model.json").read_text())
    record["network_def"] |= changes
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=f"model.json: .*{message}"):
        read_record(BUNDLE, tmp_path / "model.pt")


def test_compressed_weights_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "model.pt")
    with (
        zipfile.ZipFile(tmp_path / "model.pt") as stored,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(SettingsError, match=r"small\.pt is damaged or .*it is compressed"):
        load_weights(make_net(), tmp_path / "small.pt")


def test_an_exported_model_is_compared_with_its_record(tmp_path: Path) -> None:
    network = save(tmp_path / "model.safetensors")
    path = tmp_path / "model.onnx"
    export_model(network, path, (32, 48))
    exported = place_network(make_network(BUNDLE, path), path, "cpu")
    assert torch.allclose(outputs(exported), outputs(network), atol=1e-4)
    with pytest.raises(SettingsError, match=r"model\.onnx takes images of the shape \(3, 32, 48\)"):
        exported(torch.zeros(1, 3, 32, 32))
    with pytest.raises(SettingsError, match=r"model\.onnx has num_classes 2, but its record says 3"):
        place_network(make_net(num_classes=3), path, "cpu")
    cut(path)
    with pytest.raises(SettingsError, match=r"model\.onnx is damaged"):
        place_network(network, path, "cpu")


@pytest.mark.parametrize(
    ("now", "note"),
    [
        ({}, ""),
        ({"image_size": [64, 64]}, ""),
        ({"image_size": 96}, "note: --image_size 96: the model was trained, calibrated and tested with 64"),
        ({"window": (40, 400)}, ""),
        ({"window": "dicom"}, "note: --window dicom: the model was trained, calibrated and tested with [40, 400]"),
        ({"channel": 1}, "note: --channel 1: the model was trained, calibrated and tested with none"),
        ({"frame": "all"}, "note: --frame all: the model was trained, calibrated and tested with none"),
    ],
)
def test_images_in_another_form_than_those_of_the_training_are_told(
    now: dict[str, Any], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = dict.fromkeys(GEOMETRY_ENTRIES) | {
        "image_size": 64,
        "window": [40, 400],
        "network_def": {"spatial_dims": 2},
    }
    compare_geometry(record, ImageGeometry(**{"image_size": 64, "window": [40, 400]} | now))
    assert capsys.readouterr().out.strip() == note


def test_dimensions_and_spacings_that_can_not_be_are_refused() -> None:
    record = dict.fromkeys(GEOMETRY_ENTRIES) | {"image_size": 64, "network_def": {"spatial_dims": 3}}
    with pytest.raises(SettingsError, match="--spatial_dims must be 3, as of the model's images, got 2"):
        compare_geometry(record, ImageGeometry(64))
    # Without a model too, as in `embed` with published weights.
    with pytest.raises(SettingsError, match="--spacing 2 is for volumes"):
        compare_geometry({}, ImageGeometry(64, spacing=2))


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        # The second fine-tuning would start from the model of the first.
        ({"pretrained": "model.pt", "seeds": 2}, True),
        ({"pretrained": "out/best.pt", "seeds": 2}, True),
        # The comparison without the pre-training would start from the pre-training.
        ({"weights": "out/pretrained.pt", "pretrain_epochs": 1, "compare": True}, True),
        ({"weights": "model.pt", "compare": "true"}, True),
        # A training in place, as that of the Label app.
        ({"pretrained": "model.pt"}, False),
        ({"pretrained": "out/pretrained.pt", "pretrain_epochs": 1, "seeds": 2}, False),
        ({"pretrained": "out/pretrained.pt", "seeds": 2, "compare": True}, False),
        ({"weights": "imagenet", "seeds": 2, "compare": True}, False),
    ],
)
def test_a_start_that_further_fine_tunings_would_read_changed_is_refused(
    changes: dict[str, Any], refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"pretrained": None, "weights": None, "seeds": 1, "compare": False, "pretrain_epochs": 0}
    settings |= {"output_dir": str(tmp_path / "out"), "model_path": str(tmp_path / "model.pt")} | changes
    with pytest.raises(SettingsError, match="a file that this run overwrites") if refused else nullcontext():
        check_start(settings["pretrained"], settings)
