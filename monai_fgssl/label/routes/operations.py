# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Routes that operate the server: training, scoring, batch predictions, reloading, state of the GPU."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, HTTPException
from fastapi.responses import PlainTextResponse
from monailabel.endpoints import batch_infer, scoring, train
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType

from monai_fgssl.bundle import SettingsError
from monai_fgssl.label.datastore import check_name as check_tag
from monai_fgssl.label.options import IMAGE_OPTIONS, check_task, train_settings
from monai_fgssl.label.stopping import stop_training
from monai_fgssl.label.training import training_refusal

from .roles import ADMIN, ANNOTATOR

if TYPE_CHECKING:
    from monai_fgssl.label.server import FGSSLApp

__all__ = ["make_operations_router"]

BATCH_PARAMETERS = {"max_batch_size": int, "label_tag": str, "save_label": bool, "heat_map": bool, "report": bool}
"""Parameters of a batch prediction, and their types. Other parameters of MONAI Label are ignored."""

Params = Annotated[dict[str, Any] | None, Body()]


def make_operations_router(app: FGSSLApp) -> APIRouter:
    """``POST`` and ``DELETE /train/``, ``POST /scoring/``, ``/batch/infer/`` and ``/reload``, and ``GET /logs/gpu``.

    Args:
        app: app whose operations the routes run.
    """
    router = APIRouter()

    # All of these run in a thread, since they may take a while. They check the name: MONAI Label does not.
    @router.post("/train/{model}", tags=["Train"], dependencies=[ADMIN])
    def start_training(
        model: str, params: Params = None, run_sync: bool = False, enqueue: bool = False
    ) -> dict[str, Any]:
        check_name(model, app.info()["trainers"])
        try:
            # Only these: in MONAI Label 0.8.5 a request could add a folder to the training's module path.
            settings = train_settings(params or {})
            check_task(settings, app.options.several)
        except SettingsError as error:
            raise HTTPException(422, str(error)) from error
        # Whether an image can be read depends on some settings.
        answers = app.datastore().answers() if IMAGE_OPTIONS & settings.keys() else app.answers()
        if model == "train" and (refusal := training_refusal(list(answers.values()))):
            # Refuse now, not after the training's process has started.
            raise HTTPException(409, refusal)
        return dict(train.run_model(model, settings, run_sync, enqueue))

    @router.post("/scoring/{method}", tags=["Scoring"], dependencies=[ANNOTATOR])
    def start_scoring(method: str, params: Params = None, run_sync: bool = False) -> dict[str, Any]:
        check_name(method, app.info()["scoring"])
        return dict(scoring.run_method(method, {}, run_sync))

    @router.post("/batch/infer/{model}", tags=["Infer"], dependencies=[ADMIN])
    def start_batch(
        model: str, images: BatchInferImageType | None = None, params: Params = None, run_sync: bool = False
    ) -> dict[str, Any]:
        check_name(model, app.info()["models"])
        kept = {name: value for name, value in (params or {}).items() if type(value) is BATCH_PARAMETERS.get(name)}
        check_tag(str(kept.get("label_tag", "original")), "label_tag")
        return dict(batch_infer.run(model, images or BatchInferImageType.IMAGES_ALL, kept, run_sync))

    def check_name(name: str, known: Collection[str]) -> None:
        if name not in known:
            raise HTTPException(404, f"there is no {name[:100]!r}; there are: {', '.join(known)}.")

    @router.delete("/train/", tags=["Train"], dependencies=[ADMIN])
    def stop() -> dict[str, Any] | None:
        return stop_training()

    # MONAI Label's own route would start a second app beside this one, for any user.
    @router.post("/reload", include_in_schema=False, dependencies=[ADMIN])
    def reload() -> dict[str, Any]:
        app.datastore().refresh()
        return {}

    @router.get("/logs/gpu", tags=["Others"], dependencies=[ADMIN])
    def gpu() -> PlainTextResponse:
        try:
            found = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HTTPException(404, "this machine has no nvidia-smi, or it does not answer.") from error
        return PlainTextResponse(found.stdout + found.stderr)

    return router
