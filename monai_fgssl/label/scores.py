# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores of all images in the data store, computed in the background, by which the next image is chosen."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from monai.data import Dataset
from torch import Tensor

from monai_fgssl.data import ImageStream
from monai_fgssl.metrics.acquisition import choose
from monai_fgssl.utils.files import atomic_write

from .model import LabelModel

__all__ = ["BackgroundScorer", "NotNowError", "Scores", "pick"]

logger = logging.getLogger(__name__)

BATCH_SIZE = 32
SECONDS_RESERVED = 600.0
"""An image that was handed out is not handed to another person meanwhile."""


class NotNowError(Exception):
    """An image can't be fetched at the moment, which is no fault of the image."""


class Scores:
    """Logits and features by image, for one version of the model.

    Attributes:
        version: of the model.
        stage_logits: ``(K + 1, num_classes)`` by image.
        features: ``(D,)`` by image.
        failed: images that can't be read.
    """

    def __init__(self, version: str = "") -> None:
        self.version = version
        self.stage_logits: dict[str, Tensor] = {}
        self.features: dict[str, Tensor] = {}
        self.failed: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.stage_logits or name in self.failed

    def add(self, names: Sequence[str], stage_logits: Tensor, features: Tensor) -> None:
        """Add a batch."""
        # Features first: whoever finds logits may rely on them.
        self.features |= dict(zip(names, features, strict=True))
        self.stage_logits |= dict(zip(names, stage_logits, strict=True))

    def save(self, path: Path) -> None:
        """Write them; the file is complete or not there."""
        names = list(self.stage_logits)
        content = {
            "version": self.version,
            "names": names,
            "failed": sorted(self.failed),
            "stage_logits": torch.stack([self.stage_logits[name] for name in names]) if names else torch.empty(0),
            "features": torch.stack([self.features[name] for name in names]) if names else torch.empty(0),
        }
        with atomic_write(path) as temporary:
            torch.save(content, temporary)

    @classmethod
    def read(cls, path: Path, version: str) -> Scores:
        """Scores that were saved for this version of the model; empty where there are none."""
        scores = cls(version)
        if path.is_file():
            content = torch.load(path, weights_only=True)
            if content["version"] == version:
                scores.add(content["names"], content["stage_logits"], content["features"])
                scores.failed = set(content["failed"])
        return scores


class BackgroundScorer:
    """Keeps the :class:`Scores` of a data store complete, in a thread, with the model that is loaded already.

    Args:
        model: which scores.
        path: of the file that the scores survive a restart in.
        path_of: file of an image, which may have to be fetched first; may raise :class:`NotNowError`.
    """

    def __init__(self, model: LabelModel, path: Path, path_of: Callable[[str], str]) -> None:
        self.model = model
        self.path = path
        self.path_of = path_of
        self.scores = Scores()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self, names: Sequence[str]) -> None:
        """Score what is not scored yet, unless that is being done already; returns at once."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, args=(list(names),), daemon=True, name="scoring")
                self._thread.start()

    def _run(self, names: Sequence[str]) -> None:
        try:
            self.update(names)
        except NotNowError as error:
            logger.warning("scoring in the background waits: %s", error)
        except Exception:
            # Without scores, images are chosen at random: no reason to stop the server.
            logger.exception("scoring in the background ended early")

    def update(self, names: Sequence[str]) -> None:
        """Score what is not scored yet by the present model, and save it."""
        version = self.model.version
        # Scores of another model than the one that the files hold would pass for theirs.
        if not version or self.model.problem:
            return
        if self.scores.version != version:
            self.scores = Scores.read(self.path, version)
        scores = self.scores
        missing = [name for name in names if name not in scores]
        for start in range(0, len(missing), BATCH_SIZE):
            if self.model.version != version:
                self.update(names)
                return
            self._score(scores, missing[start : start + BATCH_SIZE])
            # Leave the processor to those who wait for an answer.
            time.sleep(0.01)
        if missing:
            scores.save(self.path)

    def _score(self, scores: Scores, names: Sequence[str]) -> None:
        items = []
        for name in names:
            try:
                items.append({"image": self.path_of(name), "name": name})
            except NotNowError:
                raise
            except Exception:
                scores.failed.add(name)
        stream = ImageStream(Dataset(items, self.model.reader()), batch_size=BATCH_SIZE)
        for batch in stream:
            result = self.model.score(batch["image"])
            scores.add(batch["name"], result.stage_logits, result.features)
        scores.failed |= {name for name, _ in stream.failures}


def pick(
    strategy: str,
    unlabeled: Sequence[str],
    labeled: Sequence[str],
    scores: Scores,
    handed_out: Mapping[str, float],
    now: float,
) -> tuple[str, str]:
    """The image to label next.

    Args:
        strategy: one of :data:`monai_fgssl.metrics.acquisition.STRATEGIES`.
        unlabeled: the images to choose from, at least one.
        labeled: all others.
        scores: of both, as far as they are known.
        handed_out: when images were given to somebody, in seconds.
        now: the time on the same clock.

    Returns:
        The image, and the strategy that chose it: ``"random"`` while there are no scores.
    """
    reserved = {name for name, since in handed_out.items() if now - since < SECONDS_RESERVED}
    free = [name for name in unlabeled if name not in reserved]
    if not free:
        # Everything is in somebody's hands: what was given away first comes again.
        return min(unlabeled, key=lambda name: handed_out[name]), strategy
    scored = [name for name in free if name in scores.stage_logits]
    if strategy == "random" or not scored:
        return free[int(choose("random", len(free), 1))], "random"
    logits = torch.stack([scores.stage_logits[name] for name in scored])
    known = [scores.features[name] for name in (*labeled, *reserved) if name in scores.features]
    features = torch.stack([scores.features[name] for name in scored])
    (position,) = choose(
        strategy,
        len(scored),
        1,
        # Of the mean, as benchmarks/active_learning.py: that of the sum is all but certain of everything.
        prob=logits.mean(1).softmax(1),
        stage_prob=logits.softmax(2),
        features=features,
        labeled_features=torch.stack(known) if known else features[:0],
    ).tolist()
    return scored[position], strategy
