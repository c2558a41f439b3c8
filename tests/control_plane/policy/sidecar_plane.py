# SPDX-License-Identifier: Apache-2.0
"""The plane's side of an OPA sidecar, small: it serves bundles, holds polls, takes the log; and a real OPA that polls
it with the configuration that `qcos up` writes.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from control_plane.policy import bundle, push, sidecar
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.opa import OPA_ENVIRONMENT, OpaEngine, opa_command
from control_plane.policy.revision import PolicySet, load
from control_plane.policy.standing import Standing
from ledger import policies as rules
from ledger.signer import Held
from tests.control_plane.policy.opa_server import OPA

KEY = ec.generate_private_key(ec.SECP256R1())
POLICIES = load()
LIMIT_S = 20.0


def signature(policies: PolicySet, key: ec.EllipticCurvePrivateKey = KEY) -> str:
    """As the sealer signs it."""
    message = rules.to_sign(rules.payload(push.body(policies, 1, None), "entry", "qcos/dev"))
    return rules.jwt(message, Held(key).sign(message))


def signed(policies: PolicySet, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """The archive of a set."""
    return bundle.pack(policies, signature(policies, key))


def changed(path: str, content: str, base: PolicySet = POLICIES) -> PolicySet:
    """The set with one file more, or another one."""
    return PolicySet.of({**base.files, path: content.encode()})


def quoted(policies: PolicySet, files: Mapping[str, bytes]) -> bytes:
    """An archive of other files under the signature of `policies`."""
    return bundle.packed({".signatures.json": msgspec.json.encode({"signatures": [signature(policies)]}), **files})


class Served:
    """What the small plane serves and has been sent; `opa` is asked through `engine`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = b""
        self.token = "a-sidecars-token"
        self.refused = 0
        self.polls = 0
        self.log: list[dict[str, Any]] = []
        self.api = ""
        self.log_per_s = 1000.0
        self._new = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.engine = OpaEngine(f"unix://{folder}/s", limit_s=LIMIT_S)

    def serve(self, archive: bytes) -> None:
        """Serve another archive, and say so to whoever waits."""
        self.archive = archive
        self._new.set()
        self._new = asyncio.Event()

    def start(self) -> None:
        """Start OPA."""
        assert OPA is not None
        (self.folder / "s").unlink(missing_ok=True)
        pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        told = sidecar.Sidecar(
            api=self.api,
            token=self.folder / sidecar.TOKEN,
            kept=self.folder / "kept",
            key=pem,
            key_id=rules.KEY_ID,
            log_per_s=self.log_per_s,
        )
        (self.folder / sidecar.TOKEN).write_text(self.token)
        (self.folder / sidecar.CONFIGURATION).write_bytes(sidecar.configuration(told))
        command = opa_command(OPA, f"unix://{self.folder}/s", configuration=self.folder / sidecar.CONFIGURATION)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, env=OPA_ENVIRONMENT, **quiet)  # type: ignore[call-overload]

    def end(self) -> None:
        """End OPA."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def standing(self, in_force: str = POLICIES.revision) -> Standing:
        """How it stands, once OPA answers."""
        until = time.monotonic() + LIMIT_S
        while True:
            try:
                return await self.engine.standing(in_force)
            except PolicyUnavailable:
                assert time.monotonic() < until
                await asyncio.sleep(0.01)

    async def deciding_by(self, policies: PolicySet) -> Standing:
        """Wait until OPA decides by this set, without an alarm."""
        return await self.until(policies.revision, None)

    async def until(self, revision: str | None, alarm: str | None) -> Standing:
        """Wait until OPA's standing is this."""
        end = time.monotonic() + LIMIT_S
        while True:
            found = await self.standing(revision or POLICIES.revision)
            if (found.revision, found.alarm) == (revision, alarm):
                return found
            assert time.monotonic() < end, found
            await asyncio.sleep(0.01)

    async def give(self, request: web.Request) -> web.Response:
        """The bundle, by ETag and long polling."""
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            self.refused += 1
            return web.Response(status=401)
        self.polls += 1
        asked = request.headers.get("If-None-Match")
        if asked == self._etag() and "wait=" in request.headers.get("Prefer", ""):
            with suppress(TimeoutError):
                async with asyncio.timeout(LIMIT_S):
                    await self._new.wait()
        headers = {"ETag": self._etag(), "Content-Type": "application/vnd.openpolicyagent.bundles"}
        if asked == self._etag():
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.archive, headers=headers)

    async def take(self, request: web.Request) -> web.Response:
        """The decision log."""
        body = await request.read()
        self.log += msgspec.json.decode(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        return web.Response()

    def _etag(self) -> str:
        return f'"{hashlib.sha256(self.archive).hexdigest()}"'


@asynccontextmanager
async def plane(archive: bytes, *, start: bool = True) -> AsyncIterator[Served]:
    """A small plane on loopback that serves this, and its OPA."""
    with tempfile.TemporaryDirectory(prefix="qs") as folder:
        served = Served(Path(folder))
        served.serve(archive)
        app = web.Application()
        app.router.add_get(f"/api/v1/{sidecar.BUNDLE_PATH}", served.give)
        app.router.add_post(f"/api/v1{sidecar.LOG_PATH}", served.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.api = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            if start:
                served.start()
            yield served
        finally:
            served.end()
            await served.engine.close()
            served.serve(b"")
            await runner.cleanup()


def with_revision(policies: PolicySet, revision: str) -> PolicySet:
    """A set that states a revision which isn't its own."""
    return replace(policies, revision=revision)
