# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Commands of ``python -m monai_fgssl``."""
