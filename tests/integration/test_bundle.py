# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The bundle as users run it: with MONAI's own commands in separate processes."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow, verify_net_in_out
from monai.bundle import load as load_bundle
from monai.bundle.scripts import ckpt_export, onnx_export
from PIL import Image

from monai_fgssl.bundle import find_root, make_network, read_record
from monai_fgssl.data import make_synthetic_lesions, read_table

REPOSITORY = Path(__file__).parents[2]
BUNDLE = REPOSITORY / "bundles" / "fgssl"
# Small enough for seconds, with every part of the recipe in it.
SMALL = {
    "synthetic_images": 240,
    "label_fraction": 0.5,
    "seeds": 1,
    "image_size": 32,
    "width": 16,
    "embedding_dim": 16,
    "pretrain_epochs": 1,
    "max_epochs": 2,
    "val_interval": 1,
    "batch_size": 16,
    "pretrain_batch_size": 32,
    "device": "cpu",
}


def run_command(*arguments: str, cwd: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return subprocess.run(
        [sys.executable, "-m", *arguments, *options],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def train(cwd: Path, config_file: str, output: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    settings = SMALL | {"output_dir": output, "model_path": output / "models" / "model.pt"} | changes
    return run_command("monai.bundle", "run", "--config_file", config_file, cwd=cwd, **settings)


def missing_properties(folder: Path, files: list[str], kind: str) -> list[str] | None:
    """Properties of MONAI's workflows that a trained bundle lacks."""
    workflow = create_workflow(
        config_file=[str(folder / "configs" / f"{name}.json") for name in files],
        workflow_type=kind,
        initialize=False,
        bundle_root=str(folder),
        dataset_dir=str(folder / "output" / "synthetic_lesions"),
        output_dir=str(folder / "properties"),
    )
    missing: list[str] | None = workflow.check_properties()
    return missing


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A bundle copied out of the package and trained from its own folder."""
    folder = tmp_path_factory.mktemp("user") / "mine"
    copied = run_command("monai_fgssl", "bundle", "fgssl", str(folder), cwd=folder.parent)
    assert copied.returncode == 0, copied.stderr
    settings = {key: value for key, value in SMALL.items() if key != "device"}
    result = run_command("monai.bundle", "run", "--config_file", "train.json", cwd=folder, **settings)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_the_whole_recipe(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, result = trained
    output = folder / "output"
    assert "pre-train 1/1" in result.stdout + result.stderr
    for metric in ("accuracy", "balanced", "macro F1", "macro AUC"):
        assert metric.lower() in result.stdout.lower().replace("_", " ")
    for picture in ("views", "confusion_matrix", "roc", "learning_curves", "comparison"):
        with Image.open(output / f"{picture}.png") as image:
            assert min(image.size) > 200
    metrics = json.loads((output / "metrics.json").read_text())
    methods = ["FG-SSL", "random weights", "FG-SSL, linear probe", "random weights, linear probe"]
    assert list(metrics["methods"]) == methods
    assert metrics["seeds"] == 1
    assert metrics["data"]["train"]["labeled"] < metrics["data"]["train"]["images"]
    assert len(metrics["conclusions"]) == 2
    for sentence in metrics["conclusions"]:
        assert sentence in " ".join(result.stdout.split())
    assert set(metrics["methods"]["FG-SSL"]) == {"accuracy", "balanced_accuracy", "macro_f1", "macro_auc"}
    for interval in metrics["methods"]["FG-SSL"].values():
        assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    with (output / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", *metrics["class_names"]]
    assert len(rows) == metrics["num_test_images"]
    for row in rows:
        assert sum(float(row[name]) for name in metrics["class_names"]) == pytest.approx(1, abs=1e-4)
    assert not [path for path in output.rglob("*") if "tmp" in path.name]


def test_the_printed_log_fits_a_screen_and_the_file_has_the_rest(trained: tuple[Path, Any]) -> None:
    folder, result = trained
    printed = (result.stdout + result.stderr).splitlines()
    # The first line is MONAI's warning about configs, which comes before any of them is read.
    assert len(printed) < 40
    assert not any("WARNING" in line or "INFO" in line for line in printed)
    kept = (folder / "output" / "run.log").read_text(encoding="utf-8")
    assert "command: python -m monai.bundle run --config_file train.json" in kept
    assert "torch: " in kept
    assert f"width: {SMALL['width']}" in kept
    # Both fine-tunings, each epoch with everything that was measured in it.
    for epoch in (1, 2):
        assert len(re.findall(rf" {epoch}/2: .*loss_stage1 .*weight_growth .*val_macro_f1 ", kept)) == 2


def test_seeds_fine_tune_again_after_one_pretraining(tmp_path: Path) -> None:
    changes = {"seeds": 2, "labels_per_class": 6, "label_fraction": "$None", "fine_tuning_seed": 5, "batch_size": 8}
    result = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path, **changes)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("pre-train 1/1") == 1
    for title in ("fine-tune", "random weights"):
        for number in (1, 2):
            assert result.stdout.count(f"{title}, seed {number} of 2 2/2: ") == 1
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    folders = {"FG-SSL": ["seed_2"], "random weights": ["random_weights", "random_weights/seed_2"]}
    runs = {
        method: [json.loads((tmp_path / folder / "metrics.json").read_text()) for folder in names]
        for method, names in folders.items()
    }
    for method, of_seeds in runs.items():
        for kind in (method, f"{method}, linear probe"):
            values = [content["methods"][kind]["macro_f1"]["value"] for content in of_seeds]
            assert [row["macro_f1"] for row in metrics["by_seed"][kind]][-len(values) :] == pytest.approx(values)
            assert len(metrics["by_seed"][kind]) == metrics["seeds"] == 2
    seeds = [content["settings"]["fine_tuning_seed"] for of_seeds in runs.values() for content in of_seeds]
    assert seeds == [6, 5, 6]
    # Both methods have the same labels of a seed, and the seeds share the split.
    splits = [(tmp_path / folder / "split.json").read_text() for folder in (".", "seed_2", "random_weights")]
    assert len(set(splits)) == 1
    # Weights that a newcomer has no use for do not stay.
    for folder in ("seed_2", "random_weights", "random_weights/seed_2"):
        assert not (tmp_path / folder / "checkpoints").exists()
        assert (tmp_path / folder / "model.pt").is_file()
    # Classifiers of another seed start from other weights, the rest from the pre-trained ones.
    assert (tmp_path / "checkpoints" / "train_final.pt").is_file()


def test_model_is_rebuilt_from_its_record(trained: tuple[Path, Any]) -> None:
    folder, _ = trained
    network = make_network(folder)
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    record = read_record(folder)
    assert record["image_size"] == 32
    assert network.definition() == record["network_def"]


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_monai_loads_a_model_for_other_classes(kind: str, trained: tuple[Path, Any]) -> None:
    folder, _ = trained
    network = load_bundle(
        name=folder.name, bundle_dir=str(folder.parent), workflow_type=kind, net_override={"num_classes": 3}
    )
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    # All but the classifiers come from the model.
    kept = torch.load(folder / "models" / "model.pt", weights_only=True)["backbone.stem.conv1.weight"]
    torch.testing.assert_close(network.state_dict()["backbone.stem.conv1.weight"], kept)


def test_inference_and_evaluation_agree_with_training(trained: tuple[Path, Any]) -> None:
    folder, _ = trained
    evaluated = run_command(
        "monai.bundle", "run", "--config_file", "['configs/train.json','configs/evaluate.json']", cwd=folder
    )
    assert evaluated.returncode == 0, evaluated.stderr
    inferred = run_command(
        "monai.bundle",
        "run",
        "--config_file",
        "configs/inference.json",
        cwd=folder,
        dataset_dir=folder / "output/synthetic_lesions/ISIC2018_Task3_Training_Input",
    )
    assert inferred.returncode == 0, inferred.stderr

    class_names = read_record(folder)["class_names"]

    def read(path: Path) -> dict[str, list[float]]:
        with path.open() as file:
            return {row["image"]: [float(row[name]) for name in class_names] for row in csv.DictReader(file)}

    expected = read(folder / "output" / "predictions.csv")
    again = read(folder / "output" / "evaluation" / "predictions.csv")
    everything = read(folder / "output" / "inference" / "predictions.csv")
    assert expected.keys() == again.keys()
    assert len(everything) == SMALL["synthetic_images"]
    for name, probabilities in expected.items():
        assert again[name] == pytest.approx(probabilities, abs=1e-5)
        assert everything[name] == pytest.approx(probabilities, abs=1e-5)


def test_in_two_steps_from_the_repository_root_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    once = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path / "once", compare=False)
    assert once.returncode == 0, once.stderr
    files = "['bundles/fgssl/configs/train.json','bundles/fgssl/configs/pretrain.json']"
    first = train(REPOSITORY, files, tmp_path / "first")
    assert first.returncode == 0, first.stderr
    assert not (tmp_path / "first" / "models").exists()
    pretrained = tmp_path / "first" / "pretrained.pt"
    changes = {"pretrained": pretrained, "pretrain_epochs": 0, "compare": False}
    second = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path / "second", **changes)
    assert second.returncode == 0, second.stderr
    expected, weights = (
        torch.load(tmp_path / name / "models" / "model.pt", weights_only=True) for name in ("once", "second")
    )
    for key, value in expected.items():
        assert torch.equal(value, weights[key]), key
    # A pre-training may go on from these weights. With this learning rate they hardly change.
    further = train(REPOSITORY, files, tmp_path / "third", pretrained=pretrained, pretrain_learning_rate=1e-12)
    assert further.returncode == 0, further.stderr
    start, end = (torch.load(path, weights_only=True) for path in (pretrained, tmp_path / "third" / "pretrained.pt"))
    assert all(torch.allclose(start[key], value) for key, value in end.items() if key.endswith("weight"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_epoch": 3}, "unknown setting --max_epoch. Did you mean --max_epochs"),
        ({"dataset_dir": "/no/such/folder"}, "/no/such/folder"),
        ({"grids": "[5,4,2]"}, "5 does not divide --image_size 32"),
        ({"grids": "[4,2]"}, "3 stage(s), got grids [4, 2]"),
        ({"learning_rate": -1}, "--learning_rate must be a positive number, got -1"),
        ({"freeze_backbone": 1}, "--freeze_backbone must be from 0 to less than 1 (a share of the epochs), got 1"),
        ({"fine_tuning": "linear"}, "--fine_tuning must be one of ensemble, full, probe, lp_ft, got 'linear'"),
        ({"fine_tuning": "lp_ft", "puzzles": True}, "--puzzles true needs --fine_tuning full or ensemble"),
        ({"stage_lr_decay": 0}, "--stage_lr_decay must be more than 0 and at most 1, got 0"),
        ({"backbone": "resnet19"}, "resnet19"),
        ({"label_fraction": 0}, "label"),
        ({"distorted_view#gray_prob": 0.1}, "RandDistortedView has no strength named gray_prob; there are crop_scale"),
    ],
)
def test_mistakes_are_one_message_before_training(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    result = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path, **changes)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "pre-train" not in result.stdout
    assert not (tmp_path / "models").exists()


def test_a_probe_solves_the_classifiers_and_leaves_the_rest_as_pretrained(tmp_path: Path) -> None:
    result = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path, fine_tuning="probe")
    assert result.returncode == 0, result.stderr
    assert re.search(r"classifiers solved on \d+ labeled images", result.stdout)
    assert "fine-tune " not in result.stdout
    # From random weights there is nothing to solve.
    assert "random weights 2/2" in result.stdout
    assert result.stdout.count("classifiers solved") == 1
    pretrained = torch.load(tmp_path / "pretrained.pt", weights_only=True)
    model = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    backbone = {name: value for name, value in model.items() if name.startswith("backbone.") or name in ("mean", "std")}
    assert {*model} - {*backbone} == {"classifier.weight", "classifier.bias", "feature_mean", "feature_std"}
    assert all(torch.equal(value, pretrained[name]) for name, value in backbone.items())
    record = json.loads((tmp_path / "models" / "model.json").read_text())
    assert record["network_def"]["_target_"] == "monai_fgssl.networks.PooledNet"
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["history"]) == {"pre-train"}
    assert list(metrics["methods"])[:2] == ["FG-SSL", "random weights"]


def test_lp_ft_solves_the_classifiers_and_then_trains_all(tmp_path: Path) -> None:
    result = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path, fine_tuning="lp_ft", compare=False, max_epochs=4)
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("classifiers solved on") < result.stdout.index("fine-tune 4/4")
    settings = json.loads((tmp_path / "metrics.json").read_text())["settings"]
    assert (settings["stage_lr_decay"], settings["freeze_backbone"]) == (0.65, 0.25)
    record = json.loads((tmp_path / "models" / "model.json").read_text())
    assert record["network_def"]["_target_"] == "monai_fgssl.networks.PooledNet"
    # All parts have learned, from the solution on.
    pretrained = torch.load(tmp_path / "pretrained.pt", weights_only=True)
    (last,) = (tmp_path / "checkpoints").glob("train*.pt")
    learned = torch.load(last, weights_only=True)["objects"]["network"]
    weights = [name for name in learned if name.startswith("backbone.") and name.endswith("weight")]
    assert len(weights) > 20
    assert not any(torch.equal(learned[name], pretrained[name]) for name in weights)
    # Another way to fine-tune is another run.
    changes = {"resume": True, "compare": False, "max_epochs": 4}
    resumed = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path, fine_tuning="full", **changes)
    assert resumed.returncode == 1
    assert "fine_tuning" in resumed.stderr


def test_an_ensemble_keeps_the_pretrained_network_beside_the_fine_tuned_one(tmp_path: Path) -> None:
    changes = {"fine_tuning": "ensemble", "max_epochs": 3, "checkpoint_minutes": 0}
    result = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path, **changes)
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("classifiers solved on") < result.stdout.index("fine-tune 3/3")
    record = json.loads((tmp_path / "models" / "model.json").read_text())
    assert record["network_def"]["_target_"] == "monai_fgssl.networks.EnsembleNet"
    pretrained = torch.load(tmp_path / "pretrained.pt", weights_only=True)
    model = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    weights = [name for name in pretrained if name.startswith("backbone.") and name.endswith("weight")]
    assert len(weights) > 20
    assert all(torch.equal(model[f"probe.{name}"], pretrained[name]) for name in weights)
    assert not any(torch.equal(model[name], pretrained[name]) for name in weights)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["methods"])[:2] == ["FG-SSL", "random weights"]
    # Random weights have no features to keep.
    other = json.loads((tmp_path / "random_weights" / "model.json").read_text())
    assert other["network_def"]["_target_"] == "monai_fgssl.networks.HierarchicalNet"

    # A run that goes on in the middle of the fine-tuning ends with the same model.
    (tmp_path / "models" / "model.pt").unlink()
    for checkpoint in (tmp_path / "checkpoints").glob("train*3*.pt"):
        checkpoint.unlink()
    resumed = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path, **changes, resume=True)
    assert resumed.returncode == 0, resumed.stderr
    again = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, again[name]) for name, value in model.items())

    # The model is one like any other: in inference, and as the start of another run.
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    shutil.copytree(tmp_path / "models", bundle / "models", dirs_exist_ok=True)
    command = ["monai.bundle", "run", "--config_file", str(bundle / "configs" / "inference.json")]
    folder = tmp_path / "output_of_inference"
    inference = run_command(
        *command, cwd=tmp_path, bundle_root=bundle, dataset_dir=tmp_path / "synthetic_lesions", output_dir=folder
    )
    assert inference.returncode == 0, inference.stderr
    assert len(list(csv.DictReader((folder / "predictions.csv").open()))) > 100
    further = {"pretrained": tmp_path / "models" / "model.pt", "pretrain_epochs": 0, "compare": False, "max_epochs": 1}
    start = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path / "further", **further)
    assert start.returncode == 0, start.stderr


def test_settings_by_their_former_names(tmp_path: Path) -> None:
    settings = {name: value for name, value in SMALL.items() if name != "embedding_dim"}
    settings |= {"features": 12, "heads_first": 0.5, "pretrain_epochs": 0}
    settings |= {"output_dir": tmp_path, "model_path": tmp_path / "model.pt"}
    files = "['bundles/fgssl/configs/train.json','bundles/fgssl/configs/tensorboard.json']"
    result = run_command("monai.bundle", "run", "--config_file", files, cwd=REPOSITORY, **settings)
    assert result.returncode == 0, result.stderr
    for old, new in (("features", "embedding_dim"), ("heads_first", "freeze_backbone")):
        assert result.stdout.count(f"--{old} is now called --{new}") == 1
    used = json.loads((tmp_path / "metrics.json").read_text())["settings"]
    assert (used["embedding_dim"], used["freeze_backbone"]) == (12, 0.5)
    assert not {"features", "heads_first"} & used.keys()
    assert json.loads((tmp_path / "model.json").read_text())["network_def"]["embedding_dim"] == 12


def test_unreadable_image_is_named_before_training(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = trained
    data = shutil.copytree(folder / "output" / "synthetic_lesions", tmp_path / "data")
    broken = sorted((data / "ISIC2018_Task3_Training_Input").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:200])
    result = train(REPOSITORY, "bundles/fgssl/train.json", tmp_path / "run", dataset_dir=data)
    assert result.returncode == 1
    assert broken.name in result.stderr
    assert "Traceback" not in result.stderr


def test_monai_bundle_tools(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = trained
    configs = folder / "configs"
    # The default network, as metadata.json describes it.
    verify_net_in_out(
        "network_def",
        str(BUNDLE / "configs/metadata.json"),
        str(BUNDLE / "configs/inference.json"),
        device="cpu",
        bundle_root=str(tmp_path_with_defaults(tmp_path)),
    )
    arguments = {
        "net_id": "network_def",
        "meta_file": str(configs / "metadata.json"),
        "config_file": str(configs / "inference.json"),
        "ckpt_file": str(folder / "models" / "model.pt"),
        "key_in_ckpt": "",
        "bundle_root": str(folder),
    }
    network = make_network(folder).eval()
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    ckpt_export(filepath=str(tmp_path / "model.ts"), **arguments)
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(images), expected, rtol=1e-5, atol=1e-5)
    onnx_export(filepath=str(tmp_path / "model.onnx"), input_shape=[1, 3, 32, 32], **arguments)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    exported = torch.cat([torch.from_numpy(session.run(None, {name: image[None].numpy()})[0]) for image in images])
    # Two computations in float32, in another order: each may be as far from the exact result as the other.
    with torch.no_grad():
        exact = network.double()(images.double())
    rounding = (expected - exact).abs().max().item()
    torch.testing.assert_close(exported.double(), exact, rtol=0, atol=max(1e-5, 4 * rounding))
    assert rounding < 1e-4


def tmp_path_with_defaults(folder: Path) -> Path:
    """The shipped bundle without a model that somebody may have trained in this clone."""
    return Path(shutil.copytree(BUNDLE, folder / "defaults", ignore=shutil.ignore_patterns("output", "model.*")))


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["train"], "train"),
        (["train", "pretrain"], "train"),
        (["train", "multi_gpu_train"], "train"),
        (["train", "paper"], "train"),
        (["inference"], "infer"),
    ],
)
def test_properties(files: list[str], kind: str, trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = trained
    # As torchrun sets them; the configs of one process do not look at them.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rendezvous = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in rendezvous.items():
        monkeypatch.setenv(name, str(value))
    try:
        assert missing_properties(folder, files, kind) == []
    finally:
        idist.finalize()


def test_the_choices_of_the_paper(tmp_path: Path) -> None:
    configs = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "paper")]
    changes = {key: value for key, value in SMALL.items() if key != "device"} | {"backbone": "resnet18"}
    output = tmp_path / "output"
    result = train(tmp_path, str(configs), output, **changes, grids="[8,4,2]")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((output / "metrics.json").read_text())
    assert set(metrics["methods"]) == {"FG-SSL"}
    assert metrics["settings"]["pretrain_schedule"] == metrics["settings"]["schedule"] == "progressive"
    parser = ConfigParser(ConfigParser.load_config_files(configs))
    parser["bundle_root"], parser["output_dir"] = str(BUNDLE), str(tmp_path / "unused")
    parser["class_names"], parser["backbone"], parser["image_size"] = ["a", "b"], "resnet18", 64
    for phase in ("pretrain", "train"):
        optimizer = parser.get_parsed_content(f"{phase}#optimizer")
        assert isinstance(optimizer, torch.optim.SGD)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([2e-4, 2e-4, 2e-3, 2e-3])


def test_metadata_follows_the_schema(tmp_path: Path) -> None:
    schema = os.environ.get("MONAI_META_SCHEMA", str(REPOSITORY.parent / "shared/monai/meta_schema_20240725.json"))
    if not Path(schema).is_file():
        schema = str(tmp_path / "schema.json")
    result = run_command(
        "monai.bundle",
        "verify_metadata",
        "--meta_file",
        str(BUNDLE / "configs/metadata.json"),
        "--filepath",
        schema,
        cwd=tmp_path,
    )
    assert result.returncode == 0, (
        f"the schema is neither at {schema} nor could it be downloaded; name the file with MONAI_META_SCHEMA.\n"
        + result.stderr
    )
    assert "metadata is verified with no error" in result.stdout + result.stderr


def test_root_is_found_from_the_bundle_and_from_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in (BUNDLE, REPOSITORY, tmp_path):
        monkeypatch.chdir(folder)
        assert Path(find_root("fgssl")).resolve() == BUNDLE.resolve()


def test_a_stopped_run_goes_on_with_the_same_result(tmp_path: Path) -> None:
    settings = {"compare": True, "checkpoint_minutes": 0, "pretrain_batch_size": 16}
    whole = train(REPOSITORY, "bundles/fgssl/configs/train.json", tmp_path / "whole", **settings)
    assert whole.returncode == 0, whole.stderr

    # Stopped by Ctrl-C in the pre-training, killed in the fine-tuning, and in that of the comparison.
    output = tmp_path / "stopped"
    moments = {
        "checkpoints/pretrain_000000004.pt": signal.SIGINT,
        "checkpoints/train_000000003.pt": signal.SIGKILL,
        "random_weights/checkpoints/train_000000002.pt": signal.SIGTERM,
    }
    options = SMALL | settings | {"output_dir": output, "model_path": output / "models" / "model.pt", "resume": True}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/fgssl/configs/train.json"]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    for file, number in moments.items():
        with (tmp_path / "log.txt").open("w+") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
            while process.poll() is None and not (output / file).is_file():
                time.sleep(0.001)
            process.send_signal(number)
            status = process.wait(300)
            log.seek(0)
            text = log.read()
        assert status == (-number if number == signal.SIGKILL else 128 + number), text
        assert number == signal.SIGKILL or f"stopped by {number.name} in epoch" in text
        assert "Traceback" not in text
    resumed = train(REPOSITORY, "bundles/fgssl/configs/train.json", output, **settings, resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "pretrain is finished" in resumed.stdout
    assert "train is finished" in resumed.stdout
    # The comparison prints its progress only; what it says is in the log.
    assert "train continues after iteration" not in resumed.stdout
    assert "train continues after iteration" in (output / "run.log").read_text(encoding="utf-8")

    for name in ("pretrained.pt", "best.pt", "models/model.pt", "random_weights/model.pt"):
        expected, found = (torch.load(folder / name, weights_only=True) for folder in (tmp_path / "whole", output))
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    expected, found = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "whole", output))
    for content in (expected, found):
        for name in ("settings", "command"):
            content.pop(name)
    assert expected == found


def test_balanced_decisions_from_the_training_to_the_inference(tmp_path: Path) -> None:
    """Of unequal classes; what the run decides, evaluation and inference decide too."""
    source = make_synthetic_lesions(tmp_path / "source", 480, 32, seed=1)
    table = read_table(source)
    kept: dict[int, int] = {}
    for item in table.items:
        kept[item["label"]] = kept.get(item["label"], 0) + 1
        if kept[item["label"]] <= (120, 40, 15)[min(item["label"], 2)]:
            folder = tmp_path / "data" / table.class_names[item["label"]]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(item["image"], folder)
    output, data = tmp_path / "output", tmp_path / "data"
    common = {"output_dir": output, "model_path": output / "model.pt", "dataset_dir": data}
    configs = [f"bundles/fgssl/configs/{name}.json" for name in ("train", "probe", "evaluate", "inference")]
    settings = {
        "image_size": 32,
        "fractions": "{'train': 0.4, 'validation': 0.3, 'test': 0.3}",
        "device": "cpu",
        "decision": "balanced",
    }
    run = ("monai.bundle", "run", "--config_file")
    result = run_command(*run, str(configs[:2]), cwd=REPOSITORY, **common, **settings)
    assert result.returncode == 0, result.stderr
    told = re.search(
        r"strength (\S+): macro F1 on the validation part (\S+), with the likeliest classes (\S+)", result.stdout
    )
    assert told
    assert float(told[2]) >= float(told[3])
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["decision"]["strength"] == float(told[1]) > 0
    assert "Balanced decisions" in (output / "report.html").read_text(encoding="utf-8")
    with (output / "predictions.csv").open() as file:
        decided = {row["image"]: row for row in csv.DictReader(file)}
    likeliest = {
        image: max(metrics["class_names"], key=lambda name, row=row: float(row[name])) for image, row in decided.items()
    }
    changed = [image for image, row in decided.items() if row["prediction"] != likeliest[image]]
    assert len(changed) == metrics["decision"]["changed"] > 0
    result = run_command(
        *run, configs[3], cwd=REPOSITORY, **common | {"output_dir": tmp_path / "inference"}, device="cpu"
    )
    assert result.returncode == 0, result.stderr
    with (tmp_path / "inference" / "predictions.csv").open() as file:
        inferred = {Path(row["image"]).stem: row["prediction"] for row in csv.DictReader(file)}
    assert {image: inferred[Path(image).stem] for image in decided} == {
        image: row["prediction"] for image, row in decided.items()
    }
    evaluated = run_command(*run, str([configs[0], configs[2]]), cwd=REPOSITORY, **common, device="cpu")
    assert evaluated.returncode == 0, evaluated.stderr
    again = json.loads((output / "evaluation" / "metrics.json").read_text())
    assert again["methods"]["model"] == metrics["methods"]["linear probe"]
    assert again["decision"] == metrics["decision"]
