# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Users and roles of the MONAI Label app, with real tokens of an OpenID Connect server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from label_browser import Page
from openid_server import PASSWORD, REALM, ROLES
from selenium.webdriver import Chrome, Keys
from test_label_server import Answer, Client, Server, copy_images, free_port, wait_for


def sign_in(server: Client, user: str, password: str = PASSWORD) -> str:
    """A token."""
    form = urlencode({"username": user, "password": password})
    answer = Client(server.url).ask("POST", "/auth/token", form.encode(), "application/x-www-form-urlencoded")
    return str(answer["access_token"])


@dataclass
class Site:
    """A server with users, the server that knows them, and the images."""

    server: Server
    users: subprocess.Popen[bytes]
    realm: Client
    images: list[str]

    def sign_in(self, user: str, password: str = PASSWORD) -> str:
        return sign_in(self.server, user, password)

    def client(self, token: str | None) -> Client:
        client = Client(self.server.url)
        if token is not None:
            client.headers = {"Authorization": f"Bearer {token}"}
        return client


@contextmanager
def started_users(python: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Client, dict[str, str]]]:
    """A server that knows users: its process, a client of it, and the environment that leads MONAI Label there."""
    port = free_port()
    realm = Client(f"http://127.0.0.1:{port}")
    log = folder / "openid.log"
    with open(log, "wb") as out:
        program = Path(__file__).with_name("openid_server.py")
        users = subprocess.Popen([python, program, str(port)], stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: realm.ask("GET", REALM), users, log)
        yield (
            users,
            realm,
            {
                "MONAI_LABEL_AUTH_ENABLE": "true",
                "MONAI_LABEL_AUTH_REALM_URI": realm.url + REALM,
                # A proxy of the environment must not be asked for the loopback.
                "NO_PROXY": "127.0.0.1",
            },
        )
    finally:
        users.terminate()
        users.wait(30)


