# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server on this machine that also fails in all ways, and the data set classes on top of them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, Randomizable, Resized
from PIL import Image

from monai_fgssl.data.datasets import APTOS2019Dataset, ISIC2017Dataset, ISIC2018Dataset
from monai_fgssl.data.download import download_file
from monai_fgssl.data.io.transform import LoadMedicalImaged
from monai_fgssl.utils.errors import DataError


@dataclass
class Server:
    """Content of the server, its answers, and the requests that it got."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    truncated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            content = self.answer()
            name = self.path.strip("/")
            self.wfile.write(content[: len(content) // 2] if name in state.truncated else content)

        def answer(self) -> bytes:
            name = self.path.strip("/")
            state.asked.append(f"{self.command} {name}")
            if name not in state.files:
                self.send_error(404)
                return b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.files[name])))
            if name in state.etags:
                self.send_header("ETag", f'"{state.etags[name]}"')
            self.end_headers()
            return state.files[name]

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = Thread(target=httpd.serve_forever)
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("inside", ["images/", ""])
def test_archive(server: Server, tmp_path: Path, inside: str) -> None:
    server.files["images.zip"] = make_zip({f"{inside}a.txt": b"1", f"{inside}more/b.txt": b"2"})
    assert download_file(f"{server.url}/images.zip", tmp_path / "new", progress=False) == tmp_path / "new" / "images"
    assert listing(tmp_path / "new") == ["images.zip", "images/a.txt", "images/more/b.txt"]
    assert (tmp_path / "new/images/more/b.txt").read_bytes() == b"2"
    # Nothing is downloaded twice, and an archive that was put there by hand will do.
    server.files.clear()
    download_file(f"{server.url}/images.zip", tmp_path / "new", progress=False)
    (tmp_path / "by hand").mkdir()
    (tmp_path / "new/images.zip").rename(tmp_path / "by hand/images.zip")
    download_file(f"{server.url}/images.zip", tmp_path / "by hand", progress=False)
    assert listing(tmp_path / "by hand") == ["images.zip", "images/a.txt", "images/more/b.txt"]
    assert [entry for entry in server.asked if entry.startswith("GET")] == ["GET images.zip"]


def test_plain_file_with_known_checksum(server: Server, tmp_path: Path) -> None:
    server.files["a.csv"] = b"image,label\n"
    expected = md5(server.files["a.csv"])
    assert download_file(f"{server.url}/a.csv", tmp_path, expected, progress=False) == tmp_path / "a.csv"
    assert server.asked == ["GET a.csv"]
    (tmp_path / "a.csv").write_text("changed")
    with pytest.raises(DataError, match=r"a.csv is damaged: its MD5 is not .* Delete it"):
        download_file(f"{server.url}/a.csv", tmp_path, expected, progress=False)


def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.files["a.zip"] = make_zip({"a/b": b"1"})
    with pytest.raises(DataError, match=r"a.zip arrived damaged \(its MD5 is not the published one\)"):
        download_file(f"{server.url}/a.zip", tmp_path, "0" * 32, progress=False)
    server.etags["a.zip"] = "1" * 32
    with pytest.raises(DataError, match="arrived damaged"):
        download_file(f"{server.url}/a.zip", tmp_path, progress=False)
    assert listing(tmp_path) == []
    # The ETag of an upload in three pieces is no MD5.
    for tag in (md5(server.files["a.zip"]), "1" * 32 + "-3"):
        server.etags["a.zip"] = tag
        folder = tmp_path / tag
        download_file(f"{server.url}/a.zip", folder, progress=False)
        assert listing(folder) == ["a.zip", "a/b"]


def test_truncated_download(server: Server, tmp_path: Path) -> None:
    server.files["a.zip"] = make_zip({"a/b": bytes(range(256)) * 99})
    server.truncated = {"a.zip"}
    with pytest.raises(DataError, match=r"a.zip can't be downloaded into .*retrieval incomplete.* Try again"):
        download_file(f"{server.url}/a.zip", tmp_path, progress=False)
    assert listing(tmp_path) == []
    server.truncated = set()
    download_file(f"{server.url}/a.zip", tmp_path, progress=False)
    assert listing(tmp_path) == ["a.zip", "a/b"]


def test_missing_file_and_server(server: Server, tmp_path: Path) -> None:
    for known in (None, "0" * 32):
        with pytest.raises(DataError, match=r"a.zip can't be downloaded: the server answers 404 Not Found"):
            download_file(f"{server.url}/a.zip", tmp_path, known, progress=False)
    with pytest.raises(DataError, match=r"can't be downloaded into .*Connection refused"):
        download_file("http://127.0.0.1:1/a.zip", tmp_path, progress=False)
    assert listing(tmp_path) == []


def test_damaged_archive(server: Server, tmp_path: Path) -> None:
    content = bytearray(make_zip({"a/b": bytes(range(256)) * 99, "a/c": b"1"}))
    content[60] ^= 255
    server.files = {"a.zip": bytes(content), "b.zip": b"<html>", "c.zip": make_zip({"../out": b"1"})}
    for name in server.files:
        with pytest.raises(DataError, match=rf"{name} can't be unpacked \(.*\): delete it and run again"):
            download_file(f"{server.url}/{name}", tmp_path / "set", progress=False)
    # No half of a folder that would pass for the whole.
    assert listing(tmp_path) == ["set/a.zip", "set/b.zip", "set/c.zip"]


@pytest.fixture
def isic(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The official archives of both challenges, with few images."""
    for number, part in enumerate(("Training", "Validation", "Test")):
        names = [f"ISIC_{number}{i}" for i in range(3)]
        folder = f"ISIC2018_Task3_{part}_Input"
        images = {f"{folder}/{name}.jpg": picture(40 * i) for i, name in enumerate(names)}
        server.files[f"{folder}.zip"] = make_zip({**images, f"{folder}/LICENSE.txt": b""})
        truth = f"ISIC2018_Task3_{part}_GroundTruth"
        rows = "".join(f"{name},{','.join(str(float(i == k)) for k in range(7))}\n" for i, name in enumerate(names))
        table = f"image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n{rows}".encode()
        server.files[f"{truth}.zip"] = make_zip({f"{truth}/{truth}.csv": table, f"{truth}/LICENSE.txt": b""})
    server.files["ISIC2018_Task3_Training_LesionGroupings.csv"] = (
        b"image,lesion_id,diagnosis_confirm_type\nISIC_00,L1,histo\nISIC_01,L1,histo\nISIC_02,L2,histo\n"
    )
    for part in ("Training", "Validation", "Test_v2"):
        folder = f"ISIC-2017_{part}_Data"
        files = {f"{folder}/x{i}{end}": picture(i) for i in range(2) for end in (".jpg", "_superpixels.png")}
        server.files[f"{folder}.zip"] = make_zip(files)
        server.files[f"ISIC-2017_{part}_Part3_GroundTruth.csv"] = (
            b"image_id,melanoma,seborrheic_keratosis\nx0,0.0,0.0\nx1,0.0,1.0\n"
        )
    for kind in (ISIC2017Dataset, ISIC2018Dataset):
        monkeypatch.setattr(kind, "resource", server.url)
    monkeypatch.setattr(
        ISIC2017Dataset, "md5", {name: md5(content) for name, content in server.files.items() if "2017" in name}
    )
    return server


