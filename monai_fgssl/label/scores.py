# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores of all images in the data store, computed in the background. The next image to label is chosen by them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from monai.data import Dataset
from torch import Tensor

from monai_fgssl.data import DataError, ImageStream
from monai_fgssl.metrics.acquisition import choose
from monai_fgssl.metrics.uncertainty import yes_and_no
from monai_fgssl.utils.tensors import save_tensors

from .model import LabelModel

__all__ = ["BackgroundScorer", "NotNowError", "Scores", "pick"]

logger = logging.getLogger(__name__)

BATCH_SIZE = 32
SECONDS_RESERVED = 600.0
"""Seconds for which an image that one person labels is not offered to another."""


class NotNowError(Exception):
    """The image can't be fetched at the moment. The image itself may be good."""


class Scores:
    """Logits and features by image, for one version of the model.

    Attributes:
        version: version of the model.
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
        # Features first, so that an image with logits always has features.
        self.features |= dict(zip(names, features, strict=True))
        self.stage_logits |= dict(zip(names, stage_logits, strict=True))

    def save(self, path: Path) -> None:
        """Write the scores to a file, all or nothing."""
        names = list(self.stage_logits)
        content = {
            "version": self.version,
            "names": names,
            "failed": sorted(self.failed),
            "stage_logits": torch.stack([self.stage_logits[name] for name in names]) if names else torch.empty(0),
            "features": torch.stack([self.features[name] for name in names]) if names else torch.empty(0),
        }
        save_tensors(content, path)

    @classmethod
    def read(cls, path: Path, version: str) -> Scores:
        """Read the scores that were saved for this version of the model; empty if there are none."""
        scores = cls(version)
        try:
            content = torch.load(path, weights_only=True)
            if content["version"] == version:
                scores.add(content["names"], content["stage_logits"], content["features"])
                scores.failed = set(map(str, content["failed"]))
        except FileNotFoundError:
            pass
        except Exception as error:
            # torch raises many kinds of errors for a damaged file. All scores can be computed again.
            logger.warning("%s is damaged (%s): the images are scored again.", path.name, type(error).__name__)
            return cls(version)
        return scores


class BackgroundScorer:
    """Keeps the :class:`Scores` of a data store complete. A thread computes them with the model that is in memory.

    Args:
        model: model that scores the images.
        path: file that keeps the scores over a restart.
        path_of: function that returns the file of an image. It may fetch the file first, or raise :class:`NotNowError`.
        on_failure: function that is called for each unreadable image, with its name, its file and the error.
    """

    def __init__(
        self,
        model: LabelModel,
        path: Path,
        path_of: Callable[[str], str],
        on_failure: Callable[[str, str, Exception], object] = lambda *_: None,
    ) -> None:
        self.model = model
        self.path = path
        self.path_of = path_of
        self.on_failure = on_failure
        self.scores = Scores()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self, names: Sequence[str]) -> None:
        """Start to score the images without a score, unless this is running already. Returns at once."""
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
            # Without scores, images are chosen at random. The server goes on.
            logger.exception("scoring in the background ended early")

    def update(self, names: Sequence[str]) -> None:
        """Score all images that the present model has not scored yet, and save the scores."""
        version = self.model.version
        # If the files change now, scores of the old model must not count as scores of the new one.
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
            # Requests that people wait for come first.
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
        paths = {item["name"]: item["image"] for item in items}
        for name, reason in stream.failures:
            scores.failed.add(name)
            self.on_failure(name, paths[name], DataError(reason))


def pick(
    strategy: str,
    unlabeled: Sequence[str],
    labeled: Sequence[str],
    scores: Scores,
    handed_out: Mapping[str, float],
    now: float,
    several: bool = False,
) -> tuple[str, str]:
    """Choose the image to label next.

    Args:
        strategy: one of :data:`monai_fgssl.metrics.acquisition.STRATEGIES`.
        unlabeled: the images to choose from, at least one.
        labeled: all other images.
        scores: scores of both kinds of images, as far as they are known.
        handed_out: time in seconds at which each image was last given to a person.
        now: present time by the same clock.
        several: True: the scores are those of findings, each by itself.

    Returns:
        The image, and the strategy that chose it: ``"random"`` while there are no scores.
    """
    reserved = {name for name, since in handed_out.items() if now - since < SECONDS_RESERVED}
    free = [name for name in unlabeled if name not in reserved]
    if not free:
        # All images are being labeled: offer the one again that was given out first.
        return min(unlabeled, key=lambda name: handed_out[name]), strategy
    scored = [name for name in free if name in scores.stage_logits]
    if strategy == "random" or not scored:
        return free[int(choose("random", len(free), 1))], "random"
    logits = torch.stack([scores.stage_logits[name] for name in scored])
    known = [scores.features[name] for name in (*labeled, *reserved) if name in scores.features]
    features = torch.stack([scores.features[name] for name in scored])
    # The mean of the logits, as in benchmarks/active_learning.py: their sum makes nearly all predictions certain.
    mean = logits.mean(1)
    if several:
        prob, stage_prob = yes_and_no(mean.sigmoid()), yes_and_no(logits.sigmoid().mT)
    else:
        prob, stage_prob = mean.softmax(1), logits.softmax(2)
    (position,) = choose(
        strategy,
        len(scored),
        1,
        prob=prob,
        stage_prob=stage_prob,
        features=features,
        labeled_features=torch.stack(known) if known else features[:0],
    ).tolist()
    return scored[position], strategy
