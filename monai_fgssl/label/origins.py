# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Websites that may use the server: its own page, and those that the administrator names.

A browser sends requests to this server for any page that a person has open, and MONAI Label's own server answers all of
them. Programs such as curl and 3D Slicer name no website, so they are never refused for one.
"""

from __future__ import annotations

import ipaddress
import socket
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Sites", "open_address", "origin_of"]

DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(address: str) -> str:
    """A website as browsers name it.

    Args:
        address: such as ``"https://label.example"``, without a path.

    Raises:
        ValueError: when it is no such address.

    Example:
        >>> origin_of("https://Label.example:443/")
        'https://label.example'

    Source:
        RFC 6454, sections 4 and 6.2.
    """
    parts = urlsplit(address)
    rest = parts.path.strip("/"), parts.query, parts.fragment, parts.username
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or any(rest):
        raise ValueError(f"{address!r} is no origin: write it as https://label.example or http://label.example:8080.")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


@dataclass(frozen=True)
class Sites:
    """Names of the server, and websites whose pages may use it.

    Args:
        hosts: names of this server in an address, besides ``localhost``, the machine's own name, and numbers.
        origins: other websites whose pages may send requests, as :func:`origin_of` writes them.
    """

    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def refusal(self, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Reason to refuse a request.

        Args:
            method: method of HTTP.
            headers: values of the headers by their names in lower case.

        Returns:
            Status and reason; None for a request to answer.

        Source:
            W3C Fetch Metadata Request Headers; RFC 9110, sections 7.2 and 15.5.20.
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, (
                f"this server does not answer to the name {host[:100]!r}: open it by its number or by localhost, or "
                "start it with --conf hosts and its name."
            )
        origin = headers.get("origin")
        is_own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        # Somebody typed the address or followed a link: show the page, but not in a frame, and change nothing.
        is_visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if origin is None:
            allowed = is_own or (is_visit and method in ("GET", "HEAD"))
        else:
            allowed = (is_own and _is_same(origin, host)) or origin in self.origins
        if allowed:
            return None
        return 403, (
            f"pages of {(origin or 'another website')[:100]} may not use this server. Is it yours, or does a proxy "
            "change the name Host? Then start the server with --conf origins and the address of the website."
        )

    def _is_own(self, host: str) -> bool:
        """True if a name is this server's own. Pages of a foreign name belong to its owner (DNS rebinding)."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        if not name or parts.netloc != host or "@" in host:
            return False
        own = {"localhost", socket.gethostname().lower(), *map(str.lower, self.hosts)}
        return _is_number(name) or name.rstrip(".") in own


def _is_number(name: str) -> bool:
    """True for a numeric address, which nobody can point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str) -> bool:
    """True if an origin is this server's own, by any scheme. Behind a proxy with TLS it does not know its scheme."""
    try:
        page, own = urlsplit(origin), urlsplit(f"//{host}")
        default = DEFAULT_PORTS[page.scheme]
        return (page.hostname, page.port or default) == (own.hostname, own.port or default)
    except (KeyError, ValueError):
        return False


def open_address(arguments: Sequence[str]) -> str | None:
    """The address at which a whole network reaches the server; None if only this machine can.

    Args:
        arguments: arguments of ``monailabel start_server``.
    """
    parser = ArgumentParser(add_help=False)
    # MONAI Label's default is all networks of the machine.
    parser.add_argument("-i", "--host", default="0.0.0.0")
    host = str(parser.parse_known_args(list(arguments))[0].host)
    is_own = ipaddress.ip_address(host).is_loopback if _is_number(host) else host == "localhost"
    return None if is_own else host
