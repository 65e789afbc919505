# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The results in ten sentences. All figures and verdicts are computed from the table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from .answers import all_gains, answer_file
from .methods import PRETRAININGS, Run
from .overviews import all_goals
from .questions import FEW, ONE_VIEW_LIGHT, ONE_VIEW_LIGHT_NAME, QUESTIONS, SCALES, scaled
from .results import Results
from .scoring import Interval, difference
from .words import TITLES, cell, listed, pixels

__all__ = ["in_short", "spoken"]

PHOTOGRAPHS = ("isic2018", "aptos2019")
MEASURED = ("small", "medium")
"""Scales with enough runs for a sentence."""
OTHER_METHODS = ("barlow_twins", "vicreg", "simsiam")
SEARCHED = ("d", "e", "f", "g", "n")
"""Questions that look for better settings."""


def spoken(gains: Mapping[str, Interval | None], better: str, worse: str, same: str) -> str:
    """Describe in words whether differences are beyond chance, grouped by verdict.

    Args:
        gains: differences by the name of the reference or the data set; None if there is no run.
        better: words before the names of differences above 0.
        worse: words before the names of differences below 0.
        same: words before the names of differences that may be 0.

    Example:
        >>> spoken({"A": {"value": 0.2, "low": 0.1, "high": 0.3, "p": 0.0}}, "better than", "worse than", "equal to")
        'better than A (+0.200 [+0.100, +0.300])'
    """
    verdicts: dict[str, list[str]] = {better: [], worse: [], same: []}
    for name, gain in gains.items():
        if gain is not None and not np.isnan(gain["value"]):
            verdict = better if gain["low"] > 0 else worse if gain["high"] < 0 else same
            verdicts[verdict].append(f"{name} ({cell(gain, signed=True)})")
    return "; ".join(f"{verdict} {listed(names)}" for verdict, names in verdicts.items() if names)


THAN = ("better than those of", "worse than those of", "no different beyond chance from those of")
ON = ("better on", "worse on", "no different beyond chance on")


def probe(data_set: str, pretraining: str) -> Run:
    """A linear probe with few labels, at the small scale."""
    return scaled(Run(data_set, pretraining, "linear", budget=FEW), "small")


def percent(share: float) -> str:
    """Share of the labels."""
    return "all labels" if share == 1 else f"{100 * share:g} % of the labels"


def link(key: str) -> str:
    """Link to the page that answers a question."""
    return f"([{key}](answers/{answer_file(key)}))"


def against_methods(results: Results, data_set: str) -> str:
    """Features of FG-SSL and of other methods."""
    gains = {
        PRETRAININGS[other].label: results.difference(probe(data_set, "fgssl"), probe(data_set, other), "macro_auc")
        for other in OTHER_METHODS
    }
    said = spoken(gains, *THAN)
    return said and f"On {TITLES[data_set]} the features of FG-SSL are {said} {link('a')}."


def against_random_weights(results: Results) -> str:
    """Features of FG-SSL and of a network without pre-training."""
    gains = {
        TITLES[name]: results.difference(probe(name, "fgssl"), probe(name, "none"), "macro_auc") for name in PHOTOGRAPHS
    }
    said = spoken(gains, *ON)
    return said and f"Against those of random weights, the features of FG-SSL are {said} {link('a')}."


def parts_alone(results: Results) -> str:
    """Features of FG-SSL and of its parts."""
    ours = probe("isic2018", "fgssl")
    light = probe("isic2018", "jigsaw").but(ONE_VIEW_LIGHT)
    parts = {PRETRAININGS[name].label: ours.but(pretraining=name) for name in ("hierarchy", "jigsaw")}
    gains = {
        name: results.difference(ours, other, "macro_auc")
        for name, other in (parts | {ONE_VIEW_LIGHT_NAME: light}).items()
    }
    said = spoken(gains, *THAN)
    return said and f"Against its parts on {TITLES['isic2018']}, the features of FG-SSL are {said} {link('a')}."


def fine_tuned(results: Results) -> str:
    """FG-SSL and plain supervised training with the same labels."""
    gains = {
        f"{TITLES[name]} at {pixels(scale)} with {percent(share)}": results.difference(
            scaled(Run(name, "fgssl", "progressive", budget=share), scale),
            scaled(Run(name, "none", "plain", budget=share), scale),
            "macro_f1",
        )
        for scale, name, share in product(MEASURED, PHOTOGRAPHS, (FEW, 1.0))
    }
    said = spoken(gains, *ON)
    return said and f"Against plain supervised training, a network fine-tuned from FG-SSL is {said} {link('b')}."


