# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts of a run that the configs call: process group, and the comparison with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from fire.parser import DefaultParseValue
from ignite import distributed as idist
from monai.bundle import ConfigWorkflow

from monai_fgssl.engines.handlers import PredictionCollector

from .locate import command_line_overrides, in_bundle_command

__all__ = ["named_handler", "run_from_random_weights", "start_process"]


def named_handler(handler: Any) -> Any:
    """Put a handler that has a name into a list of handlers, as ``{"_target_": ..., "handler": "@train#history"}``.

    MONAI's check of a bundle's properties takes each entry of ``train#handlers`` for a component, so a reference can't
    stand there alone.
    """
    return handler


def start_process() -> str:
    """Join the process group that ``torchrun`` describes, and return the device of this process."""
    # Not torch's own function: Ignite then also learns when the group ends, by idist.finalize().
    # The hour is what one process may work while the others wait: the first one decodes all images. One that dies is
    # noticed at once, by its connections or by torchrun; this is for one that hangs, or whose machine is lost.
    idist.initialize("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(hours=1))
    return str(idist.device())


def run_from_random_weights(bundle_root: str, settings: Mapping[str, Any]) -> PredictionCollector:
    """Repeat a run without its pre-training, everything else as it was, in ``output_dir/random_weights``.

    Args:
        bundle_root: the bundle's folder.
        settings: values of the run's top-level ids. Nested ids are taken over from the command line; from Python they
            are not known here.

    Returns:
        The predictions on the test part.
    """
    output = Path(settings["output_dir"]) / "random_weights"
    changes = {
        "pretrained": None,
        "pretrain_epochs": 0,
        "freeze_backbone": 0,
        "compare": False,
        "output_dir": str(output),
        "model_path": str(output / "model.pt"),
    }
    overrides = command_line_overrides() if in_bundle_command() else {}
    nested = {name: DefaultParseValue(value) for name, value in overrides.items() if "#" in name}
    print("\nThe same network fine-tuned from random weights, for comparison:")
    workflow = ConfigWorkflow(
        config_file=str(Path(bundle_root) / "configs" / "train.json"),
        logging_file=False,
        **{**settings, **nested, **changes},
    )
    workflow.initialize()
    workflow.run()
    return workflow.parser.get_parsed_content("test#predictions")
