# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures whose values Pillow changes."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from monai_fgssl.data.io import pictures
from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.utils.errors import DataError


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 9, 12, 16])
@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_all_bits_of_jpeg2000(suffix: str, bits: int, samples: int, is_signed: bool, tmp_path: Path) -> None:
    """Pillow rounds colors to 8 bits, so that white becomes black, and gives 12 bits of gray another white."""
    values = np.random.default_rng(0).integers(0, 2**bits, (9, 11, samples))
    values[0], values[1] = 2**bits - 1, 0
    stored = (values - 2 ** (bits - 1)).astype(f"i{bits // 9 + 1}") if is_signed else values.astype(f"u{bits // 9 + 1}")
    (tmp_path / f"a.{suffix}").write_bytes(
        imagecodecs.jpeg2k_encode(
            stored[..., 0] if samples == 1 else stored,
            level=0,
            reversible=True,
            bitspersample=bits,
            codecformat=suffix,
        )
    )
    picture = read_medical_image(tmp_path / f"a.{suffix}").numpy()
    colors = 3 if samples > 2 else 1
    assert np.allclose(picture, np.moveaxis(values[..., :colors], -1, 0) / (2**bits - 1), atol=1e-6)


def test_without_imagecodecs_deep_colors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.full((9, 11, 3), 65535, np.uint16)
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(values, level=0, reversible=True, codecformat="jp2"))
    monkeypatch.setattr(pictures, "optional_import", lambda *_, **__: (None, False))
    with pytest.raises(DataError, match=r"a.jp2 has 16 bits for a color: `pip install 'monai-fgssl\[tiff\]'`"):
        read_medical_image(tmp_path / "a.jp2")