@pytest.fixture(scope="module")
def site(
    label_python: Path,
    lesions: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("users")
    studies, images = copy_images(lesions, folder, 4)
    with started_users(label_python, folder) as (users, realm, environment):
        server = Server(label_python, folder, str(studies), environment)
        yield Site(server, users, realm, images)
        server.stop()


def statuses(client: Client, image: str) -> dict[str, int]:
    """Status of the answer to each kind of request. Requests that change something come last."""
    label = {"label": ("l.json", b"")}
    requests = {
        "info": lambda: client.ask("GET", "/fgssl/info"),
        "image": lambda: client.ask("GET", f"/fgssl/image/{image}"),
        "heat maps": lambda: client.ask("GET", f"/fgssl/heat_maps/{image}"),
        "next": lambda: client.ask("POST", "/activelearning/random"),
        "infer": lambda: client.infer(image),
        "put label": lambda: client.form(
            "PUT", f"/datastore/label?image={image}&tag=final", label, params={"class": "NETWORK"}
        ),
        "get label": lambda: client.ask("GET", f"/fgssl/label/{image}"),
        "delete label": lambda: client.ask("DELETE", f"/fgssl/label/{image}"),
        "reload": lambda: client.ask("POST", "/reload"),
        "train": lambda: client.ask("POST", "/train/pretrain", b"{}"),
        "watch": lambda: client.ask("GET", "/train/"),
        "stop": lambda: client.ask("DELETE", "/train/"),
    }
    found = {}
    for name, request in requests.items():
        try:
            request()
            found[name] = 200
        except Answer as answer:
            found[name] = answer.status
    return found


def test_each_role_may_do_what_it_may(site: Site) -> None:
    image = site.images[0]
    # There is no model yet, and no training.
    looks = {"info": 200, "image": 200, "heat maps": 409, "next": 200, "infer": 409, "get label": 200, "watch": 404}
    labels = dict.fromkeys(("put label", "delete label"), 200)
    trains = dict.fromkeys(("reload", "train", "watch", "stop"), 200)
    refused = dict.fromkeys((*looks, *labels, *trains), 403)
    assert statuses(site.client(site.sign_in("nobody")), image) == refused
    assert statuses(site.client(site.sign_in("uma")), image) == {**refused, **looks}
    assert statuses(site.client(site.sign_in("anna")), image) == {**refused, **looks, **labels}
    assert statuses(site.client(site.sign_in("ada")), image) == {**looks, **labels, **trains}


def forged(site: Site, algorithm: str) -> str:
    """A token signed by nobody, or with the public key as if it were a secret."""

    def encode(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    header = {"alg": algorithm, "typ": "JWT", "kid": "1"}
    head = encode(json.dumps(header).encode()) + "." + site.sign_in("ada").split(".")[1]
    if algorithm == "none":
        return f"{head}."
    key = site.realm.ask("GET", REALM)["public_key"]
    secret = f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----".encode()
    return f"{head}.{encode(hmac.digest(secret, head.encode(), hashlib.sha256))}"


@pytest.mark.parametrize("kind", ["absent", "no token", "none", "HS256", "changed", "late", "stranger", "neighbor"])
def test_other_tokens_open_nothing(site: Site, kind: str) -> None:
    token: str | None
    if kind in ("none", "HS256"):
        token = forged(site, kind)
    elif kind == "changed":
        head, _, signature = site.sign_in("uma").split(".")
        token = ".".join([head, site.sign_in("ada").split(".")[1], signature])
    elif kind in ROLES:
        token = site.sign_in(kind)
    else:
        token = None if kind == "absent" else "abc"
    assert set(statuses(site.client(token), site.images[0]).values()) == {401}


def test_the_token_says_who_it_is(site: Site) -> None:
    user = site.client(site.sign_in("anna")).ask("GET", "/auth/token/valid")
    assert (user["username"], user["roles"]) == ("anna", ROLES["anna"])


def test_a_wrong_password_is_told(site: Site) -> None:
    for user in ("ada", "unknown"):
        with pytest.raises(Answer, match="401") as refusal:
            site.sign_in(user, "wrong")
        assert refusal.value.detail == "user and password were not accepted."
    log = site.server.log.read_text(encoding="utf-8")
    assert "invalid_grant" in log
    assert PASSWORD not in log


def test_an_annotator_signs_in_on_the_page(site: Site, chrome: Chrome) -> None:
    page = Page(chrome, site.server.url + "/fgssl/")

    def sign_in(user: str, password: str) -> None:
        page.wait(lambda: page.find("#sign-in").is_displayed())
        for field, text in (("username", user), ("password", password)):
            page.find(f"[name={field}]").clear()
            page.find(f"[name={field}]").send_keys(text)
        page.press(Keys.ENTER)

    sign_in("uma", "wrong")
    page.wait(lambda: page.text("#sign-in-error") == "User and password were not accepted.")
    sign_in("uma", PASSWORD)
    page.wait(lambda: page.image)
    first = page.image
    page.press("1")
    page.wait(lambda: 'Role "monailabel-annotator" is required' in page.error)
    assert page.image == first

    # As when the time of a token has run out: what was pressed is saved after signing in again.
    chrome.execute_script("sessionStorage.setItem('token', 'old')")
    page.press("2")
    sign_in("anna", PASSWORD)
    page.wait(lambda: page.image != first)
    assert site.client(site.sign_in("uma")).ask("GET", f"/fgssl/label/{first}") == {"class": "NETWORK"}
    assert page.complaints() == []


def test_users_that_nobody_knows_at_the_moment(site: Site) -> None:
    token = site.sign_in("uma")
    site.users.terminate()
    site.users.wait(30)
    with pytest.raises(Answer, match="503") as refusal:
        site.sign_in("uma")
    assert "can't be reached" in refusal.value.detail
    # Who has a token works on.
    assert site.client(token).ask("GET", "/fgssl/info")["num_images"] == 4
