# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Start Orthanc: an archive with DICOMweb on the loopback interface, without sign-in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLUGINS = Path("/usr/share/orthanc/plugins")


def orthanc_command(folder: Path, port: int, plugins: Sequence[str] = ("DicomWeb",), **settings: Any) -> list[Any]:
    """Command of an Orthanc that keeps everything in a folder.

    Args:
        folder: of its files.
        port: of its HTTP server.
        plugins: names, as those of the Debian packages ``orthanc-NAME``.
        **settings: more settings of Orthanc.

    Raises:
        FileNotFoundError: when Orthanc or a plug-in is not installed.
    """
    files = [PLUGINS / f"libOrthanc{name}.so" for name in plugins]
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or not all(file.is_file() for file in files):
        packages = " ".join(f"orthanc-{name.lower()}" for name in plugins)
        raise FileNotFoundError(f"Orthanc or a plug-in is missing: apt-get install orthanc {packages}")
    content = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": list(map(str, files)),
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **settings,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return [program, file]
