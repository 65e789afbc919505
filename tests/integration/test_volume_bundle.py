# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The bundle for volumes as users run it: with MONAI's own commands in separate processes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import PATIENT, write_ct_series
from monai.bundle import verify_metadata, verify_net_in_out
from PIL import Image
from test_bundle import missing_properties, run_command

from monai_fgssl.bundle import SettingsError, check_settings, copy_bundle, find_root, make_network, read_record

REPOSITORY = Path(__file__).parents[2]
BUNDLE = REPOSITORY / "bundles" / "fgssl_volume"
SMALL = {
    "synthetic_images": 40,
    "label_fraction": 0.7,
    "image_size": "[16,16,8]",
    "width": 8,
    "embedding_dim": 8,
    "pretrain_epochs": 1,
    "max_epochs": 1,
    "batch_size": 8,
    "pretrain_batch_size": 8,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle copied out of the package and trained from its own folder."""
    folder = copy_bundle("fgssl_volume", tmp_path_factory.mktemp("user") / "mine")
    result = run_command("monai.bundle", "run", "--config_file", "train.json", cwd=folder, **SMALL)
    assert result.returncode == 0, result.stderr
    return folder


def read_predictions(file: Path) -> dict[str, list[float]]:
    class_names = ("FOAM", "GLOBULES", "LABYRINTH", "LAYERS")
    with file.open() as lines:
        return {row["image"]: [float(row[name]) for name in class_names] for row in csv.DictReader(lines)}


def test_a_copy_stands_alone_and_shares_the_configs(tmp_path: Path) -> None:
    copy = copy_bundle("fgssl_volume", tmp_path / "mine")
    assert not [path for path in copy.rglob("*") if path.is_symlink()]
    for name in ("LICENSE", "logging.conf", "metadata.json", "train.json", "docs/README.md", "models/.gitkeep"):
        assert (copy / name).is_file()
    for name in ("train", "pretrain", "evaluate", "inference", "export_onnx", "multi_gpu_train"):
        ours, theirs = (folder / "configs" / f"{name}.json" for folder in (copy, REPOSITORY / "bundles/fgssl"))
        assert ours.read_bytes() == theirs.read_bytes()
    # What differs is known to the configs, or it would be ignored.
    defaults = json.loads((copy / "configs" / "defaults.json").read_text())
    assert set(defaults) <= set(json.loads((copy / "train.json").read_text()))


def test_the_whole_recipe(trained: Path) -> None:
    output = trained / "output"
    metrics = json.loads((output / "metrics.json").read_text())
    methods = ["FG-SSL", "random weights"]
    assert list(metrics["methods"]) == methods + [f"{method}, linear probe" for method in methods]
    assert metrics["settings"]["spatial_dims"] == 3
    assert metrics["settings"]["image_size"] == [16, 16, 8]
    for picture in ("views", "confusion_matrix", "roc", "learning_curves"):
        with Image.open(output / f"{picture}.png") as image:
            assert min(image.size) > 200
    record = read_record(trained)
    assert record["image_size"] == [16, 16, 8]
    assert record["spacing"] == [1, 1, 2]
    assert record["network_def"]["spatial_dims"] == 3
    assert record["network_def"]["in_channels"] == 1
    make_network(trained).load_state_dict(torch.load(trained / "models" / "model.pt", weights_only=True))


@pytest.fixture(scope="module")
def study(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume of the test part as NIfTI and as a DICOM series of a patient, and a file that is neither."""
    folder = tmp_path_factory.mktemp("study")
    name = next(iter(read_predictions(trained / "output" / "predictions.csv")))
    volume = trained / "output" / "synthetic_lesions" / f"{name}.nii.gz"
    source = nib.as_closest_canonical(nib.load(volume))
    nib.save(nib.Nifti1Image(np.asarray(source.dataobj), source.affine), folder / "scan.nii.gz")
    (folder / "series").mkdir()
    write_ct_series(volume, folder / "series", lambda z: f"IM{(7 * z) % 18}")
    (folder / "broken.nii.gz").write_bytes(b"nothing")
    return folder


def test_inference_on_files_and_series(trained: Path, study: Path, tmp_path: Path) -> None:
    result = run_command(
        "monai.bundle",
        "run",
        "--config_file",
        "configs/inference.json",
        cwd=trained,
        dataset_dir=study,
        output_dir=tmp_path,
        heat_maps=True,
        dicom=True,
    )
    # All others have their results before the broken one is told of.
    assert result.returncode == 1
    assert "broken.nii.gz" in result.stderr
    assert "Traceback" not in result.stderr
    predictions = read_predictions(tmp_path / "predictions.csv")
    assert set(predictions) == {"scan", "series"}
    np.testing.assert_allclose(predictions["scan"], predictions["series"], atol=1e-6)
    name, expected = next(iter(read_predictions(trained / "output" / "predictions.csv").items()))
    assert predictions["scan"] == pytest.approx(expected, abs=1e-5), name
    assert {item["image"] for item in json.loads((tmp_path / "predictions.json").read_text())} == {"scan", "series"}
    for name in ("scan", "series"):
        with Image.open(tmp_path / "heat_maps" / f"{name}.png") as picture:
            assert picture.size == (4 * 256, 256)
    # A report of a series refers to all of its slices.
    report = pydicom.dcmread(tmp_path / "dicom" / "series_report.dcm")
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    (references,) = evidence.ReferencedSeriesSequence
    assert len(references.ReferencedSOPSequence) == 18
    capture = pydicom.dcmread(tmp_path / "dicom" / "series_heat_maps.dcm")
    assert len(capture.SourceImageSequence) == 18
    assert capture.StudyInstanceUID == report.StudyInstanceUID
    written = result.stdout + result.stderr + "".join(path.read_text() for path in tmp_path.glob("*.*"))
    assert not [value for value in PATIENT.values() if value in written]


def test_evaluation_agrees_with_training(trained: Path) -> None:
    evaluated = run_command(
        "monai.bundle", "run", "--config_file", "['configs/train.json','configs/evaluate.json']", cwd=trained
    )
    assert evaluated.returncode == 0, evaluated.stderr
    expected = read_predictions(trained / "output" / "predictions.csv")
    again = read_predictions(trained / "output" / "evaluation" / "predictions.csv")
    assert expected.keys() == again.keys()
    for name, probabilities in expected.items():
        assert again[name] == pytest.approx(probabilities, abs=1e-5)


@pytest.mark.parametrize("name", ["fgssl", "fgssl_volume"])
@pytest.mark.parametrize("config_file", ["train.json", "configs/inference.json"])
def test_the_root_is_where_the_link_is(name: str, config_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    command = ["monai/bundle/__main__.py", "run", "--config_file", f"['bundles/{name}/{config_file}','other.json']"]
    monkeypatch.setattr("sys.argv", command)
    assert Path(find_root("fgssl")) == REPOSITORY / "bundles" / name


SETTINGS = {
    "spatial_dims": 3,
    "pretrain_epochs": 1,
    "image_size": [32, 32, 16],
    "spacing": [1, 1, 2],
    "window": None,
    "grids": [[4, 4, 2], 2, 1],
    "balance": None,
    "batch_size": 8,
    "pretrain_batch_size": 8,
    "fine_tuning": "full",
    "puzzles": False,
}


def test_settings_for_each_axis() -> None:
    check_settings(str(BUNDLE), SETTINGS)
    check_settings(str(BUNDLE), SETTINGS | {"image_size": 32, "spacing": 1.5, "window": [40, 400]})
    check_settings(str(BUNDLE), SETTINGS | {"spacing": None, "window": "dicom"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": [32, 32]}, r"--image_size must be a positive whole number, or a list of 3"),
        ({"image_size": [32, 32, 0]}, r"--image_size must be a positive whole number"),
        ({"image_size": 32.5}, r"--image_size must be a positive whole number"),
        ({"grids": [[4, 4], 2, 1]}, r"--grids must be a positive whole number, or a list of 3"),
        ({"grids": [[4, 4, 3], 2, 1]}, r"3 does not divide --image_size \[32, 32, 16\]"),
        ({"spacing": [1, 1, -2]}, r"--spacing must be a positive number, or a list of 3"),
        ({"window": [40]}, r"--window: .*\(center, width\)"),
        ({"spatial_dims": 4}, r"--spatial_dims must be 2 or 3, got 4"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_settings(str(BUNDLE), SETTINGS | changes)


@pytest.mark.parametrize(
    ("files", "kind"), [(["train"], "train"), (["train", "pretrain"], "train"), (["inference"], "infer")]
)
def test_properties(files: list[str], kind: str, trained: Path) -> None:
    assert missing_properties(trained, files, kind) == []


def test_metadata_describes_the_default_network(tmp_path: Path) -> None:
    copy = copy_bundle("fgssl_volume", tmp_path / "mine")
    metadata, config = copy / "configs" / "metadata.json", copy / "configs" / "inference.json"
    verify_net_in_out("network_def", str(metadata), str(config), device="cpu", bundle_root=str(copy))
    schema = os.environ.get("MONAI_META_SCHEMA", str(REPOSITORY.parent / "shared/monai/meta_schema_20240725.json"))
    if not Path(schema).is_file():
        schema = str(tmp_path / "schema.json")
    # Raises where the metadata does not follow the schema.
    verify_metadata(meta_file=str(metadata), filepath=schema)
