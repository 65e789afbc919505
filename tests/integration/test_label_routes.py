# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Every route of the MONAI Label app, and the users who may use it. A new route fails until somebody decides on it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_label_security import raw
from test_label_server import Server, copy_images
from test_label_sign_in import sign_in, started_users

# Who may use a route: the page and what tells of the server, without anything that it holds; then by role.
TABLE = {
    "anybody": """
        GET /
        GET /auth/
        POST /auth/token
        GET /docs
        HEAD /docs
        GET /favicon.ico
        GET /fgssl/
        GET /fgssl/page/{name}
        GET /openapi.json
        HEAD /openapi.json
        Mount /static
    """,
    # Who has a token, with any role or none.
    "somebody": """
        GET /auth/token/valid
    """,
    "reader": """
        POST /activelearning/{strategy}
        GET /batch/infer
        GET /datastore/
        GET /datastore/image
        HEAD /datastore/image
        GET /datastore/image/info
        GET /datastore/label
        HEAD /datastore/label
        GET /datastore/label/info
        GET /fgssl/agreement
        GET /fgssl/confusion_matrix
        GET /fgssl/heat_layer/{image_id}
        GET /fgssl/heat_maps/{image_id}
        GET /fgssl/image/{image_id}
        GET /fgssl/images
        GET /fgssl/images/{image_id}
        GET /fgssl/images/{image_id}/similar
        GET /fgssl/images/{image_id}/thumbnail
        GET /fgssl/info
        GET /fgssl/label/{image_id}
        GET /fgssl/trainings
        POST /infer/{model}
        GET /info/
        GET /ohif/{path:path}
        GET /proxy/dicom/{path:path}
        GET /scoring/
        PUT /session/
        DELETE /session/{session_id}
        GET /session/{session_id}
        GET /train/
    """,
    "annotator": """
        PUT /datastore/
        GET /datastore/dataset
        PUT /datastore/image
        PUT /datastore/image/info
        PUT /datastore/label
        PUT /datastore/label/info
        PUT /datastore/updatelabelinfo
        DELETE /fgssl/label/{image_id}
        PUT /fgssl/images/{image_id}/marks
        POST /proxy/dicom/{path:path}
        DELETE /scoring/
        POST /scoring/{method}
    """,
    "admin": """
        DELETE /batch/infer
        POST /batch/infer/{model}
        DELETE /datastore/
        DELETE /datastore/image
        DELETE /datastore/label
        GET /logs/
        GET /logs/gpu
        DELETE /model/{model}
        GET /model/{model}
        PUT /model/{model}
        GET /model/info/{model}
        POST /reload
        DELETE /train/
        POST /train/{model}
    """,
}
ROUTES = {route.strip(): role for role, lines in TABLE.items() for route in lines.strip().splitlines()}
# Nobody has a role, uma reads, anna annotates too, ada may do all.
PEOPLE = {
    "anybody": ("", "nobody", "uma", "anna", "ada"),
    "somebody": ("nobody", "uma", "anna", "ada"),
    "reader": ("uma", "anna", "ada"),
    "annotator": ("anna", "ada"),
    "admin": ("ada",),
}
# What stands for a part of a path: there is no such thing, so that nothing happens.
PARTS = {"session_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "path:path": "studies"}


@pytest.fixture(scope="module")
def site(
    label_python: Path,
    lesions: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Server, dict[str, str], set[str]]]:
    """A server with users, a token for each of them, and what it answers to."""
    folder = tmp_path_factory.mktemp("routes")
    studies, _ = copy_images(lesions, folder, 1)
    with started_users(label_python, folder) as (_, _, environment):
        server = Server(label_python, folder, str(studies), environment)
        program = [label_python, Path(__file__).with_name("served_routes.py"), folder / "app", studies]
        home = {**os.environ, "HOME": str(folder), **environment}
        printed = subprocess.run(program, capture_output=True, text=True, env=home, cwd=folder)
        assert "served:\n" in printed.stdout, printed.stderr[-2000:]
        # The log of the server may come between and behind.
        served = re.findall(r"^[A-Za-z]+ (?:/.*)?$", printed.stdout.split("served:\n")[1], re.MULTILINE)
        tokens = {name: sign_in(server, name) for name in PEOPLE["somebody"]}
        yield server, tokens, set(served)
        server.stop()


def test_every_route_is_in_the_table(site: tuple[Server, dict[str, str], set[str]]) -> None:
    served = site[2]
    assert served - ROUTES.keys() == set(), "decide who may use these, and add them to the table"
    assert ROUTES.keys() - served == set(), "these are not served any more"


@pytest.mark.parametrize("route", ROUTES)
def test_who_may_use_it(route: str, site: tuple[Server, dict[str, str], set[str]]) -> None:
    server, tokens, _ = site
    method, path = route.split()
    if method == "Mount":
        method, path = "GET", f"{path}/nothing"
    for part in path.split("{")[1:]:
        name = part.split("}")[0]
        path = path.replace(f"{{{name}}}", PARTS.get(name, "nothing"))
    for name in ("", *tokens):
        headers = {"Authorization": f"Bearer {tokens[name]}"} if name else {}
        status = raw(server, method, path, headers)[0]
        if name in PEOPLE[ROUTES[route]]:
            assert status not in (401, 403), (name, status)
            # 503 is no fault of the route: nobody can be reached there.
            assert status < 500, (name, status)
        else:
            assert status == (403 if name else 401), (name, status)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "ANY"])
def test_nothing_else_is_answered(method: str, site: tuple[Server, dict[str, str], set[str]]) -> None:
    """Routes of MONAI Label that are not in the table, and paths that lead out of folders."""
    server, tokens, _ = site
    headers = {"Authorization": f"Bearer {tokens['ada']}"}
    for path in (
        "/infer/wsi/fgssl",
        "/infer/wsi_v2/fgssl",
        "/train",
        "/scoring",
        "/static/../app.py",
        "/static/..%2F..%2Fapp.py",
        "/static/%2e%2e/%2e%2e/config.py",
        "/fgssl/../info",
        "/fgssl/server.py",
        "/model/fgssl/../../x",
        "/nothing",
    ):
        status, _, content = raw(server, method, path, headers)
        assert status in (307, 404, 405), (path, status)
        assert b"import" not in content
    for path in ("/ohif/..", "/ohif/../../app.py", "/ohif/..%2F..%2F..%2Fapp.py", "/ohif/%2Fetc%2Fpasswd", "/ohif/%00"):
        status, _, content = raw(server, method, path, headers)
        assert status == (200 if method == "GET" else 405), (path, status)
        assert b"import os" not in content
        assert b"root:" not in content
