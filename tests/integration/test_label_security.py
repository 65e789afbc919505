# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Attacks on the MONAI Label app that once worked, against real servers, a real archive and a real browser."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from test_label_page import chrome  # noqa: F401
from test_label_server import CLASSES, SETTINGS, Server, free_port, label_python  # noqa: F401

from monai_fgssl.data import read_isic2018

# A page that does what it can with a server: the outcome of each attempt, once all have ended.
FOREIGN_PAGE = """<!doctype html><title>elsewhere</title><script>
async function attempt(server, image) {
  const outcome = {};
  const ask = async (name, path, options) => {
    try { outcome[name] = (await fetch(server + path, options)).type; } catch (error) { outcome[name] = "failed"; }
  };
  const form = new FormData();
  form.append("params", JSON.stringify({class: "NETWORK"}));
  form.append("label", new Blob([]), "l.json");
  await ask("list", "/datastore/?output=all", {credentials: "include"});
  await ask("label", `/datastore/label?image=${image}&tag=final`, {method: "PUT", body: form});
  await ask("delete", `/datastore/image?id=${image}`, {method: "DELETE"});
  await ask("train", "/train/pretrain", {method: "POST", mode: "no-cors", body: "{}"});
  await ask("reload", "/reload", {method: "POST", mode: "no-cors"});
  outcome.picture = await new Promise(done => {
    const picture = new Image();
    picture.onload = () => done("seen");
    picture.onerror = () => done("failed");
    picture.src = `${server}/fgssl/image/${image}`;
  });
  return outcome;
}
</script>"""


@dataclass
class Site:
    """A server on a folder, the images, and the port of the one website that it lets in."""

    server: Server
    images: list[str]
    friend: int

    def raw(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """An answer to exactly this path and these headers, which other clients tidy up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
        for name, value in {**(headers or {}), "Content-Length": str(len(body or b""))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content


@pytest.fixture(scope="module")
def site(
    label_python: Path,  # noqa: F811
    lesions: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("security")
    (folder / "studies").mkdir()
    items = read_isic2018(lesions).items[:4]
    for item in items:
        shutil.copy(item["image"], folder / "studies")
    friend = free_port()
    conf = {
        "classes": ",".join(CLASSES),
        **SETTINGS,
        "hosts": "label.example",
        "origins": f"http://127.0.0.1:{friend}",
    }
    server = Server(label_python, folder, str(folder / "studies"), {}, conf)
    yield Site(server, [item["name"] for item in items], friend)
    server.stop()


def test_a_name_that_somebody_else_owns_is_not_answered(site: Site) -> None:
    """DNS rebinding: the browser takes the server for a part of the foreign page's own site."""
    for path in ("/fgssl/", "/fgssl/info", "/datastore/?output=all", "/", "/openapi.json", "/static/", "/nothing"):
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            assert site.raw(method, path, {"Host": f"evil.example:{site.server.port}"})[0] == 421, (method, path)
    for host in ("label.example", "localhost:1", "127.0.0.1", "[::1]:8000"):
        assert site.raw("GET", "/fgssl/info", {"Host": host})[0] == 200, host


def test_what_other_websites_ask_for_is_not_done(site: Site) -> None:
    image = site.images[0]
    before = site.server.ask("GET", "/datastore/?output=all")
    requests = [
        ("GET", "/datastore/?output=all"),
        ("GET", f"/fgssl/image/{image}"),
        ("GET", "/fgssl/page.js"),
        ("PUT", f"/datastore/label?image={image}&tag=final"),
        ("DELETE", f"/datastore/image?id={image}"),
        ("POST", "/train/pretrain"),
        ("PUT", "/model/fgssl"),
        ("OPTIONS", "/train/pretrain"),
    ]
    for origin in ("https://evil.example", "null", f"http://localhost:{site.server.port}"):
        for method, path in requests:
            status, headers, content = site.raw(method, path, {"Origin": origin}, b"{}")
            assert status == 403, (origin, method, path)
            assert "may not use this server" in json.loads(content)["detail"]
            assert "Access-Control-Allow-Origin" not in headers
    assert site.server.ask("GET", "/datastore/?output=all") == before
    status, headers, _ = site.raw("GET", "/fgssl/info", {"Origin": f"http://127.0.0.1:{site.friend}"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, f"http://127.0.0.1:{site.friend}")
    own = {"Origin": f"http://127.0.0.1:{site.server.port}", "Sec-Fetch-Site": "same-origin"}
    status, headers, _ = site.raw("GET", "/fgssl/info", own)
    assert status == 200
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"


def serve_page(port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = FOREIGN_PAGE.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    website = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=website.serve_forever, daemon=True).start()
    return website


def outcomes(chrome: Chrome, address: str, site: Site, image: str) -> dict[str, Any]:  # noqa: F811
    chrome.get(address)
    chrome.set_script_timeout(60)
    script = "attempt(arguments[0], arguments[1]).then(arguments[2])"
    return dict(chrome.execute_async_script(script, site.server.url, image))


def test_a_browser_on_another_website(site: Site, chrome: Chrome) -> None:  # noqa: F811
    image = site.images[0]
    website, friend = serve_page(0), serve_page(site.friend)
    try:
        for host in ("127.0.0.1", "localhost"):
            found = outcomes(chrome, f"http://{host}:{website.server_port}/", site, image)
            assert found == dict.fromkeys(("list", "label", "delete", "train", "reload", "picture"), "failed")
        info = site.server.ask("GET", "/fgssl/info")
        assert (info["num_images"], info["num_labelled"]) == (len(site.images), 0)
        assert site.raw("GET", "/train/")[0] == 404
        log = site.server.log.read_text(encoding="utf-8")
        assert "refused POST /train/pretrain" in log
        # The website that was named may do all that its own page may.
        chrome.get(f"http://127.0.0.1:{site.friend}/")
        script = "fetch(arguments[0], {method: 'DELETE'}).then(answer => answer.text()).then(arguments[1])"
        answer = chrome.execute_async_script(script, f"{site.server.url}/fgssl/label/{image}")
        assert json.loads(answer) == {"detail": "this image has no such label."}
    finally:
        website.shutdown()
        friend.shutdown()
