# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export

from monai_fgssl.networks import EnsembleNet, HierarchicalNet, OnnxNet, PlainNet, PooledNet, export_onnx
from monai_fgssl.utils.errors import SettingsError


@pytest.mark.parametrize(
    ("net_class", "backbone", "spatial_dims"),
    [
        (HierarchicalNet, "resnet18", 2),
        (HierarchicalNet, "resnet18", 3),
        (HierarchicalNet, "efficientnet-b0", 2),
        (HierarchicalNet, "densenet121", 2),
        (PlainNet, "resnet18", 2),
        (PooledNet, "resnet18", 3),
        (PooledNet, "densenet121", 2),
        (EnsembleNet, "resnet18", 2),
    ],
)
def test_torchscript_equals_eager(net_class, backbone, spatial_dims):
    torch.manual_seed(0)
    net = net_class(backbone, spatial_dims, in_channels=1, num_classes=7).eval()
    scripted = torch.jit.script(net)
    x = torch.rand(2, 1, *[64, 96, 32][:spatial_dims])
    # Without the optimization that a graph's first runs go through, which takes most of the time.
    with torch.no_grad(), torch.jit.optimized_execution(False):
        torch.testing.assert_close(scripted(x), net(x), rtol=0, atol=1e-5)
        for step in range(1, net.num_steps + 1):
            expected, actual = net.logits_at_step(x, step), scripted.logits_at_step(x, step)
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
            expected, actual = net.vectors_at_step(x, step), scripted.vectors_at_step(x, step)
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(scripted.stage_logits(x), net.stage_logits(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(scripted.stage_vectors(x), net.stage_vectors(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("net_class", [HierarchicalNet, PlainNet, PooledNet])
def test_onnx_with_dynamic_batch_equals_eager(net_class, tmp_path):
    torch.manual_seed(0)
    net = net_class("resnet18").eval()
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


@pytest.mark.parametrize("net_class", [HierarchicalNet, PooledNet, EnsembleNet])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_onnx_file_in_place_of_the_network(spatial_dims, net_class, tmp_path):
    torch.manual_seed(0)
    net = net_class("resnet18", spatial_dims, in_channels=1, num_classes=3).train()
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
        logits, means = exported.stage_logits_and_means(x)
        torch.testing.assert_close(logits, net.stage_logits(x).detach(), rtol=0, atol=1e-5)
        torch.testing.assert_close(means, torch.cat(net.stage_means(x), dim=1).detach(), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(PlainNet("resnet18", embedding_dim=4).eval(), path, (3, 32, 32))
    return path


def test_onnx_of_an_earlier_release_has_no_means(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    del model.graph.output[1]
    onnx.save(model, tmp_path / "old.onnx")
    old, x = OnnxNet(tmp_path / "old.onnx"), torch.rand(2, 3, 32, 32)
    assert torch.equal(old.stage_logits(x), OnnxNet(exported).stage_logits(x))
    with pytest.raises(SettingsError, match=r"old\.onnx was exported by an earlier release and lacks the means"):
        old.stage_logits_and_means(x)


@pytest.mark.parametrize("where", ["weights", "attribute"])
def test_onnx_with_weights_in_other_files_is_refused(where: str, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    tensor = model.graph.initializer[0]
    if where == "attribute":
        node = onnx.helper.make_node("Constant", [], ["more"], value=tensor)
        model.graph.node.append(node)
        tensor = model.graph.node[-1].attribute[0].t
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SettingsError, match=r"model\.onnx keeps weights in other files"):
        OnnxNet(tmp_path / "model.onnx")


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "truncated", "foreign", "no text", "size is no text"])
def test_a_bad_onnx_file_is_one_line_with_its_name(kind: str, exported: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "bad.onnx", exported.read_bytes()
    if kind == "foreign":
        shape = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
        graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [shape], [result])
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    elif kind == "no text":
        path.write_bytes(content.replace(b"stage_logits", b"stage_log\xfft\xff"))
    elif kind == "size is no text":
        assert b"batch" in content
        path.write_bytes(content.replace(b"batch", b"bat\xff\xff"))
    elif kind != "missing":
        path.write_bytes({"empty": b"", "garbage": bytes(range(256)), "truncated": content[: len(content) // 2]}[kind])
    with pytest.raises(SettingsError, match=r"bad\.onnx") as error:
        OnnxNet(path)
    assert "\n" not in str(error.value)
