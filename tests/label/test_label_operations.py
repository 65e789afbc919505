# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A request for a task passes on only the entries that this app knows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own (extra label)")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from monai_fgssl.label.routes import operations

HOSTILE = {"bundle_path": "/tmp", "gpus": "0; id", "tracking": "/tmp/x.json", "dataset": "x", "run_id": "$1"}


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parameters by the kind of task."""
    seen: dict[str, Any] = {}

    def remember(kind: str, position: int) -> Any:
        def run(*arguments: Any) -> dict[str, Any]:
            seen[kind] = arguments[position]
            return {}

        return run

    monkeypatch.setattr(operations.train, "run_model", remember("train", 1))
    monkeypatch.setattr(operations.scoring, "run_method", remember("scoring", 1))
    monkeypatch.setattr(operations.batch_infer, "run", remember("batch", 2))
    return seen


@pytest.fixture
def client() -> TestClient:
    server = FastAPI()
    info = {"trainers": {"train": {}}, "scoring": {"fgssl": {}}, "models": {"fgssl": {}}}
    labels = {f"{name}{number}": name for name in "ab" for number in range(3)}
    datastore = SimpleNamespace(answers=lambda: labels)
    app: Any = SimpleNamespace(
        info=lambda: info,
        datastore=lambda: datastore,
        answers=lambda: labels,
        options=SimpleNamespace(several=False),
    )
    server.include_router(operations.make_operations_router(app))
    made = TestClient(server)
    made.labels = labels  # type: ignore[attr-defined]
    return made


def test_only_what_is_known_is_passed_on(client: TestClient, passed_on: dict[str, Any]) -> None:
    assert client.post("/train/train", json={**HOSTILE, "max_epochs": 3, "features": 16}).status_code == 200
    assert client.post("/scoring/fgssl", json=HOSTILE).status_code == 200
    batch = {**HOSTILE, "max_batch_size": 5, "label_tag": "first", "save_label": "yes"}
    assert client.post("/batch/infer/fgssl", json=batch).status_code == 200
    assert passed_on == {
        "train": {"max_epochs": 3, "embedding_dim": 16},
        "scoring": {},
        "batch": {"max_batch_size": 5, "label_tag": "first"},
    }


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/train/train", {"backbone": "$__import__('os').system('id')"}),
        ("/train/train", {"max_epochs": -1}),
        ("/train/train", {"image_size": 10**9}),
        ("/batch/infer/fgssl", {"label_tag": "../../x"}),
    ],
)
def test_what_can_not_be_is_refused_at_once(
    path: str, parameters: dict[str, Any], client: TestClient, passed_on: dict[str, Any]
) -> None:
    assert client.post(path, json=parameters).status_code == 422
    assert passed_on == {}


def test_a_training_that_can_not_work_is_refused_at_once(client: TestClient, passed_on: dict[str, Any]) -> None:
    client.labels.pop("b2")  # type: ignore[attr-defined]
    answer = client.post("/train/train", json={})
    assert (answer.status_code, passed_on) == (409, {})
    assert answer.json()["detail"].endswith("there are: a (3), b (2).")
