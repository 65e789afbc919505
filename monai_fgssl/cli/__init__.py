# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``python -m monai_fgssl`` do."""
