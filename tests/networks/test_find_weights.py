# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Weights from files of other programs, from hubs, and from the authors of the networks."""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from monai_fgssl.networks import HierarchicalNet, make_backbone
from monai_fgssl.networks.backbones.timm_package import import_timm
from monai_fgssl.networks.weights import IMAGENET, find_weights, read_checkpoint
from monai_fgssl.networks.weights.match import adapt_channels, inflate
from monai_fgssl.utils.errors import SettingsError

timm = import_timm("these tests")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    values = timm.create_model("test_vit").state_dict()
    return {name: torch.randn_like(value) * 0.02 for name, value in values.items()}


def loaded(path: Path | str, name: str = "timm:test_vit", **options) -> dict[str, Tensor]:
    options = {"image_size": 160, **options}
    return make_backbone(name, weights=str(path), **options).net.state_dict()


WAYS = {
    "plain": lambda s: s,
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3, "callbacks": {"a": 1}},
    "mae, with its command line": lambda s: {"model": s, "args": argparse.Namespace(lr=1e-3), "epoch": 1},
    "dino": lambda s: {
        "student": {f"module.backbone.{k}": torch.zeros_like(v) for k, v in list(s.items())[:9]},
        "teacher": {f"backbone.{k}": v for k, v in s.items()} | {"head.mlp.0.weight": torch.zeros(9, 3)},
    },
    "data parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "moco": lambda s: {"state_dict": {f"module.base_encoder.{k}": v for k, v in s.items()}},
    "ours": lambda s: {f"backbone.net.{k}": v for k, v in s.items()} | {"blocks.0.head.classifier.bias": torch.ones(3)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_other_codes(way, suffix, state, tmp_path, capsys):
    content = WAYS[way](state)
    if suffix == ".safetensors":
        if any(not isinstance(value, Tensor) for value in content.values()):
            content = {f"x.{k}": v for k, v in state.items()}
        save_file({k: v.contiguous() for k, v in content.items()}, tmp_path / "w.safetensors")
    else:
        torch.save(content, tmp_path / "w.pth")
    own = loaded(tmp_path / f"w{suffix}")
    assert all(torch.equal(own[name], state[name]) for name in own)
    told = capsys.readouterr().out
    count = sum(not name.startswith("head.") for name in state)
    assert f"{count} of {count} tensors of the backbone are loaded" in told
    if way == "dino" and suffix == ".pth":
        assert "'teacher' in it, prefix 'backbone.'" in told


def test_position_embeddings_are_resampled_for_another_size(state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    own = loaded(tmp_path / "w.pth", image_size=64)
    reference = timm.create_model("test_vit", img_size=64)
    expected = timm.layers.resample_abs_pos_embed(
        state["pos_embed"], new_size=[4, 4], num_prefix_tokens=reference.num_prefix_tokens
    )
    torch.testing.assert_close(own["pos_embed"], expected)


def test_dinov2s_own_names_are_read_as_timm_reads_them(tmp_path):
    name = "vit_small_patch14_dinov2"
    values = {k: torch.randn_like(v) for k, v in timm.create_model(name, img_size=518).state_dict().items()}
    torch.save(values | {"mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14_pretrain.pth")
    net = HierarchicalNet(
        f"timm:{name}", width=8, embedding_dim=6, image_size=56, weights=tmp_path / "dinov2_vits14_pretrain.pth"
    )
    assert torch.equal(net.backbone.net.blocks[3].attn.qkv.weight, values["blocks.3.attn.qkv.weight"])
    assert net.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert net.definition()["std"] == pytest.approx([0.229, 0.224, 0.225])


def test_a_model_of_ours_brings_its_own_normalization(tmp_path):
    net = HierarchicalNet("resnet18", width=8, embedding_dim=6, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    torch.save(net.state_dict(), tmp_path / "model.pt")
    again = HierarchicalNet("resnet18", width=8, embedding_dim=6, weights=tmp_path / "model.pt")
    assert torch.equal(again.mean, net.mean)
    assert torch.equal(again.std, net.std)
    for name, value in net.backbone.state_dict().items():
        assert torch.equal(again.backbone.state_dict()[name], value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_another_network_are_refused_and_nothing_is_loaded(state, tmp_path, suffix):
    file = tmp_path / f"w{suffix}"
    torch.save(state, file) if suffix == ".pth" else save_file(state, file)
    with pytest.raises(SettingsError, match=r"does not fit the network: \d+ of its \d+ tensors match.*at least 90%"):
        loaded(file, "timm:vit_tiny_patch16_224", image_size=224)


def test_a_missing_tensor_is_told_and_stays_random(state, tmp_path, capsys):
    torch.save({k: v for k, v in state.items() if k != "blocks.0.norm1.bias"}, tmp_path / "w.pth")
    loaded(tmp_path / "w.pth")
    assert "these stay random: blocks.0.norm1.bias" in capsys.readouterr().out


class Trap:
    def __reduce__(self):
        return print, ("code of a stranger",)


@pytest.mark.parametrize("content", [{"model": {"a": torch.ones(1)}, "more": Trap()}, b"no weights", [1, 2]])
def test_bad_files_are_one_line_and_run_nothing(content, tmp_path, capsys):
    if isinstance(content, bytes):
        (tmp_path / "w.pth").write_bytes(content)
    else:
        torch.save(content, tmp_path / "w.pth")
    with pytest.raises(SettingsError, match=r"w\.pth") as error:
        read_checkpoint(tmp_path / "w.pth")
    assert len(str(error.value).splitlines()) == 1
    assert "stranger" not in capsys.readouterr().out


def test_a_missing_file_names_the_other_choices():
    with pytest.raises(SettingsError, match=r"there is no file 'none\.pth'.*pretrained, imagenet, hf-hub:OWNER/NAME"):
        find_weights("none.pth", "resnet18", 2)


@pytest.mark.parametrize(
    ("backbone", "dims", "message"),
    [
        ("vit-tiny", 3, "this package knows no pretrained weights of 'vit-tiny'"),
        ("resnet18", 3, "take --backbone medicalnet-resnet18"),
    ],
)
def test_networks_without_published_weights(backbone, dims, message):
    with pytest.raises(SettingsError, match=message):
        find_weights("pretrained", backbone, dims)


@pytest.mark.parametrize("in_channels", [1, 2, 3, 5])
def test_channels_follow_timms_rule(in_channels):
    torch.manual_seed(0)
    weight = torch.rand(4, 3, 3, 3)
    torch.testing.assert_close(adapt_channels(weight, in_channels), timm.models.adapt_input_conv(in_channels, weight))


def test_an_inflated_kernel_sees_an_axial_slice_as_a_picture():
    torch.manual_seed(0)
    kernel, volume = torch.rand(2, 1, 3, 3), torch.rand(1, 1, 8, 6, 1).expand(1, 1, 8, 6, 5)
    # The picture of a slice: the patient's right on the left, the front above.
    picture = volume[..., 2].flip(2, 3).transpose(2, 3)
    expected = nn.functional.conv2d(picture, kernel)
    maps = nn.functional.conv3d(volume, inflate(kernel, 3))
    torch.testing.assert_close(maps[..., 1].flip(2, 3).transpose(2, 3), expected)


def test_weights_of_2d_networks_load_into_3d_ones_when_that_is_asked_for(tmp_path):
    flat = make_backbone("resnet18")
    from monai.networks.nets import resnet18

    net = resnet18(spatial_dims=2, n_input_channels=3, bias_downsample=False, conv1_t_stride=2)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(SettingsError, match="--inflate_weights true"):
        make_backbone("resnet18", 3, 1, weights=tmp_path / "w.pth")
    deep = make_backbone("resnet18", 3, 1, weights=tmp_path / "w.pth", inflate_weights=True)
    weight = deep.stages[1][0].conv1.weight
    torch.testing.assert_close(weight.sum(-1), net.layer2[0].conv1.weight.flip(2, 3).transpose(2, 3))
    assert flat.channels == deep.channels
    # They expect the numbers that they were trained on, as in 2D.
    assert deep.normalization == make_backbone("resnet18", weights=tmp_path / "w.pth").normalization == IMAGENET


# ------------------------------------------------------------------------------------------------------------- the hub


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download uses: a HEAD with the checksum, then a GET."""

    files: dict[str, bytes]

    def _send(self, with_body: bool) -> None:
        content = self.files.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._send(False)

    def do_GET(self) -> None:
        self._send(True)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[dict[str, bytes]]:
    import huggingface_hub.constants as constants

    handler = type("OneHub", (Hub,), {"files": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield handler.files
    server.shutdown()
    server.server_close()
    thread.join()


def as_safetensors(state: dict[str, Tensor], folder: Path) -> bytes:
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "of_hub.safetensors")
    return (folder / "of_hub.safetensors").read_bytes()


def test_weights_and_normalization_of_a_repository(hub, state, tmp_path):
    hub["/lab/net/resolve/main/model.safetensors"] = as_safetensors(state, tmp_path)
    config = {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}
    hub["/lab/net/resolve/main/config.json"] = json.dumps(config).encode()
    net = HierarchicalNet("timm:test_vit", width=8, embedding_dim=6, weights="hf-hub:lab/net")
    assert torch.equal(net.backbone.net.norm.weight, state["norm.weight"])
    assert net.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    # From the cache: the hub has nothing any more.
    hub.clear()


def test_a_file_and_a_revision_of_a_repository(hub, state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    hub["/lab/net/resolve/v2/models/model.pt"] = (tmp_path / "w.pt").read_bytes()
    own = loaded("hf-hub:lab/net@v2/models/model.pt")
    assert torch.equal(own["cls_token"], state["cls_token"])


def test_what_timm_publishes(hub, tmp_path):
    torch.manual_seed(0)
    values = timm.create_model("test_vit").state_dict()
    config = timm.get_pretrained_cfg("test_vit")
    hub[f"/{config.hf_hub_id}/resolve/main/model.safetensors"] = as_safetensors(values, tmp_path)
    for weights in ("pretrained", "imagenet"):
        net = HierarchicalNet("timm:test_vit", in_channels=1, width=8, embedding_dim=6, weights=weights, image_size=32)
        kernels = net.backbone.net.patch_embed.proj.weight
        torch.testing.assert_close(kernels, values["patch_embed.proj.weight"].sum(1, keepdim=True))
        assert net.mean.flatten().tolist() == pytest.approx([sum(config.mean) / 3])


def test_medicalnets_weights_in_3d(hub, tmp_path):
    torch.manual_seed(0)
    from monai.networks.nets import resnet10

    net = resnet10(spatial_dims=3, n_input_channels=1, bias_downsample=False, shortcut_type="B", feed_forward=False)
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "w.pth")
    hub["/TencentMedicalNet/MedicalNet-Resnet10/resolve/main/resnet_10.pth"] = (tmp_path / "w.pth").read_bytes()
    backbone = make_backbone("resnet10", 3, 1, weights="pretrained")
    assert torch.equal(backbone.stages[0][0].conv1.weight, net.layer1[0].conv1.weight)


def test_a_hub_that_can_not_be_reached_is_one_line_with_the_command(hub):
    with pytest.raises(SettingsError) as error:
        find_weights("hf-hub:lab/none", "resnet18", 2)
    assert len(str(error.value).splitlines()) == 1
    assert "hf download lab/none model.safetensors --local-dir ." in str(error.value)


def test_torchvision_s_weights_without_a_connection(monkeypatch, tmp_path):
    def fail(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(SettingsError, match=r"can't be fetched \(OSError: no network\).*curl -LO https://.*resnet18"):
        make_backbone("resnet18", weights="imagenet")
