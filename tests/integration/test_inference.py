# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Inference as a clinic runs it: one folder with files of every kind, and the results."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from dicom_files import PATIENT, write_dicom
from picture_files import LOSSLESS_COLOR
from PIL import Image
from pydicom.data import get_testdata_file

from monai_fgssl.bundle import copy_bundle, save_model
from monai_fgssl.data import read_image
from monai_fgssl.networks import HierarchicalNet

CLASSES = ["NETWORK", "GLOBULES", "STREAKS"]
IMAGE_SIZE = 32
BROKEN = {
    "cut_off.png": "cut_off.png is damaged",
    "letter.jpg": "letter.jpg is not in a supported format",
}


@dataclass
class Run:
    """Inputs and results of a run of inference."""

    folder: Path
    inputs: Path
    process: subprocess.CompletedProcess[str]
    rows: dict[str, dict[str, str]]

    @property
    def output(self) -> Path:
        return self.folder / "output" / "inference"


def make_inputs(folder: Path) -> None:
    """One picture in every lossless container, other images as clinics have them, and three broken files."""
    coarse = np.random.default_rng(0).integers(0, 6, (9, 12, 3)) * 50
    picture = np.asarray(Image.fromarray(coarse.astype(np.uint8)).resize((48, 36), Image.Resampling.NEAREST))
    for name, write in LOSSLESS_COLOR.items():
        with_own_folder = folder / "same" / name.replace(" ", "_").replace(",", "").replace(".", "")
        with_own_folder.mkdir(parents=True)
        file = write(picture, with_own_folder)
        for other in with_own_folder.iterdir():
            # What a writer started from, but not the second half of an image in two files.
            if other != file and other.suffix not in (".raw", ".zraw"):
                other.unlink()
    others = folder / "others"
    others.mkdir()
    shutil.copy(write_dicom(others / "a.dcm", picture), others / "IM000001")
    gray = picture[..., 0]
    write_dicom(others / "inverted.dcm", 255 - gray, PhotometricInterpretation="MONOCHROME1")
    write_dicom(others / "gray.dcm", gray)
    write_dicom(others / "twelve_bits.dcm", gray.astype(np.uint16) * 16, BitsStored=12)
    Image.fromarray(picture).save(others / "photo.jpg", quality=95)
    Image.fromarray(picture).convert("CMYK").save(others / "print.jpg", quality=95)
    for name in ("CT_small.dcm", "MR_small.dcm", "examples_palette.dcm", "examples_ybr_color.dcm"):
        path = get_testdata_file(name, download=False)
        if path and pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames", 1) == 1:
            shutil.copy(path, others / name)
    broken = folder / "broken"
    broken.mkdir()
    (broken / "letter.jpg").write_text("Dear colleague")
    photo = others / "whole.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(photo)
    (broken / "cut_off.png").write_bytes(photo.read_bytes()[:2000])
    shutil.copy(get_testdata_file("rtplan.dcm"), broken / "plan.dcm")


