# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of weights from strangers are read as data only: no code in them runs."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest
import torch

from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.tensors import read_state_dict


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_reads_weights_plain_and_under_model(tmp_path: Path) -> None:
    weights = {"a": torch.arange(3.0)}
    torch.save(weights, tmp_path / "plain.pt")
    torch.save({"model": weights}, tmp_path / "model.pt")
    for name in ("plain.pt", "model.pt"):
        assert torch.equal(read_state_dict(tmp_path / name)["a"], weights["a"])


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {"model": 3}, {"a": 1}])
def test_anything_but_weights_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(SettingsError, match=re.escape(f"{tmp_path / 'other.pt'} holds no state dict")):
        read_state_dict(tmp_path / "other.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "garbage", "empty"])
def test_code_never_runs_and_the_file_is_named(kind: str, tmp_path: Path) -> None:
    file, ran = tmp_path / "sent.pt", tmp_path / "ran"
    if kind in ("zip", "legacy"):
        torch.save({"a": torch.ones(2), "b": Payload(ran)}, file, _use_new_zipfile_serialization=kind == "zip")
    else:
        file.write_bytes({"pickle": pickle.dumps(Payload(ran)), "garbage": bytes(range(256)), "empty": b""}[kind])
    with pytest.raises(SettingsError, match=re.escape(f"{file} is damaged or holds more than weights")):
        read_state_dict(file)
    assert not ran.exists()


def test_the_payload_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there are no weights at"):
        read_state_dict(tmp_path / "none.pt")


def test_a_length_beyond_the_memory_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "long.pt")

    def load(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(MemoryError, match=r"long.pt is damaged, or needs more memory than there is"):
        read_state_dict(tmp_path / "long.pt")
