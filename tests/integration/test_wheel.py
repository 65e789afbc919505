# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The package as it is installed without a clone."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from monai_fgssl.bundle import BUNDLES
from monai_fgssl.data import make_synthetic_volumes
from monai_fgssl.data.synthetic.lesions import draw_lesion

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of a built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(REPOSITORY)]
    # As in the workflow of a release.
    address = {"GITHUB_REPOSITORY": "someone/monai-fgssl", "GITHUB_REF_NAME": "v1.2.3"}
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=300, env=os.environ | address)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_wheel_carries_the_bundles(installed: Path, tmp_path: Path) -> None:
    assert (installed / "monai_fgssl" / "py.typed").is_file()
    assert not list(installed.rglob("model.pt"))
    for bundle in BUNDLES:
        result = run(installed, tmp_path, "monai_fgssl", "bundle", bundle, f"my_{bundle}")
        assert result.returncode == 0, result.stderr
        copy, source = tmp_path / f"my_{bundle}", REPOSITORY / "bundles" / bundle
        files = [path.relative_to(source) for path in (source / "configs").iterdir()]
        for name in ("train.json", "LICENSE", "docs/README.md", *files):
            assert (copy / name).read_bytes() == (source / name).read_bytes()
            assert not (copy / name).is_symlink()


def test_links_of_the_readme_work_on_pypi(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info/METADATA")
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", metadata.read_text(encoding="utf-8"))
    own = re.compile(r"https://github\.com/someone/monai-fgssl/(blob|raw)/v1\.2\.3/([^#]+)")
    found = [own.fullmatch(target) for _, target in links]
    assert sum(match is not None for match in found) > 10
    for (image, target), match in zip(links, found, strict=True):
        if match is None:
            assert target.startswith("https://")
        else:
            assert match[1] == ("raw" if image else "blob")
            assert (REPOSITORY / match[2]).exists(), target


def draw_lesions(folder: Path, count: int = 90) -> None:
    for number in range(count):
        texture = ("NETWORK", "GLOBULES", "STREAKS")[number % 3]
        file = folder / texture.lower() / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_lesion(texture, image_size=48, lesion=number)).save(file)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def macro_auc(rows: list[dict[str, str]]) -> float:
    classes = sorted({row["image"].split("/")[0] for row in rows})
    scores = np.array([[float(row[name]) for name in classes] for row in rows])
    labels = np.array([row["image"].split("/")[0] for row in rows])
    return float(np.mean([roc_auc_score(labels == name, score) for name, score in zip(classes, scores.T, strict=True)]))


