# SPDX-License-Identifier: Apache-2.0
"""An RFC 3161 authority that isn't ours: `openssl ts -reply` behind HTTP on loopback, with a chain of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

CONFIG = """
[tsa]
default_tsa = c
[c]
serial = {room}/serial
signer_cert = {room}/leaf.pem
certs = {room}/root.pem
signer_key = {room}/leaf.key
signer_digest = sha256
default_policy = 1.2.3.4.1
other_policies = 1.2.3.4.2
digests = sha256
ess_cert_id_alg = sha256
[leaf]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
basicConstraints = critical,CA:FALSE
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[req]
distinguished_name = dn
[dn]
"""


def openssl(*arguments: str | Path) -> str:
    """What it printed; it must succeed."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_authority(room: Path, key: str = "ec:P-256") -> None:
    """Keys, `leaf.pem`, `root.pem`, and `chain.pem` with both, in a folder that exists."""
    (room / "c").write_text(CONFIG.format(room=room))
    (room / "serial").write_text("01\n")
    new = ["-newkey", "rsa:2048"] if key == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    common: list[str | Path] = ["-nodes", "-config", room / "c"]
    openssl("req", "-x509", *new, *common, "-keyout", room / "root.key", "-out", room / "root.pem",
            "-subj", "/CN=Root", "-days", "30", "-extensions", "root")  # fmt: skip
    openssl("req", *new, *common, "-keyout", room / "leaf.key", "-out", room / "leaf.csr", "-subj", "/CN=T")
    openssl("x509", "-req", "-in", room / "leaf.csr", "-CA", room / "root.pem", "-CAkey", room / "root.key",
            "-CAcreateserial", "-out", room / "leaf.pem", "-days", "30", "-extfile", room / "c",
            "-extensions", "leaf")  # fmt: skip
    (room / "chain.pem").write_text((room / "leaf.pem").read_text() + (room / "root.pem").read_text())


class OutsideTime:
    """The authority of a folder; answers while `answering`, else with 503. One request at a time: openssl's serial."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.answering = True
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked += 1
                query = self.rfile.read(int(self.headers["Content-Length"]))
                wanted = self.headers["Content-Type"] == "application/timestamp-query"
                status = (200 if wanted else 415) if outer.answering else 503
                reply = outer.reply(query) if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/stamp"

    def reply(self, query: bytes) -> bytes:
        """openssl's answer to one request."""
        (self.room / "query").write_bytes(query)
        openssl("ts", "-reply", "-config", self.room / "c", "-queryfile", self.room / "query",
                "-out", self.room / "reply")  # fmt: skip
        return (self.room / "reply").read_bytes()

    @contextlib.contextmanager
    def serving(self) -> Iterator[OutsideTime]:
        """Answer for as long as the block lasts."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
