# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Event at the end of every few epochs."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

__all__ = ["every_epochs"]


def every_epochs(interval: int) -> Any:
    """Return the event at the end of every ``interval`` epochs, and of the last epoch."""

    def is_due(engine: Engine, epoch: int) -> bool:
        return epoch % interval == 0 or epoch == engine.state.max_epochs

    return Events.EPOCH_COMPLETED(event_filter=is_due)
