# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export

from monai_fgssl.networks import HierarchicalNet, OnnxNet, PlainNet, export_onnx


@pytest.mark.parametrize(
    ("net_class", "backbone", "spatial_dims"),
    [
        (HierarchicalNet, "resnet18", 2),
        (HierarchicalNet, "resnet18", 3),
        (HierarchicalNet, "efficientnet-b0", 2),
        (HierarchicalNet, "densenet121", 2),
        (PlainNet, "resnet18", 2),
    ],
)
def test_torchscript_equals_eager(net_class, backbone, spatial_dims):
    torch.manual_seed(0)
    net = net_class(backbone, spatial_dims, in_channels=1, embedding_dim=7).eval()
    scripted = torch.jit.script(net)
    x = torch.rand(2, 1, *[64, 96, 32][:spatial_dims])
    # Without the optimisation that a graph's first runs go through, which takes most of the time.
    with torch.no_grad(), torch.jit.optimized_execution(False):
        torch.testing.assert_close(scripted(x), net(x), rtol=0, atol=1e-5)
        for step in range(1, net.num_steps + 1):
            expected, actual = net.logits_at_step(x, step), scripted.logits_at_step(x, step)
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
            expected, actual = net.vectors_at_step(x, step), scripted.vectors_at_step(x, step)
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(scripted.stage_logits(x), net.stage_logits(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(scripted.stage_vectors(x), net.stage_vectors(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("net_class", [HierarchicalNet, PlainNet])
def test_onnx_with_dynamic_batch_equals_eager(net_class, tmp_path):
    torch.manual_seed(0)
    net = net_class("resnet18", embedding_dim=16).eval()
    path = str(tmp_path / "model.onnx")
    example = torch.rand(2, 3, 64, 64)
    torch.onnx.export(net, (example,), path, dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False)
    session = onnxruntime.InferenceSession(path)
    for batch in (1, 2, 5):
        x = torch.rand(batch, 3, 64, 64)
        (scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(scores), net(x).detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tool", ["script", "trace", "onnx"])
def test_monais_bundle_tools_export_a_checkpoint(tool, tmp_path):
    torch.manual_seed(0)
    net = HierarchicalNet("resnet18", width=8, embedding_dim=7).eval()
    torch.save(net.state_dict(), tmp_path / "model.pt")
    target = "monai_fgssl.networks.HierarchicalNet"
    (tmp_path / "config.json").write_text(
        json.dumps({"network_def": {"_target_": target, "backbone": "resnet18", "width": 8, "embedding_dim": 7}})
    )
    options = {
        "net_id": "network_def",
        "filepath": str(tmp_path / ("exported.onnx" if tool == "onnx" else "exported.ts")),
        "ckpt_file": str(tmp_path / "model.pt"),
        "config_file": str(tmp_path / "config.json"),
        "key_in_ckpt": "",
    }
    x = torch.rand(1, 3, 64, 64)
    if tool == "onnx":
        onnx_export(**options, input_shape=list(x.shape))
        session = onnxruntime.InferenceSession(options["filepath"])
        (scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        actual = torch.from_numpy(scores)
    else:
        tracing = {"use_trace": True, "input_shape": list(x.shape)} if tool == "trace" else {}
        ckpt_export(**options, **tracing)
        actual = torch.jit.load(options["filepath"])(x)
    torch.testing.assert_close(actual, net(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_onnx_file_in_place_of_the_network(spatial_dims, tmp_path):
    torch.manual_seed(0)
    net = HierarchicalNet("resnet18", spatial_dims, in_channels=1, num_classes=3, width=8, embedding_dim=7).train()
    shape = (1, 32, 64, 48)[: spatial_dims + 1]
    export_onnx(net, tmp_path / "model.onnx", shape)
    assert net.training
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    exported = OnnxNet(tmp_path / "model.onnx", num_threads=1)
    assert exported.num_steps == net.num_steps
    net.eval()
    for batch in (1, 3):
        x = torch.rand(batch, *shape)
        torch.testing.assert_close(exported.stage_logits(x), net.stage_logits(x).detach(), rtol=0, atol=1e-5)
        torch.testing.assert_close(exported(x), net(x).detach(), rtol=0, atol=1e-5)
