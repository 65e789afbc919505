# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Random views as MONAI transforms of one image, and of a batch for the training step."""

from __future__ import annotations

from dataclasses import fields, replace
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, TypeVar

import torch
from monai.config import NdarrayOrTensor
from monai.transforms import RandomizableTransform
from monai.utils import MAX_SEED, TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from monai_fgssl.functional.views import (
    DISTORTED,
    REGULARIZED,
    ViewDraw,
    ViewSettings,
    apply_view,
    draw_view,
    random_view,
)

__all__ = ["RandDistortedView", "RandRegularizedView", "RandView"]

ViewClass = TypeVar("ViewClass", bound=type[Any])


def name_strengths(cls: ViewClass) -> ViewClass:
    """Add every strength with its preset to the signature of a class, for ``help()``, editors and documentation."""
    own = [p for p in signature(cls.__init__).parameters.values() if p.name not in ("self", "strengths")]
    strengths = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=getattr(cls.preset, field.name), annotation=field.type)
        for field in fields(ViewSettings)
    ]
    cls.__signature__ = Signature([*own, *strengths])
    return cls


def _to_unit_range(images: Tensor) -> Tensor:
    return images.float().div_(255) if images.dtype == torch.uint8 else images


@name_strengths
class RandView(RandomizableTransform):
    """A random view of a 2D or 3D image: crop, rotation, flips, color, gray, blur, solarisation.

    The strengths are keyword arguments named as the attributes of :class:`monai_fgssl.functional.views.ViewSettings`;
    strengths that are left out come from the class's ``preset``, which ``help()`` shows. The preset of this class
    changes nothing.

    Call the transform with one image, (C, *spatial), with values in [0, 1], or uint8 in 0..255, which becomes float32
    in [0, 1]. The result has the type of the image: array, tensor or MetaTensor. For a whole batch, as in training, use
    :meth:`batch`.

    Use views for images only. A view can't be inverted: it is not traced in ``applied_operations``, and does not change
    the affine of a MetaTensor.

    Args:
        prob: probability that an image is changed at all.
        strengths: strengths of the changes, see above.

    Raises:
        TypeError: for a strength that does not exist.
        ValueError: for a strength that is out of its range.

    Example:
        >>> view = RandView(flip_prob=0.5, blur_prob=0.3, blur_sigma=(0.1, 1.0))
        >>> view.batch(torch.rand(8, 3, 64, 64), torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 64, 64])
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's form)
    preset: ClassVar[ViewSettings] = ViewSettings()

    def __init__(self, prob: float = 1.0, **strengths: Any) -> None:
        RandomizableTransform.__init__(self, prob)
        unknown = strengths.keys() - {field.name for field in fields(ViewSettings)}
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no strength named {', '.join(sorted(unknown))}; "
                f"there are {', '.join(field.name for field in fields(ViewSettings))}."
            )
        self.settings = replace(self.preset, **strengths)
        self._draw: ViewDraw

    def _new_generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(int(self.R.randint(MAX_SEED, dtype="uint32")))

    def randomize(self, data: NdarrayOrTensor) -> None:
        """Draw whether and how to change images of the spatial shape of ``data``, (C, *spatial)."""
        super().randomize(None)
        if self._do_transform:
            self._draw = draw_view(1, tuple(data.shape[1:]), self.settings, self._new_generator())

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return a view of one image, (C, *spatial), of the same type; ``randomize=False`` repeats the last draw."""
        if randomize:
            self.randomize(img)
        image = _to_unit_range(convert_to_tensor(img, track_meta=False))
        view = apply_view(image[None], self._draw)[0] if self._do_transform else image
        return convert_to_dst_type(view, img, dtype=view.dtype)[0]

    def batch(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return views of a batch, with a separate draw for each sample.

        Args:
            images: (B, C, *spatial) floating point in [0, 1], or uint8 in 0..255; on any device.
            generator: random generator on the CPU, whatever the device; None: a generator seeded from the transform's
                random state.

        Returns:
            (B, C, *spatial) floating point in [0, 1], on the same device.
        """
        if generator is None:
            generator = self._new_generator()
        images = _to_unit_range(images)
        views = random_view(images, self.settings, generator)
        if self.prob == 1:
            return views
        chosen = (torch.rand(len(images), generator=generator) < self.prob).to(images.device)
        return torch.where(chosen.view(-1, *[1] * (images.ndim - 1)), views, images)


@name_strengths
class RandRegularizedView(RandView):
    """Light view, from which the puzzles are cut: flips, quarter turns and a light change of color, no crop.

    The arguments are those of :class:`RandView`, with the defaults of :data:`monai_fgssl.functional.views.REGULARIZED`.
    """

    preset = REGULARIZED


@name_strengths
class RandDistortedView(RandView):
    """Strong view, with which the puzzles are compared: crop, rotation, flips, color, gray, blur, solarisation.

    The arguments are those of :class:`RandView`, with the defaults of :data:`monai_fgssl.functional.views.DISTORTED`.
    """

    preset = DISTORTED
