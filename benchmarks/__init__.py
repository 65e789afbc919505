# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measurements of speed, memory and accuracy, run from the root of the repository: ``python -m benchmarks.NAME``."""