def on_imagenet(results: Results) -> str:
    """Frozen features of ImageNet weights, with and without FG-SSL on top."""
    gains = {
        f"{TITLES[name]} with {percent(entry.run.budget)}": results.difference(entry.run, entry.reference, "macro_auc")
        for name in PHOTOGRAPHS
        for entry in QUESTIONS["k"].points(name)
        if entry.x == "ImageNet, then FG-SSL" and entry.run.fine_tuning == "linear" and "96 px" in entry.series
    }
    said = spoken(gains, *ON)
    start = "Against those of ImageNet weights alone (EfficientNet-Lite0, 96 px), features after FG-SSL on top of them"
    return said and f"{start} are {said} {link('k')}."


def settings_searched(results: Results) -> str:
    """Number of changed settings that are better or worse than the default."""
    gains = [
        gain for key in SEARCHED for name in PHOTOGRAPHS for gain in all_gains(results, key, name, "small").values()
    ]
    better, worse = sum(gain["low"] > 0 for gain in gains), sum(gain["high"] < 0 for gain in gains)
    if not gains:
        return ""
    links = ", ".join(f"[{key}](answers/{answer_file(key)})" for key in SEARCHED)
    return (
        f"Of {len(gains)} comparisons of other grids, views, blocks, lambdas, schedules and ways to fine-tune with the "
        f"default, {better} are better beyond chance and {worse} worse; {len(gains) / 20:.0f} would be expected to be "
        f"either without any effect ({links})."
    )


def together(results: Results, with_probe: bool) -> str:
    """Network and probe of FG-SSL, against plain supervised training without a probe and with one, with few labels."""
    gains: dict[str, Interval | None] = {}
    for scale, name in product(MEASURED, PHOTOGRAPHS):
        ours, plain = (
            scaled(Run(name, *methods, budget=FEW), scale) for methods in (("fgssl", "progressive"), ("none", "plain"))
        )
        ensemble = results.ensembles(ours)
        other = results.ensembles(plain) if with_probe else results.by_seed(plain)
        seeds = "" if len(ensemble) > 1 else ", one choice of labels"
        gains[f"{TITLES[name]} at {pixels(scale)}{seeds}"] = difference(ensemble, other, "macro_auc")
    said = spoken(gains, *ON)
    against = "plain supervised training with a probe" if with_probe else "plain supervised training"
    start = (
        f"Against {against}, FG-SSL's fine-tuned network and probe together have a macro AUC ({percent(FEW)}) that is"
    )
    return said and f"{start} {said} ([ensembles](answers/ensembles.md))."


def goals_reached(results: Results) -> str:
    """Number of goals that are reached."""
    goals = [goal for scale in SCALES for goal in all_goals(results, scale)]
    reached, sure = sum(goal.reached for goal in goals), sum(goal.reached and goal.beyond_chance for goal in goals)
    if not goals:
        return ""
    where = "[goals set before](answers/goals.md)"
    return f"Of the {len(goals)} {where} that have been run, {reached} are reached; {sure} with the interval above 0."


def in_short(results: Results) -> Sequence[str]:
    """Markdown of the section; empty if there are no results yet."""
    sentences = [
        *(against_methods(results, name) for name in PHOTOGRAPHS),
        against_random_weights(results),
        parts_alone(results),
        fine_tuned(results),
        together(results, with_probe=False),
        together(results, with_probe=True),
        on_imagenet(results),
        settings_searched(results),
        goals_reached(results),
    ]
    lines = [f"{number}. {sentence}" for number, sentence in enumerate(filter(None, sentences), 1)]
    lengths = [f"{SCALES[scale]['pretrain_epochs']} epochs at {pixels(scale)}" for scale in MEASURED]
    intro = (
        "In brackets: a difference and its 95 % interval. Features are those of the frozen network, compared by the "
        f"macro AUC of a linear probe ({pixels('small')}, {percent(FEW)}); fine-tuned networks are compared by macro "
        f"F1. Pre-training takes {listed(lengths)}.\n"
    )
    return ["## In short\n", intro, *lines, ""] if lines else []