@pytest.mark.parametrize(("section", "first"), [("training", 0), ("validation", 1), ("test", 2)])
def test_isic2018(isic: Server, tmp_path: Path, section: str, first: int) -> None:
    dataset = ISIC2018Dataset(tmp_path / "data", section, download=True, progress=False)
    assert isinstance(dataset, CacheDataset)
    assert isinstance(dataset, Randomizable)
    assert dataset.get_num_classes() == 7
    items = sorted(dataset, key=lambda item: item["name"])
    assert [(item["name"], item["label"]) for item in items] == [(f"ISIC_{first}{i}", i) for i in range(3)]
    assert [item["group"] for item in items][:2] == (
        ["L1", "L1"] if first == 0 else [f"ISIC_{first}0", f"ISIC_{first}1"]
    )
    for i, item in enumerate(items):
        assert item["image"].shape == (3, 8, 12)
        assert float(item["image"][0, 0, 0]) == pytest.approx(40 * i / 255)
    # Only this section was asked for, and what is there is not asked for again.
    part = section.capitalize()
    assert all(part in entry for entry in isic.asked)
    isic.asked.clear()
    ISIC2018Dataset(tmp_path / "data", section, download=True, progress=False)
    assert isic.asked == []


@pytest.mark.parametrize("section", ["training", "validation", "test"])
def test_isic2017(isic: Server, tmp_path: Path, section: str) -> None:
    transform = Compose([LoadMedicalImaged("image"), Resized("image", (4, 4))])
    dataset = ISIC2017Dataset(tmp_path, section, transform, download=True, cache_rate=0.5, progress=False)
    assert sorted((item["name"], item["label"], tuple(item["image"].shape)) for item in dataset) == [
        ("x0", 2, (3, 4, 4)),
        ("x1", 1, (3, 4, 4)),
    ]
    assert dataset.cache_num == 1


