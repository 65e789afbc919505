# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests that the server answers or refuses, by the headers of browsers and programs."""

from __future__ import annotations

import socket

import pytest

from monai_fgssl.bundle import SettingsError
from monai_fgssl.label.options import read_options
from monai_fgssl.label.origins import Sites, open_address

SITES = Sites(["label.example"], ["https://wiki.example", "http://[::1]:3000"])
OWN = "127.0.0.1:8000"


def status(host: str, method: str = "POST", **headers: str) -> int:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = SITES.refusal(method, {"host": host, **sent})
    return refusal[0] if refusal else 200


@pytest.mark.parametrize(
    "host",
    [
        OWN,
        "localhost",
        "localhost:8000",
        "localhost.:8000",
        "[::1]:8000",
        "192.168.1.20:8000",
        "label.example",
        "Label.Example:443",
        socket.gethostname(),
    ],
)
def test_names_of_the_server(host: str) -> None:
    assert status(host, "GET") == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example:8000",
        "localhost.evil.example",
        "user@127.0.0.1",
        "127.0.0.1:8000/x",
        "127.0.0.1:x",
        "[::1",
        "0x7f000001",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    assert status(host, "GET") == 421


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # A program.
        ({}, 200),
        # Its own page, in a browser that says it all, or less.
        ({"origin": f"http://{OWN}", "sec_fetch_site": "same-origin"}, 200),
        ({"origin": f"http://{OWN}"}, 200),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, 200),
        # Others.
        ({"origin": "https://evil.example", "sec_fetch_site": "cross-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8001", "sec_fetch_site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": f"ftp://{OWN}"}, 403),
        ({"origin": "http://127.0.0.1:99999"}, 403),
        # What a person in between changed: the page came without TLS, the request with it.
        ({"origin": f"http://{OWN}", "sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, 403),
        # Named.
        ({"origin": "https://wiki.example", "sec_fetch_site": "cross-site"}, 200),
        ({"origin": "http://[::1]:3000"}, 200),
        ({"origin": "http://wiki.example"}, 403),
        ({"origin": "https://wiki.example.evil.example"}, 403),
    ],
)
def test_websites(headers: dict[str, str], expected: int) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert status(OWN, method, **headers) == expected


def test_a_link_leads_to_the_page_and_does_nothing() -> None:
    visit = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert status(OWN, "GET", **visit) == 200
    assert status(OWN, "POST", **visit) == 403
    assert status(OWN, "GET", **{**visit, "sec_fetch_dest": "iframe"}) == 403


def test_a_proxy_with_tls() -> None:
    assert status("label.example", origin="https://label.example") == 200
    assert status("label.example:443", origin="https://label.example") == 200
    assert status("label.example:8443", origin="https://label.example") == 403


def test_settings() -> None:
    sites = read_options({"hosts": "a.example, b.example", "origins": "https://Wiki.example:443/"}).sites
    assert sites == Sites(("a.example", "b.example"), ["https://wiki.example"])
    for wrong in ("*", "wiki.example", "https://wiki.example/path", "https://", "http://a:b"):
        with pytest.raises(SettingsError, match="--conf origins"):
            read_options({"origins": wrong})


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ("start_server --app a --studies s", "0.0.0.0"),
        ("start_server --host 127.0.0.1 --port 9000", None),
        ("start_server -i localhost", None),
        ("start_server --host=::1", None),
        ("start_server --host 192.168.1.20 --conf host 127.0.0.1", "192.168.1.20"),
        ("start_server --host label.example", "label.example"),
    ],
)
def test_whether_a_network_reaches_it(arguments: str, address: str | None) -> None:
    assert open_address(arguments.split()) == address
