# SPDX-License-Identifier: Apache-2.0
"""Debian's SimpleSAMLphp, a widely run identity provider, unmodified, as a process of the test (G13).

Enters: people, the service providers that may ask. Leaves: an identity provider on a free port of loopback, its
metadata, and its own log. Its configuration lies in a folder of the test, so nothing of the machine's own is read. A
person of the test fills in its forms with `tests.identity.person`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from lxml import etree

from tests.identity.assertions import Provider as Keys
from tests.own_plane import until

WWW = Path("/usr/share/simplesamlphp/www")
LIMIT_S = 30.0


class Provider:
    """A running provider; `sp` tells it of a plane, as its administrator would after reading the plane's metadata."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.entity_id = f"{url}/saml2/idp/metadata.php"
        self._known: list[str] = []

    def metadata(self) -> bytes:
        """Its own, as it hands it out."""
        return fetched(self.url, "/saml2/idp/metadata.php")

    def table(self, path: Path, **more: object) -> str:
        """Its `[[saml]]` table of qcos.toml; `path` is where its metadata was put."""
        said = {
            "name": "corp",
            "issuer": self.entity_id,
            "tenant": "demo",
            "metadata": str(path),
            "subject_attribute": "uid",
            "name_attribute": "mail",
            **more,
        }
        return "\n".join(["[[saml]]", *(f"{key} = {json.dumps(value)}" for key, value in said.items()), ""])

    def knows(self, entity_id: str, acs: str, logout: str, **more: object) -> None:
        """Let a service provider ask; `more` are further options of SimpleSAMLphp's own."""
        said = {
            "AssertionConsumerService": acs,
            "SingleLogoutService": logout,
            "saml20.sign.assertion": True,
            "sign.logout": True,
            **more,
        }
        self._known.append(f"$metadata[{_php(entity_id)}] = {_php(said)};")
        _put(self.folder / "metadata" / "saml20-sp-remote.php", *self._known)

    def trusts(self, plane: str, name: str = "corp") -> None:
        """As its administrator would after reading the plane's metadata: encrypt, and check every signature."""
        base = f"{plane}/auth/saml/{name}"
        found = etree.fromstring(fetched(plane, f"/auth/saml/{name}/metadata")).find(".//{*}X509Certificate")
        assert found is not None
        checked = dict.fromkeys(("assertion.encryption", "redirect.validate", "validate.logout"), True)
        more = {"certData": str(found.text), "validate.authnrequest": True, **checked}
        self.knows(f"{base}/metadata", f"{base}/acs", f"{base}/logout", **more)

    def rotate(self, at: float) -> None:
        """Another signing key from now on; the metadata has the new certificate alone."""
        _keys(self.folder / "cert", self.entity_id, at)

    def start(self) -> None:
        """It is up; returns once it answers."""
        address = self.url.removeprefix("http://").replace("localhost", "127.0.0.1")
        with (self.folder / "php.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["php", "-d", "display_errors=0", "-S", address, "-t", str(WWW)],
                env={"PATH": "/usr/bin:/bin", "SIMPLESAMLPHP_CONFIG_DIR": str(self.folder / "config")},
                stdout=log,
                stderr=log,
            )

        def there() -> bool:
            with contextlib.suppress(OSError):
                return bool(self.metadata())
            assert self._process.poll() is None, (self.folder / "php.log").read_text()
            return False

        until(there, "the provider answers")

    def stop(self) -> None:
        """It is down."""
        self._process.kill()
        self._process.wait(10)


def lacking() -> str:
    """What this machine lacks to run the provider, by name; empty where it can."""
    if shutil.which("php") is None:
        return "php is not installed"
    return "" if WWW.is_dir() else "simplesamlphp is not installed"


@contextlib.contextmanager
def running(
    folder: Path, people: Mapping[str, Mapping[str, Sequence[str]]], at: float, host: str = "127.0.0.1"
) -> Iterator[Provider]:
    """The provider while the block lasts. People's keys are NAME:PASSWORD, their values attributes.

    With `localhost` it is another site than the plane to a browser, which knows no ports.
    """
    if why := lacking():
        pytest.skip(why)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://{host}:{port}"
    _configure(folder, url, people)
    _keys(folder / "cert", url, at)
    provider = Provider(folder, url)
    try:
        provider.start()
        yield provider
    finally:
        provider.stop()


def fetched(url: str, path: str) -> bytes:
    """The body of a page; OSError where it isn't there."""
    connection = http.client.HTTPConnection(url.partition("//")[2], timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(answer.status, body[-2000:].decode("utf-8", "replace"))
        return body
    finally:
        connection.close()


def _keys(folder: Path, name: str, at: float) -> None:
    made = Keys(name, at)
    private, certificate = made.pem()
    (folder / "idp.key").write_bytes(private)
    (folder / "idp.crt").write_bytes(certificate)


def _configure(folder: Path, url: str, people: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    for name in ("config", "metadata", "cert", "log", "data", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    config = {
        "baseurlpath": f"{url}/",
        **{f"{name}dir": f"{folder / name}/" for name in ("cert", "data", "metadata")},
        "loggingdir": f"{folder / 'log'}/",
        "tempdir": f"{folder / 'tmp'}/",
        "session.phpsession.savepath": f"{folder / 'tmp'}/",
        "logging.handler": "file",
        "logging.logfile": "provider.log",
        "secretsalt": "a salt of this test",
        "timezone": "UTC",
        "enable.saml20-idp": True,
        "module.enable": {"exampleauth": True, "core": True, "saml": True},
        "session.cookie.secure": False,
        "language.cookie.secure": False,
        "language.available": ["en"],
        "store.type": "phpsession",
        "metadata.sources": [{"type": "flatfile"}],
    }
    hosted = {"host": "__DEFAULT__", "privatekey": "idp.key", "certificate": "idp.crt", "auth": "people"}
    _put(folder / "config" / "config.php", f"$config = {_php(config)};")
    known = {"0": "exampleauth:UserPass", **people}
    _put(folder / "config" / "authsources.php", f"$config = ['people' => {_php(known)}];")
    _put(folder / "metadata" / "saml20-idp-hosted.php", f"$metadata['__DYNAMIC:1__'] = {_php(hosted)};")
    _put(folder / "metadata" / "saml20-sp-remote.php", "")


def _put(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["<?php", *lines, ""]))


def _php(value: object) -> str:
    """A value as PHP writes it."""
    if isinstance(value, Mapping):
        return (
            "["
            + ", ".join(f"{_php(int(key) if key.isdigit() else key)} => {_php(one)}" for key, one in value.items())
            + "]"
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert isinstance(value, Sequence)
    return "[" + ", ".join(map(_php, value)) + "]"
