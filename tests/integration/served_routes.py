# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Print the routes of a server: one line for each method and path.

Run as `python served_routes.py APP STUDIES`, by the Python and in the environment of the server.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def walk(routes: Iterable[Any]) -> Iterator[str]:
    """Go through all routes, also those of routers that are included."""
    for route in routes:
        if hasattr(route, "effective_candidates"):
            yield from walk(route.effective_candidates())
        elif getattr(route, "methods", None):
            yield from (f"{method} {route.path}" for method in route.methods)
        else:
            # A folder of files, or something that nobody has thought of.
            yield f"{type(route).__name__} {route.path}"


async def main(app_dir: str, studies: str) -> None:
    from monailabel.config import settings

    settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = app_dir, studies
    from monailabel.app import app

    async with app.router.lifespan_context(app):
        print("served:", *sorted(walk(app.routes)), sep="\n", flush=True)
        # Its threads would keep the process.
        os._exit(0)


asyncio.run(main(*sys.argv[1:]))
