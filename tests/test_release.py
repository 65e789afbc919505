# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A release of a trained bundle: MONAI downloads the model from it, and it contains no other files of a run."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import download_large_files

from monai_fgssl import __version__
from monai_fgssl.__main__ import main
from monai_fgssl.bundle import SettingsError, copy_bundle, load_weights, make_network, save_model, write_release
from monai_fgssl.networks import HierarchicalNet

CLASSES = ["A", "B"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A bundle with a model, and with what a run leaves behind."""
    root = copy_bundle("fgssl", tmp_path / "lesions")
    save_model(
        HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=8), root / "models/model.pt", CLASSES, 32
    )
    (root / "output").mkdir()
    (root / "output" / "split.json").write_text('{"train": ["patient_7"]}')
    return root


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "server"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_the_weights_come_back(trained: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "release"
    assert main(["release", str(trained), str(folder), "--url", f"{server}/"]) == 0
    assert "download_large_files --bundle_path lesions" in capsys.readouterr().out
    bundle = folder / "bundle" / "lesions"
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {"configs/train.json", "docs/README.md", "LICENSE", "models/model.json", "large_files.yml"} <= files
    assert not [name for name in files if name.endswith(".pt") or name.startswith("output")]
    assert not [path for path in bundle.rglob("*") if path.is_symlink()]
    with zipfile.ZipFile(folder / f"lesions_v{__version__}.zip") as archive:
        assert {name.removeprefix("lesions/") for name in archive.namelist() if not name.endswith("/")} == files
    # Uploaded, and taken back by MONAI's own command.
    (folder / "weights" / "model.pt").rename(tmp_path / "server" / "model.pt")
    download_large_files(str(bundle))
    network = make_network(bundle)
    load_weights(network, bundle / "models" / "model.pt")
    expected = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_other_weights_at_the_address_are_refused_by_monai(trained: Path, server: str, tmp_path: Path) -> None:
    bundle = write_release(trained, tmp_path / "release", server)
    (tmp_path / "server" / "model.pt").write_bytes(b"something else")
    with pytest.raises(Exception, match="hash"):
        download_large_files(str(bundle))
    (entry,) = yaml.safe_load((bundle / "large_files.yml").read_text())["large_files"]
    assert entry["url"] == f"{server}/model.pt"
    assert entry["hash_type"] == "sha256"


def test_mistakes(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not an address"):
        write_release(trained, tmp_path / "release", "my server")
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        write_release(trained, tmp_path / "there", "https://example.org")
    untrained = copy_bundle("fgssl", tmp_path / "untrained")
    with pytest.raises(SettingsError, match="train first"):
        write_release(untrained, tmp_path / "release", "https://example.org")
    assert not (tmp_path / "release").exists()
