# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A small OpenID Connect server on the loopback interface, with the addresses and tokens of Keycloak.

Run as `python openid_server.py PORT` by a Python that has PyJWT and cryptography, such as MONAI Label's.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

PASSWORD = "correct horse"
USER, ANNOTATOR, ADMIN = (f"monailabel-{name}" for name in ("user", "annotator", "admin"))
# What is wrong with the token of the others is in `make_token`.
ROLES = {
    "uma": [USER],
    "anna": [USER, ANNOTATOR],
    "ada": [USER, ANNOTATOR, ADMIN],
    "nobody": ["offline_access"],
    "late": [USER, ANNOTATOR, ADMIN],
    "stranger": [USER, ANNOTATOR, ADMIN],
    "neighbor": [USER, ANNOTATOR, ADMIN],
}
REALM = "/realms/lesions"


def main(port: int) -> None:
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    issuer = f"http://127.0.0.1:{port}{REALM}"
    own, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    public = own.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(own.public_key())), "kid": "1", "use": "sig", "alg": "RS256"}

    def make_token(user: str) -> str:
        claims = {
            "iss": issuer.replace("lesions", "others") if user == "neighbor" else issuer,
            "sub": f"id of {user}",
            "exp": int(time.time()) + (-60 if user == "late" else 300),
            "preferred_username": user,
            "realm_access": {"roles": ROLES[user]},
        }
        return jwt.encode(claims, other if user == "stranger" else own, "RS256", {"kid": "1"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages = {
                REALM: {"realm": "lesions", "public_key": base64.b64encode(public).decode()},
                f"{REALM}/.well-known/openid-configuration": {
                    "issuer": issuer,
                    "token_endpoint": f"{issuer}/token",
                    "jwks_uri": f"{issuer}/certs",
                },
                f"{REALM}/certs": {"keys": [key]},
            }
            self.answer(200 if self.path in pages else 404, pages.get(self.path, {}))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            user = form["username"][0]
            if form["grant_type"] != ["password"] or user not in ROLES or form["password"] != [PASSWORD]:
                self.answer(401, {"error": "invalid_grant", "error_description": "Invalid user credentials"})
            else:
                self.answer(200, {"access_token": make_token(user), "token_type": "Bearer", "expires_in": 300})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
