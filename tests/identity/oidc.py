# SPDX-License-Identifier: Apache-2.0
"""npm `oidc-provider`, a certified OpenID Provider, unmodified, as a process of the test (G13).

Enters: clients and people. Leaves: an issuer on a free port of loopback. The test that asks is skipped by name where
`make identity-tools` hasn't been run. A person of the test fills in its forms with `tests.identity.person`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

FOLDER = Path(__file__).with_name("oidc")
RESOURCE = "https://qcos.test/api"
"""What a client asks a token for (RFC 8707); the provider answers with a JWT whose audience is `AUDIENCE`."""
AUDIENCE = "qcos"
SECRET = "a secret of this test: 100% + more"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


class Provider:
    """A running provider."""

    def __init__(self, process: subprocess.Popen[str], issuer: str) -> None:
        self.process, self.issuer = process, issuer

    def rotate(self) -> None:
        """Another signing key from now on; the old one is forgotten."""
        self._control("rotate")

    def callback(self, url: str) -> None:
        """Browsers come back to this address from now on."""
        self._control("callback?" + urlencode({"to": url}))

    def slow(self, milliseconds: int) -> None:
        """Every later answer waits so long."""
        self._control(f"slow?ms={milliseconds}")

    def stop(self) -> None:
        """It is down."""
        self.process.kill()
        self.process.wait(10)

    def _control(self, what: str) -> None:
        with urlopen(f"{self.issuer}/_control/{what}", timeout=10) as answer:
            answer.read()

    def table(self, **more: object) -> str:
        """Its `[[oidc]]` table of qcos.toml, for tenant `demo` unless `more` says otherwise."""
        said = {
            "name": "company",
            "issuer": self.issuer,
            "audience": AUDIENCE,
            "tenant": "demo",
            "resource": RESOURCE,
            **more,
        }
        return "\n".join(["[[oidc]]", *(f"{key} = {json.dumps(value)}" for key, value in said.items()), ""])


def lacking() -> str:
    """What this machine lacks to run the provider, by name; empty where it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        return "npm oidc-provider is not installed: make identity-tools"
    return ""


def web(client_id: str = "qcos-web", **more: object) -> dict[str, object]:
    """A client that browsers come back to, with a secret; `Provider.callback` says where."""
    return {
        "client_id": client_id,
        "client_secret": SECRET,
        "redirect_uris": ["http://127.0.0.1/not/said/yet"],
        "grant_types": ["authorization_code"],
        **more,
    }


def cli(client_id: str = "qcos-cli") -> dict[str, object]:
    """A client without a secret, for the device flow."""
    return {
        "client_id": client_id,
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "redirect_uris": [],
        "response_types": [],
        "grant_types": [DEVICE, "refresh_token"],
    }


@contextlib.contextmanager
def running(
    clients: Sequence[Mapping[str, Any]], people: Mapping[str, Mapping[str, Any]], **more: object
) -> Iterator[Provider]:
    """The provider while the block lasts; `more` may be `port`, `access_token_s`, `audience`."""
    if why := lacking():
        pytest.skip(why)
    process = subprocess.Popen(
        ["node", "server.mjs"],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"clients": clients, "people": people, **more}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "oidc-provider ended before it answered"
        yield Provider(process, json.loads(line)["issuer"])
    finally:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
