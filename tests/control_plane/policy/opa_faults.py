# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a plane and its OPA: a small proxy before a real OPA that breaks one thing at a time.

Each connection carries one request. A fault either answers in OPA's place, spoils OPA's own answer on its way, or does
something to OPA's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from control_plane.policy import bundle
from control_plane.policy.opa import opa_command
from control_plane.policy.revision import PolicySet, load
from tests.control_plane.policy.opa_server import OPA

POLICIES = load()
STATED = {"bundles": {"policies": {"revision": POLICIES.revision}}}


class Opa:
    """A real OPA behind a proxy, both on Unix sockets in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fault: Fault | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the plane asks."""
        return f"unix://{self.folder}/proxy"

    def start(self, policies: PolicySet = POLICIES, *, as_bundle: bool = True) -> None:
        """Serve these policies instead of what was served; returns once the socket is there."""
        process = self.launch(policies, as_bundle=as_bundle)
        while not (self.folder / "opa").exists():
            assert process.poll() is None
            time.sleep(0.005)

    def launch(self, policies: PolicySet = POLICIES, *, as_bundle: bool = True) -> subprocess.Popen[bytes]:
        """The same, without waiting for it."""
        self.end()
        assert OPA is not None
        (self.folder / "opa").unlink(missing_ok=True)
        command = opa_command(OPA, f"unix://{self.folder}/opa", bundle.write(policies, self.folder / "bundle"))
        if not as_bundle:
            command.remove("--bundle")
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        return self._process

    def send(self, number: signal.Signals) -> None:
        """A signal to OPA's process; SIGKILL is waited for."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def end(self) -> None:
        """No OPA any more, whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and what becomes of it."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, OSError):
            request = await _request(reader)
            if self.fault is None or self.fault.answer is None:
                await self.relay(request, writer)
            else:
                await self.fault.answer(self, request, writer)
        writer.close()

    def breaks(self, fault: Fault) -> None:
        """From now on this is wrong with it."""
        self.fault = fault
        if fault.begin is not None:
            fault.begin(self)

    async def relay(self, request: bytes, writer: asyncio.StreamWriter, at_most: int = 1 << 24) -> None:
        """OPA's own answer, or its beginning."""
        from_opa, to_opa = await asyncio.open_unix_connection(str(self.folder / "opa"))
        to_opa.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        answer = await from_opa.read(-1)
        to_opa.close()
        writer.write(answer[:at_most])
        await writer.drain()


Answer: TypeAlias = Callable[[Opa, bytes, asyncio.StreamWriter], Awaitable[None]]


class Fault(NamedTuple):
    """What is done to OPA once, what becomes of each request (None: it goes on to OPA), what the plane says."""

    answer: Answer | None = None
    begin: Callable[[Opa], None] | None = None
    silent: bool = False
    said: str = ""


@contextlib.asynccontextmanager
async def opa() -> AsyncIterator[Opa]:
    """A sound one; both sockets go with the block."""
    with tempfile.TemporaryDirectory(prefix="qf") as folder:
        made = Opa(Path(folder))
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(made.serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_unix_server(connected, folder + "/proxy")
        try:
            made.start()
            yield made
        finally:
            server.close()
            made.end()
            left = list(tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


def _http(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def _answering(raw: bytes) -> Fault:
    async def answer(_opa: Opa, _request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return Fault(answer)


def _saying(result: object) -> Fault:
    return _answering(_http(msgspec.json.encode({"provenance": STATED, "result": result})))


async def _dripping(_opa: Opa, _request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _endless(_opa: Opa, _request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def _cut(opa: Opa, request: bytes, writer: asyncio.StreamWriter) -> None:
    await opa.relay(request, writer, at_most=600)


async def _restarted(opa: Opa, _request: bytes, _writer: asyncio.StreamWriter) -> None:
    opa.send(signal.SIGKILL)
    opa.launch()


def _lenient() -> PolicySet:
    """Our policies but one word: auditors may submit."""
    vocabulary = POLICIES.data["vocabulary"]
    actions = {**vocabulary["actions"], "job:submit": [*vocabulary["actions"]["job:submit"], "auditor"]}
    data = {**POLICIES.data, "vocabulary": {**vocabulary, "actions": actions}}
    return msgspec.structs.replace(POLICIES, data=data, revision="sha256:" + "0" * 64)


FAULTS: dict[str, Fault] = {
    "killed": Fault(begin=lambda opa: opa.send(signal.SIGKILL)),
    "stopped (SIGSTOP)": Fault(begin=lambda opa: opa.send(signal.SIGSTOP), silent=True),
    "restarted in the middle of a request": Fault(_restarted),
    "slow: a byte now and then": Fault(_dripping, silent=True),
    "garbage instead of HTTP": _answering(b"\x00\xffallow\r\n\r\n"),
    "garbage instead of JSON": _answering(_http(b"allow")),
    "a web page": _answering(_http(b"<html>allow</html>", kind="text/html")),
    "undefined: no result": _answering(_http(msgspec.json.encode({"provenance": STATED}))),
    "a result that only says allow": _saying({"allow": True}),
    "a result without checks": _saying(
        {"checks": [], "reasons": [], "backends": ["fake"], "nodes": [], "obligations": []}
    ),
    "500": _answering(_http(b'{"code": "internal_error"}', "500 Internal Server Error")),
    "a redirect": _answering(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/data\r\nContent-Length: 0\r\n\r\n"),
    "closed in the middle of the answer": Fault(_cut),
    "closed without an answer": _answering(b""),
    "a huge answer": Fault(_endless),
    "other policies": Fault(begin=lambda opa: opa.start(_lenient()), said="other policies"),
    "policies that state no revision": Fault(begin=lambda opa: opa.start(as_bundle=False), said="serves no bundle"),
}
