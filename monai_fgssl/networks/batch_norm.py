# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Batch norm with the statistics of the batches of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from monai_fgssl.utils.distributed import global_moments, sum_over_processes

__all__ = ["SynchronizedBatchNorm", "synchronize_batch_norms"]


def _at_least_float32(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


class _Normalize(torch.autograd.Function):
    """Normalize an input; return it with the moments that were used."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        mean, variance, count = global_moments(_at_least_float32(x), [0, *range(2, x.ndim)])
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        scale = (variance + ctx.eps).rsqrt()
        grad = _at_least_float32(grads[0])
        normalized = (_at_least_float32(x) - mean.view(shape)) * scale.view(shape)
        grad_bias, grad_weight = grad.sum(axes), (grad * normalized).sum(axes)
        mean_grad, mean_product = (sum_over_processes(torch.cat([grad_bias, grad_weight])) / count).chunk(2)
        grad = grad - mean_grad.view(shape) - normalized * mean_product.view(shape)
        grad = grad * (scale if weight is None else scale * weight).view(shape)
        # The gradients of weight and bias are not summed here: they are averaged later, with all other gradients.
        return grad.to(x.dtype), None if weight is None else grad_weight, None if weight is None else grad_bias, None


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm that in training uses the batches of all processes; otherwise :class:`torch.nn.BatchNorm2d`.

    ``torch.nn.SyncBatchNorm`` computes the same, but only on GPUs. Processes may have different numbers of samples.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected an input of shape (batch, channels, ...), got {tuple(input.shape)}.")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``(B, C, ...)``."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        output, mean, variance, count = _Normalize.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            unbiased = variance * count / (count - 1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        return output


def _has_activation(module: nn.Module) -> bool:
    return isinstance(getattr(module, "act", None), nn.Module) and isinstance(getattr(module, "drop", None), nn.Module)


class SynchronizedBatchNormAct(SynchronizedBatchNorm):
    """:class:`SynchronizedBatchNorm` followed by ``drop`` and ``act``, like timm's ``BatchNormAct2d``."""

    act: nn.Module
    drop: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``(B, C, ...)``, and apply the activation."""
        return self.act(self.drop(super().forward(input)))


def synchronize_batch_norms(module: nn.Module) -> nn.Module:
    """Replace every batch norm by :class:`SynchronizedBatchNorm`, with the same parameters and statistics."""
    if isinstance(module, _BatchNorm):
        kind = SynchronizedBatchNormAct if _has_activation(module) else SynchronizedBatchNorm
        synchronized = kind(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        # A batch norm of timm contains its activation.
        synchronized._modules = module._modules
        # The parameters are the same objects, since an optimizer may have them already.
        synchronized._parameters = module._parameters
        synchronized._buffers = module._buffers
        return synchronized.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, synchronize_batch_norms(child))
    return module
