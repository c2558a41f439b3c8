# SPDX-License-Identifier: Apache-2.0
"""A second OIDC issuer on loopback: discovery and keys over HTTP, tokens signed here (G13). For tests only."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

AUDIENCE = "qcos-soak"
LIFE_S = 3600


class Issuer:
    """Serves from `start` to `stop`; `config` is its table of `qcos.toml`."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._key = ECKey.generate_key("P-256")
        self._kid = self._key.thumbprint()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.asked = 0

    @property
    def config(self) -> str:
        """The `[[oidc]]` table that makes a plane believe it."""
        return f'[[oidc]]\nissuer = "{self.url}"\naudience = "{AUDIENCE}"\ntenant = "{self._tenant}"\n'

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End the thread and close the port."""
        self._server.shutdown()
        self._server.server_close()

    def token(self, user: str, *roles: str, team: str = "soak") -> str:
        """An RFC 9068 access token for a person of this issuer."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": f"id-of-{user}",
            "client_id": "soak",
            "iat": now,
            "exp": now + LIFE_S,
            "preferred_username": user,
            "roles": list(roles),
            "team": team,
            "department": "soak",
        }
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": self._kid}, claims, self._key, algorithms=["ES256"])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                documents: dict[str, dict[str, Any]] = {
                    "/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"},
                    "/keys": {"keys": [{**issuer._key.as_dict(private=False), "kid": issuer._kid, "use": "sig"}]},
                }
                known = documents.get(self.path)
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(known or {}).encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