@pytest.mark.timeout(2700)
def test_embed_similar_and_probe_on_pictures(installed: Path, tmp_path: Path) -> None:
    draw_lesions(tmp_path / "my_images")
    start = ("--image_size", "32", "--device", "cpu", "--cache_dir", "cache")
    embedded = run(installed, tmp_path, "monai_fgssl", "embed", "my_images", *start)
    assert embedded.returncode == 0, embedded.stderr
    with np.load(tmp_path / "fgssl_features" / "embeddings.npz") as arrays:
        assert arrays["concat"].shape == (90, 960)
        names, features = arrays["image"].tolist(), arrays["concat"]
    assert names[0] == "globules/001"
    # The same random weights, so the features are known.
    kept = sorted((tmp_path / "cache").iterdir())
    similar = run(
        installed, tmp_path, "monai_fgssl", "similar", "my_images/streaks/002.png", "my_images", "-k", "4", *start
    )
    assert similar.returncode == 0, similar.stderr
    assert sorted((tmp_path / "cache").iterdir()) == kept
    rows = read_csv(tmp_path / "fgssl_features" / "similar.csv")
    values = (features - features.mean(0)) / features.std(0).clip(1e-6)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    nearest = np.argsort(-values @ values[names.index("streaks/002")])[1:5]
    assert [row["image"] for row in rows] == [names[index] for index in nearest]
    assert (tmp_path / "fgssl_features" / "similar.png").is_file()

    probed = run(installed, tmp_path, "monai_fgssl", "probe", "my_images", *start)
    assert probed.returncode == 0, probed.stderr
    folder = tmp_path / "fgssl_probe"
    metrics = json.loads((folder / "output" / "metrics.json").read_text())
    assert list(metrics["methods"]) == ["linear probe"]
    assert metrics["stages"] == {}
    auc = metrics["methods"]["linear probe"]["macro_auc"]
    assert 0 <= auc["low"] <= auc["value"] <= auc["high"] <= 1
    expected = {row["image"]: row for row in read_csv(folder / "output" / "predictions.csv")}
    assert auc["value"] == pytest.approx(macro_auc(list(expected.values())), abs=1e-6)
    # Afterwards the model is one as any other, with the commands that were printed.
    configs = re.findall(r"--config_file (\S+)", probed.stdout)
    assert configs == [
        "fgssl_probe/configs/inference.json",
        "\"['fgssl_probe/configs/inference.json','fgssl_probe/configs/export_onnx.json']\"",
        "fgssl_probe/train.json",
    ]
    more = ("--dataset_dir", "my_images", "--device", "cpu")
    inferred = run(
        installed, tmp_path, "monai.bundle", "run", "--config_file", configs[0], *more, "--heat_maps", "true"
    )
    assert inferred.returncode == 0, inferred.stderr
    exported = run(installed, tmp_path, "monai.bundle", "run", "--config_file", configs[1].strip('"'))
    assert exported.returncode == 0, exported.stderr
    onnx = ("--model_path", "fgssl_probe/models/model.onnx", "--output_dir", "onnx")
    by_onnx = run(installed, tmp_path, "monai.bundle", "run", "--config_file", configs[0], *more, *onnx)
    assert by_onnx.returncode == 0, by_onnx.stderr
    scored = "['fgssl_probe/configs/train.json','fgssl_probe/configs/evaluate.json']"
    evaluated = run(installed, tmp_path, "monai.bundle", "run", "--config_file", scored, *more)
    assert evaluated.returncode == 0, evaluated.stderr
    for path in ("fgssl_probe/output/inference", "onnx", "fgssl_probe/output/evaluation"):
        found = {row["image"]: row for row in read_csv(tmp_path / path / "predictions.csv")}
        for name, row in expected.items():
            for label in ("globules", "network", "streaks"):
                assert float(found[name][label]) == pytest.approx(float(row[label]), abs=1e-4), (path, name)
    with Image.open(folder / "output" / "inference" / "heat_maps" / "streaks" / "002.png") as picture:
        assert picture.size == (5 * 256, 256)


@pytest.mark.timeout(2700)
def test_embed_similar_and_probe_on_volumes(installed: Path, tmp_path: Path) -> None:
    table = make_synthetic_volumes(tmp_path / "volumes", 48)
    assert table
    start = ("--spatial_dims", "3", "--image_size", "16", "--spacing", "$None", "--device", "cpu")
    probed = run(installed, tmp_path, "monai_fgssl", "probe", "volumes", "--folder", "mine", *start)
    assert probed.returncode == 0, probed.stderr
    model = "mine/models/model.pt"
    # Form of the images and backbone are the model's.
    embedded = run(installed, tmp_path, "monai_fgssl", "embed", "volumes", "--spatial_dims", "3", "--model_path", model)
    assert embedded.returncode == 0, embedded.stderr
    with np.load(tmp_path / "fgssl_features" / "embeddings.npz") as arrays:
        assert arrays["concat"].shape == (48, 960)
        first = str(arrays["path"][0])
    more = ("-k", "3", "--spatial_dims", "3", "--model_path", model)
    similar = run(installed, tmp_path, "monai_fgssl", "similar", first, "volumes", *more)
    assert similar.returncode == 0, similar.stderr
    assert len(read_csv(tmp_path / "fgssl_features" / "similar.csv")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", "nothing_here"), "there is no file or folder nothing_here"),
        (("embed", ".", "--model_path", "model.onnx"), "model.onnx gives classes, not features"),
        (("embed", ".", "--formats", "hdf5"), "--formats: unknown format 'hdf5'"),
        (("embed", ".", "--imagesize", "3"), "unknown setting --imagesize. Did you mean --image_size"),
        (("similar", ".", ".", "-k", "0"), "--neighbors must be a whole number above 0, got 0"),
        (("similar", ".", "."), "--query . holds 2 images: name the file of one"),
        (("probe", "."), "no image in . has a label"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str, installed: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    result = run(installed, tmp_path, "monai_fgssl", *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
