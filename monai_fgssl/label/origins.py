# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Websites that may use the server: its own page, and those that the administrator names.

Any page that a person has open can make the browser send requests to this server, and MONAI Label's own server answers
all of them. Programs such as curl and 3D Slicer name no website, so these checks never refuse them.
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
    """Convert the address of a website to an origin, as browsers write it.

    Args:
        address: address such as ``"https://label.example"``, without a path.

    Raises:
        ValueError: when it is not such an address.

    Example:
        >>> origin_of("https://Label.example:443/")
        'https://label.example'

    Source:
        RFC 6454, sections 4 and 6.2.
    """
    parts = urlsplit(address)
    rest = parts.path.strip("/"), parts.query, parts.fragment, parts.username
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or any(rest):
        raise ValueError(
            f"{address!r} is not an origin: write it as https://label.example or http://label.example:8080."
        )
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


@dataclass(frozen=True)
class Sites:
    """Names of the server, and websites whose pages may use it.

    Args:
        hosts: names of this server, besides ``localhost``, the machine's own name, and IP addresses.
        origins: other websites whose pages may send requests, as :func:`origin_of` writes them.
    """

    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def refusal(self, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Decide whether to refuse a request.

        Args:
            method: HTTP method.
            headers: values of the headers, by name in lower case.

        Returns:
            HTTP status and reason of the refusal; None if the request is accepted.

        Source:
            W3C Fetch Metadata Request Headers; RFC 9110, sections 7.2 and 15.5.20.
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, (
                f"this server does not answer to the name {host[:100]!r}: open it by its IP address or as localhost, "
                "or start it with --conf hosts and this name."
            )
        origin = headers.get("origin")
        is_own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        # A person typed the address or followed a link: show the page, but not in a frame, and change nothing.
        is_visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if origin is None:
            allowed = is_own or (is_visit and method in ("GET", "HEAD"))
        else:
            allowed = (is_own and _is_same(origin, host)) or origin in self.origins
        if allowed:
            return None
        return 403, (
            f"pages of {(origin or 'another website')[:100]} may not use this server. If the website is yours, or if a "
            "proxy changes the header Host, start the server with --conf origins and the address of the website."
        )

    def _is_own(self, host: str) -> bool:
        """Tell whether a name is this server's own. A stranger's name may point to this server (DNS rebinding)."""
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
    """Tell whether a name is an IP address, which nobody can point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str) -> bool:
    """Tell whether an origin is this server's own. The scheme does not count: a TLS proxy hides it from the server."""
    try:
        page, own = urlsplit(origin), urlsplit(f"//{host}")
        default = DEFAULT_PORTS[page.scheme]
        return (page.hostname, page.port or default) == (own.hostname, own.port or default)
    except (KeyError, ValueError):
        return False


def open_address(arguments: Sequence[str]) -> str | None:
    """Return the address at which other machines reach the server; None if only this machine can.

    Args:
        arguments: arguments of ``monailabel start_server``.
    """
    parser = ArgumentParser(add_help=False)
    # By default MONAI Label listens on all networks of the machine.
    parser.add_argument("-i", "--host", default="0.0.0.0")
    host = str(parser.parse_known_args(list(arguments))[0].host)
    is_own = ipaddress.ip_address(host).is_loopback if _is_number(host) else host == "localhost"
    return None if is_own else host
