# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Helpers for functions that treat the samples of a batch differently."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def update_where(chosen: Tensor, x: Tensor, update: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace the chosen samples of a batch by their update. No update is computed for the other samples.

    Args:
        chosen: True for the samples to update, (B,) bool, on the CPU (on an accelerator, the CPU would have to wait for
            it).
        x: batch (B, ...), which may be changed in place, so no other code may need it.
        update: function of a batch (B', ...) of any size that keeps the shape and returns a new tensor.

    Returns:
        Batch (B, ...), which is ``x`` unless all samples are chosen.
    """
    if chosen.all():
        return update(x)
    if chosen.any():
        index = chosen.nonzero().squeeze(1).to(x.device)
        x.index_copy_(0, index, update(x.index_select(0, index)))
    return x


def per_sample(amount: Tensor, x: Tensor) -> Tensor:
    """View one amount per sample, (B,), as a tensor that broadcasts against the batch ``x``, on its device and dtype.

    Raises:
        ValueError: when the number of amounts is not the batch size.
    """
    if amount.shape != x.shape[:1]:
        raise ValueError(f"one amount per sample is needed, shape ({len(x)},), got shape {tuple(amount.shape)}.")
    return amount.to(x).view(-1, *[1] * (x.ndim - 1))
