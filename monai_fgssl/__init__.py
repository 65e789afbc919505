# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Fine-grained self-supervised learning with jigsaw puzzles for medical images, on MONAI."""

from __future__ import annotations

from monai_fgssl.utils.command import in_bundle_command, stop_quietly

__version__ = "0.2.0.dev0"

# Here, since what follows takes seconds to import. A program that imports this package keeps its own signal handlers.
if in_bundle_command():
    stop_quietly()
