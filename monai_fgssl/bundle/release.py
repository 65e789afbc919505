# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Make a trained bundle ready to be published: the bundle without its weights, and the weights to upload."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import quote, urlsplit

from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.files import atomic_write

__all__ = ["write_release"]

WEIGHTS = "models/model.pt"
LIST = "large_files.yml"


def write_release(bundle_root: str | Path, folder: str | Path, address: str) -> Path:
    """Write a release of a trained bundle, as MONAI's model zoo keeps them.

    The new folder has:

    - ``bundle/NAME`` (configs, docs, license, ``models/model.json`` and ``large_files.yml``) for a repository,
    - ``NAME_vVERSION.zip``, the same as one file,
    - ``weights/model.pt``, to upload to the address. From there
      ``python -m monai.bundle download_large_files --bundle_path NAME`` downloads it and checks it.

    Args:
        bundle_root: folder of the bundle, in which a model was trained.
        folder: new folder to write to; it must not exist yet.
        address: folder on a server, such as a release page, where ``model.pt`` will be.

    Returns:
        The folder ``bundle/NAME``.

    Raises:
        FileExistsError: when ``folder`` exists already.
        SettingsError: when the bundle has no trained model, or the address is not valid.
    """
    root, target = Path(bundle_root).resolve(), Path(folder)
    weights = root / WEIGHTS
    if urlsplit(address).scheme not in ("http", "https"):
        raise SettingsError(f"{address!r} is not an address: it must begin with https:// (or http://).")
    if not (weights.is_file() and weights.with_suffix(".json").is_file()):
        raise SettingsError(f"{weights} and the JSON file beside it are missing: train first, in this bundle.")
    if target.exists():
        raise FileExistsError(f"{target} exists already: name a new folder, nothing is overwritten.")
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    copy = target / "bundle" / root.name
    try:
        # Links are followed, as in a copy. Output of runs is not part of a release.
        left_out = shutil.ignore_patterns("output", "*.pt", "*.onnx", "*.safetensors", ".*")
        shutil.copytree(root, copy, symlinks=False, ignore=left_out)
        (target / "weights").mkdir()
        shutil.copyfile(weights, target / "weights" / weights.name)
        entry = {
            "path": WEIGHTS,
            "url": f"{address.rstrip('/')}/{quote(weights.name)}",
            "hash_val": _sha256(weights),
            "hash_type": "sha256",
        }
        with atomic_write(copy / LIST) as temporary:
            # A JSON string is also a YAML string, so this needs no YAML library.
            lines = [f"  {name}: {json.dumps(value)}\n" for name, value in entry.items()]
            temporary.write_text("large_files:\n-" + "".join(lines)[1:], encoding="utf-8")
        shutil.make_archive(str(target / f"{root.name}_v{metadata['version']}"), "zip", copy.parent, root.name)
    except BaseException:
        # Leave nothing half-written.
        shutil.rmtree(target, ignore_errors=True)
        raise
    return copy


def _sha256(path: Path) -> str:
    # Python 3.10 has no hashlib.file_digest.
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
