# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Functions that the configs of the bundles call as ``fgssl.NAME``.

:mod:`~monai_fgssl.bundle.locate` finds bundles, :mod:`~monai_fgssl.bundle.settings` checks settings,
:mod:`~monai_fgssl.bundle.model_file` writes and reads models, :mod:`~monai_fgssl.bundle.workflow` runs.
"""

from __future__ import annotations

from monai_fgssl.data import synthetic_classes
from monai_fgssl.data.balance import loss_weights
from monai_fgssl.engines.calibration import (
    calibrate,
    calibrate_distances,
    calibrate_sets,
    distances_of_features,
    fit_decision,
    weigh_members,
)
from monai_fgssl.engines.frozen import probe_frozen
from monai_fgssl.engines.heads import solve_heads
from monai_fgssl.networks import add_adapters, unwrap
from monai_fgssl.networks.placement import memory_format, place_network
from monai_fgssl.networks.precision import has_bfloat16
from monai_fgssl.tasks import task_named, task_of
from monai_fgssl.utils.errors import SettingsError

from .features import (
    embed_folder,
    embed_parts,
    embed_query,
    frozen_network,
    predict_features,
    solve_probe,
    tell_random_weights,
)
from .folds import join_folds, train_all_folds
from .identity import lock_output, phase_hyperparameters, phase_identity
from .locate import BUNDLES, copy_bundle, find_root, read_defaults, shipped_bundle
from .model_file import (
    check_start,
    class_number,
    compare_geometry,
    decision_rule,
    describe_model,
    export_model,
    feature_distances,
    load_pretrained,
    load_weights,
    make_network,
    own_model,
    prediction_sets,
    read_record,
    save_model,
)
from .release import write_release
from .repeats import RANDOM_WEIGHTS, phase_title, repeat_fine_tuning, start_name
from .room import check_room
from .seen_images import tell_seen_images
from .settings import (
    as_bool,
    as_path,
    check_command,
    check_settings,
    check_values,
    renamed,
    uses_puzzles,
    with_new_names,
)
from .spelling import check_overrides
from .workflow import (
    build_first,
    check_group,
    check_puzzles,
    fit_batch_size,
    named_handler,
    network_to_save,
    network_to_train,
    open_log,
    start_process,
    starts_solved,
    tell_backbone_rate,
)

__all__ = [
    "BUNDLES",
    "RANDOM_WEIGHTS",
    "SettingsError",
    "add_adapters",
    "as_bool",
    "as_path",
    "build_first",
    "calibrate",
    "calibrate_distances",
    "calibrate_sets",
    "check_command",
    "check_group",
    "check_overrides",
    "check_puzzles",
    "check_room",
    "check_settings",
    "check_start",
    "check_values",
    "class_number",
    "compare_geometry",
    "copy_bundle",
    "decision_rule",
    "describe_model",
    "distances_of_features",
    "embed_folder",
    "embed_parts",
    "embed_query",
    "export_model",
    "feature_distances",
    "find_root",
    "fit_batch_size",
    "fit_decision",
    "frozen_network",
    "has_bfloat16",
    "join_folds",
    "load_pretrained",
    "load_weights",
    "lock_output",
    "loss_weights",
    "make_network",
    "memory_format",
    "named_handler",
    "network_to_save",
    "network_to_train",
    "open_log",
    "own_model",
    "phase_hyperparameters",
    "phase_identity",
    "phase_title",
    "place_network",
    "predict_features",
    "prediction_sets",
    "probe_frozen",
    "read_defaults",
    "read_record",
    "renamed",
    "repeat_fine_tuning",
    "save_model",
    "shipped_bundle",
    "solve_heads",
    "solve_probe",
    "start_name",
    "start_process",
    "starts_solved",
    "synthetic_classes",
    "task_named",
    "task_of",
    "tell_backbone_rate",
    "tell_random_weights",
    "tell_seen_images",
    "train_all_folds",
    "unwrap",
    "uses_puzzles",
    "weigh_members",
    "with_new_names",
    "write_release",
]
