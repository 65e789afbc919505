# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Tell where a predicted class is not the likeliest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import LogitAdjustment, decide

__all__ = ["describe_decision", "sentence_on_decision"]


def describe_decision(predictions: PredictionCollector, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Describe balanced decisions: ``strength``, ``prior`` by class, ``images`` and ``changed``, the number of images
    whose predicted class is not the likeliest one; None: the likeliest classes are predicted.
    """
    rule = predictions.adjustment
    if not isinstance(rule, LogitAdjustment):
        return None
    changed = predictions.predicted != decide(predictions.probabilities)
    return {
        "strength": rule.strength,
        "prior": dict(zip(class_names, rule.prior, strict=True)),
        "changed": int(changed.sum()),
        "images": len(changed),
    }


def sentence_on_decision(decision: Mapping[str, Any]) -> str:
    """Put the entry ``decision`` of ``metrics.json`` into words."""
    return (
        f"Balanced decisions (strength {decision['strength']:g}): for {decision['changed']} of {decision['images']} "
        "test images the predicted class is rarer than the likeliest one. The probabilities are unchanged."
    )
