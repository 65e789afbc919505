# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Gateway between a server and its archive. The gateway can fail in the ways of networks and archives."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit


class Gateway:
    """Passes requests on to an archive, and keeps what was asked.

    Attributes:
        url: to ask in place of the archive's.
        mode: ``"pass"``; ``"away"``: connections end without an answer; ``"elsewhere"``: a redirect to another server.
        open: while it is not set, requests wait.
        requests: method, path and headers of each request.
    """

    def __init__(self, archive_url: str) -> None:
        self.mode: Literal["pass", "away", "elsewhere"] = "pass"
        self.open = threading.Event()
        self.open.set()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        gateway, archive = self, urlsplit(archive_url).netloc

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                gateway.requests.append((self.command, self.path, dict(self.headers)))
                gateway.open.wait()
                if gateway.mode == "away":
                    self.close_connection = True
                    return
                if gateway.mode == "elsewhere":
                    self.send_response(302)
                    self.send_header("Location", f"{archive_url}/patients")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                connection = http.client.HTTPConnection(archive, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("connection", "content-length", "keep-alive", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                connection.close()

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self.open.set()
        self.http.shutdown()
        self.http.server_close()