def test_order_depends_on_the_seed(isic: Server, tmp_path: Path) -> None:
    def names(seed: int) -> list[str]:
        dataset = ISIC2018Dataset(tmp_path, "test", download=True, seed=seed, cache_rate=0, progress=False)
        return [item["name"] for item in dataset.data]

    assert names(0) == names(0)
    assert len({tuple(names(seed)) for seed in range(20)}) > 3


def test_an_interrupted_download_goes_on(isic: Server, tmp_path: Path) -> None:
    isic.truncated = {"ISIC2018_Task3_Training_GroundTruth.zip"}
    with pytest.raises(DataError, match="retrieval incomplete"):
        ISIC2018Dataset(tmp_path, "training", download=True, progress=False)
    isic.truncated = set()
    isic.asked.clear()
    assert len(ISIC2018Dataset(tmp_path, "training", download=True, progress=False)) == 3
    assert not any("Input" in entry for entry in isic.asked)


def test_a_wrong_checksum_of_an_official_file(isic: Server, tmp_path: Path) -> None:
    isic.files["ISIC-2017_Validation_Part3_GroundTruth.csv"] += b"x2,0,0\n"
    with pytest.raises(DataError, match=r"ISIC-2017_Validation_Part3_GroundTruth.csv arrived damaged"):
        ISIC2017Dataset(tmp_path, "validation", download=True, progress=False)


def test_without_download(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"the section test is not in .*isic2018: use download=True, or put the content of"
    ):
        ISIC2018Dataset(tmp_path, "test")
    with pytest.raises(ValueError, match="testing"):
        ISIC2018Dataset(tmp_path, "testing")
    for download in (False, True):
        with pytest.raises(
            DataError, match=r"Kaggle account.*\n  kaggle competitions download -c aptos2019-blindness-detec"
        ):
            APTOS2019Dataset(tmp_path, "training", download=download)


def test_real_isic(isic2018: Path, isic2017: Path) -> None:
    for kind, folder, counts in (
        (ISIC2018Dataset, isic2018, {"training": 5984}),
        (ISIC2017Dataset, isic2017, {"training": 2000, "validation": 150}),
    ):
        for section, count in counts.items():
            dataset = kind(folder.parent, section, cache_rate=0)
            assert len(dataset) == count
            assert dataset[0]["image"].shape[0] == 3
            assert 0 <= float(dataset[0]["image"].min()) < float(dataset[0]["image"].max()) <= 1


def test_real_checksums(isic2017: Path) -> None:
    for part in ("Training", "Validation"):
        name = f"ISIC-2017_{part}_Part3_GroundTruth.csv"
        assert md5((isic2017 / name).read_bytes()) == ISIC2017Dataset.md5[name]


def test_real_aptos(aptos2019: Path) -> None:
    sections = {}
    for section in ("training", "validation", "test"):
        dataset = APTOS2019Dataset(
            aptos2019.parent, section, seed=1, download=True, val_frac=0.1, test_frac=0.2, cache_num=2, progress=False
        )
        sections[section] = {item["name"] for item in dataset.data}
        assert dataset.class_names[2] == "Moderate"
    assert [len(names) for names in sections.values()] == pytest.approx([0.7 * 2930, 0.1 * 2930, 0.2 * 2930], abs=3)
    assert len(set.union(*sections.values())) == 2930
    assert torch.is_tensor(dataset[0]["image"])