@pytest.fixture(scope="module")
def inferred(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("clinic")
    folder = copy_bundle("fgssl", root / "bundle")
    torch.manual_seed(0)
    network = HierarchicalNet("resnet18", num_classes=3, width=16, embedding_dim=16)
    save_model(network, folder / "models" / "model.pt", CLASSES, IMAGE_SIZE, temperature=1.5)
    make_inputs(root / "inputs")
    options = ["--dataset_dir", str(root / "inputs"), "--heat_maps", "true", "--dicom", "true"]
    process = run_bundle(folder, "configs/inference.json", *options, "--orientations", "true", "--batch_size", "8")
    return Run(folder, root / "inputs", process, read_rows(folder / "output" / "inference"))


def run_bundle(folder: Path, config_file: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config_file, "--device", "cpu"]
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def read_rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def probabilities(row: dict[str, str]) -> list[float]:
    return [float(row[name]) for name in CLASSES]


def test_the_same_picture_has_the_same_result_whatever_its_file(inferred: Run) -> None:
    same = {name: row for name, row in inferred.rows.items() if name.startswith("same/")}
    assert len(same) == len(LOSSLESS_COLOR)
    first, *others = same.values()
    for row in others:
        assert probabilities(row) == pytest.approx(probabilities(first), abs=1e-6), row["image"]
    assert probabilities(inferred.rows["others/IM000001"]) == pytest.approx(probabilities(first), abs=1e-6)
    assert probabilities(inferred.rows["others/inverted"]) == pytest.approx(
        probabilities(inferred.rows["others/gray"]), abs=1e-6
    )


def test_results_are_those_of_the_network(inferred: Run) -> None:
    network = HierarchicalNet("resnet18", num_classes=3, width=16, embedding_dim=16)
    network.load_state_dict(torch.load(inferred.folder / "models" / "model.pt", weights_only=True))
    image = read_image(inferred.inputs / "others" / "photo.jpg", IMAGE_SIZE)[None].float() / 255
    turned = torch.cat([torch.rot90(x, k, (2, 3)) for x in (image, image.flip(3)) for k in range(4)])
    with torch.no_grad():
        logits = network.eval().stage_logits(turned).double().mean(0)
    row = inferred.rows["others/photo"]
    assert probabilities(row) == pytest.approx((logits.sum(0) / 1.5).softmax(0).tolist(), abs=1e-5)
    for step, values in zip(("stage1", "stage2", "stage3", "concat"), logits.softmax(1), strict=True):
        assert [float(row[f"{step}_{name}"]) for name in CLASSES] == pytest.approx(values.tolist(), abs=1e-5)


def test_broken_files_are_listed_with_their_reason_and_stop_nothing(inferred: Run) -> None:
    assert inferred.process.returncode == 1
    assert "Traceback" not in inferred.process.stderr
    with (inferred.output / "failures.csv").open(newline="") as file:
        failures = {row["image"]: row["reason"] for row in csv.DictReader(file)}
    assert sorted(failures) == sorted(f"broken/{Path(name).stem}" for name in BROKEN)
    for name, reason in BROKEN.items():
        assert reason in failures[f"broken/{Path(name).stem}"]
        assert reason in inferred.process.stderr
    assert not any(name.startswith("broken/") for name in inferred.rows)
    # A treatment plan has no pixels: it lies beside images as a report does.
    assert "left out (.dcm 1)" in inferred.process.stdout + inferred.process.stderr


def test_a_report_and_heat_maps_for_every_dicom_file_and_a_picture_for_every_image(inferred: Run) -> None:
    dicom = {name for name in inferred.rows if is_dicom(inferred.inputs, name)}
    assert len(dicom) >= 15
    written = {str(path.relative_to(inferred.output / "dicom"))[:-4] for path in inferred.output.glob("dicom/**/*.dcm")}
    assert written == {f"{name}_{kind}" for name in dicom for kind in ("report", "heat_maps")}
    pictures = {
        str(path.relative_to(inferred.output / "heat_maps"))[:-4] for path in inferred.output.glob("heat_maps/**/*.png")
    }
    assert pictures == set(inferred.rows)
    for name in dicom:
        report = pydicom.dcmread(inferred.output / "dicom" / f"{name}_report.dcm")
        assert inferred.rows[name]["prediction"] in str(report.ContentSequence)
        checked = subprocess.run(
            ["dciodvfy", inferred.output / "dicom" / f"{name}_report.dcm"], capture_output=True, text=True, check=False
        )
        assert "Error" not in checked.stdout + checked.stderr, checked.stderr


def is_dicom(inputs: Path, name: str) -> bool:
    files = [inputs / name, *(inputs / name).parent.glob(f"{Path(name).name}.*")]
    return any(file.is_file() and file.read_bytes()[128:132] == b"DICM" for file in files)


def test_json_says_what_csv_says(inferred: Run) -> None:
    records = json.loads((inferred.output / "predictions.json").read_text())
    assert [record["image"] for record in records] == list(inferred.rows)
    for record in records:
        row = inferred.rows[record["image"]]
        assert list(record["probabilities"].values()) == pytest.approx(probabilities(row), abs=1e-6)
        assert record["entropy"] == pytest.approx(float(row["entropy"]), abs=1e-6)


def test_nothing_about_the_patient_but_in_dicom(inferred: Run) -> None:
    texts = {"stdout": inferred.process.stdout.encode(), "stderr": inferred.process.stderr.encode()}
    texts |= {str(path): path.read_bytes() for path in inferred.folder.rglob("*") if path.is_file()}
    secrets = [value.encode() for value in PATIENT.values()] + [b"Jane", b"CompressedSamples"]
    found = [
        (name, secret)
        for name, content in texts.items()
        for secret in secrets
        if secret in content and not name.endswith(".dcm")
    ]
    assert found == []
    # The search finds what it looks for: results in DICOM are the patient's.
    assert any(secrets[0] in content for name, content in texts.items() if name.endswith(".dcm"))


def test_the_same_results_from_onnx_runtime(inferred: Run, tmp_path: Path) -> None:
    exported = run_bundle(inferred.folder, "['configs/inference.json','configs/export_onnx.json']")
    assert exported.returncode == 0, exported.stderr
    model = inferred.folder / "models" / "model.onnx"
    assert f"written: {model}" in exported.stdout
    options = [
        "--dataset_dir",
        str(inferred.inputs / "others"),
        "--orientations",
        "true",
        "--output_dir",
        str(tmp_path),
    ]
    result = run_bundle(inferred.folder, "configs/inference.json", *options, "--model_path", str(model))
    assert result.returncode == 0, result.stderr
    rows = read_rows(tmp_path)
    assert len(rows) > 8
    for name, row in rows.items():
        assert probabilities(row) == pytest.approx(probabilities(inferred.rows[f"others/{name}"]), abs=1e-5)
    for more, message in (
        (
            ["--heat_maps", "true"],
            "error: heat maps need the gradients of a HierarchicalNet or PooledNet, got OnnxNet",
        ),
        (["--model_path", "other.onnx"], "error: there is no model at other.onnx: export it first"),
    ):
        refused = run_bundle(inferred.folder, "configs/inference.json", *options, "--model_path", str(model), *more)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith(message)
