# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of classifiers and of self-supervised features."""

from __future__ import annotations

from .acquisition import (
    STRATEGIES,
    choose,
    core_set,
    disagreement_scores,
    entropy_scores,
    margin_scores,
    mix,
)
from .calibration import (
    expected_calibration_error,
    finding_calibration_error,
    fit_member_weights,
    fit_temperature,
    negative_log_likelihood,
    weighted_calibration_error,
)
from .classification import (
    METRICS,
    ORDINAL_METRICS,
    bootstrap_difference,
    bootstrap_gap,
    bootstrap_intervals,
    classification_metrics,
    resample_weights,
    weighted_metrics,
)
from .collapse import effective_rank, feature_std
from .conformal import (
    SET_SCORES,
    PredictionSets,
    binomial_interval,
    fit_prediction_sets,
    risk_coverage,
)
from .decision import (
    DECISIONS,
    STRENGTHS,
    DecisionRule,
    LogitAdjustment,
    Thresholds,
    class_shares,
    decide,
    fit_logit_adjustment,
)
from .epoch import epoch_metric
from .finding_sets import FindingSets, fit_finding_sets
from .multilabel import (
    MULTILABEL_METRICS,
    fit_thresholds,
    multilabel_difference,
    multilabel_gap,
    multilabel_intervals,
    multilabel_metrics,
)
from .out_of_distribution import FeatureDistances, fit_feature_distances
from .probes import LinearProbe, knn_accuracy, knn_votes, nearest_neighbors, solve_linear_probe
from .triage import SEVERAL_CLASSES, UNDECIDED_FINDING, UNLIKE_TRAINING, reasons_to_refer
from .uncertainty import disagreement, margin, predictive_entropy

__all__ = [
    "DECISIONS",
    "METRICS",
    "MULTILABEL_METRICS",
    "ORDINAL_METRICS",
    "SET_SCORES",
    "SEVERAL_CLASSES",
    "STRATEGIES",
    "STRENGTHS",
    "UNDECIDED_FINDING",
    "UNLIKE_TRAINING",
    "DecisionRule",
    "FeatureDistances",
    "FindingSets",
    "LinearProbe",
    "LogitAdjustment",
    "PredictionSets",
    "Thresholds",
    "binomial_interval",
    "bootstrap_difference",
    "bootstrap_gap",
    "bootstrap_intervals",
    "choose",
    "class_shares",
    "classification_metrics",
    "core_set",
    "decide",
    "disagreement",
    "disagreement_scores",
    "effective_rank",
    "entropy_scores",
    "epoch_metric",
    "expected_calibration_error",
    "feature_std",
    "finding_calibration_error",
    "fit_feature_distances",
    "fit_finding_sets",
    "fit_logit_adjustment",
    "fit_member_weights",
    "fit_prediction_sets",
    "fit_temperature",
    "fit_thresholds",
    "knn_accuracy",
    "knn_votes",
    "margin",
    "margin_scores",
    "mix",
    "multilabel_difference",
    "multilabel_gap",
    "multilabel_intervals",
    "multilabel_metrics",
    "nearest_neighbors",
    "negative_log_likelihood",
    "predictive_entropy",
    "reasons_to_refer",
    "resample_weights",
    "risk_coverage",
    "solve_linear_probe",
    "weighted_calibration_error",
    "weighted_metrics",
]
