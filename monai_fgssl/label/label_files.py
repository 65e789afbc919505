# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Label files: each holds the class or the findings of one image. A lost index is rebuilt from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_fgssl.utils.files import atomic_write, from_json

from .answers import label_of

__all__ = ["LABEL_SUFFIX", "fingerprint_of", "read_label", "write_label"]

LABEL_SUFFIX = ".json"


def fingerprint_of(image: str | Path | None) -> str | None:
    """Compute the checksum of an image's file; None for a folder or a missing file."""
    if image is None or not Path(image).is_file():
        return None
    digest = hashlib.blake2b(digest_size=16)
    with open(image, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_label(path: Path, info: Mapping[str, Any], image: str | None) -> None:
    """Write a label file, and flush it to the disk.

    Args:
        path: file of the label.
        info: information of the label in the index. Its ``"class"`` is also a field of its own, for other programs.
        image: fingerprint of the image, see :func:`fingerprint_of`.

    Raises:
        StorageError: when it can't be written.
    """
    content = {"class": info["class"], "image": image, "info": dict(info)}
    with atomic_write(path, durable=True) as temporary:
        temporary.write_text(json.dumps(content, default=str), encoding="utf-8")


def read_label(path: Path) -> tuple[dict[str, Any], str | None] | None:
    """Read a label file.

    Returns:
        Information of the label, and fingerprint of its image (None: not known). None if the file is missing or was not
        written by :func:`write_label`.
    """
    try:
        content = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or label_of(content.get("class"), True) is None:
        return None
    info, image = content.get("info"), content.get("image")
    # Files of earlier releases hold only the class.
    known = info if isinstance(info, dict) else {}
    return {**known, "class": content["class"]}, image if isinstance(image, str) else None
