# SPDX-License-Identifier: Apache-2.0
"""I5 against a broken OPA: whatever comes over the wire, no fault becomes an allow. The servers here are real
sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.opa import OpaEngine, opa_command
from control_plane.policy.revision import load
from tests.control_plane.policy.sample import document, encoded

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
POLICIES = load()


def http(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(raw: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        await asyncio.sleep(0.05)

    return handle


FAULTS = {
    "undefined": http(b"{}"),
    "no object": http(b"true"),
    "no JSON": http(b"allow"),
    "cut short": http(b'{"result": tr')[:-3],
    "server error": http(b'{"code":"internal_error","message":"x"}', "500 Internal Server Error"),
    "server error with a result": http(b'{"result": true}', "500 Internal Server Error"),
    "not found": http(b"", "404 Not Found"),
    "elsewhere": http(b'{"result": true}', "307 Temporary Redirect", "Location: /v1/data/allow\r\n"),
    "no HTTP": b"allow\r\n\r\n",
    "nothing": b"",
    "too deep": http(b'{"result":' + b"[" * 200_000),
    "code is no text": http(b'{"code":{}}', "400 Bad Request"),
}


@pytest.mark.parametrize("raw", FAULTS.values(), ids=FAULTS.keys())
async def test_a_faulty_answer_is_unavailable(raw: bytes) -> None:
    """I5."""
    async with serving(answering(raw)) as url:
        engine = OpaEngine(url, limit_s=5)
        with pytest.raises(PolicyUnavailable):
            await engine.evaluate(POLICIES, encoded(document()))
        with pytest.raises(PolicyUnavailable):
            await engine.ready(POLICIES)
        await engine.close()


async def test_a_silent_server_is_left_after_the_limit_and_not_asked_again() -> None:
    """I5; no retry with sleeps: one connection is all that the server sees."""
    seen = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        await asyncio.Event().wait()

    async with serving(silent) as url:
        engine = OpaEngine(url, limit_s=0.05)
        with pytest.raises(PolicyUnavailable, match="longer"):
            await engine.evaluate(POLICIES, encoded(document()))
        assert seen == 1
        await engine.close()


async def test_an_endless_answer_is_cut() -> None:
    """I5, and memory."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    async with serving(endless) as url:
        engine = OpaEngine(url, limit_s=30)
        with pytest.raises(PolicyUnavailable, match="too large"):
            await engine.evaluate(POLICIES, encoded(document()))
        await engine.close()


@pytest.mark.parametrize("gone", ["http", "unix"])
async def test_nobody_there_is_unavailable(gone: str, tmp_path: Path) -> None:
    """I5."""
    async with serving(answering(b"")) as url:
        pass
    engine = OpaEngine(url if gone == "http" else f"unix://{tmp_path}/none")
    with pytest.raises(PolicyUnavailable, match="reached"):
        await engine.evaluate(POLICIES, encoded(document()))
    await engine.close()


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:8181", "http://opa.example:8181", "ftp://localhost", "unix:", "opa", ""]
)
def test_an_address_that_anyone_could_answer_is_refused(url: str) -> None:
    """A decision over plain HTTP comes from loopback only."""
    with pytest.raises(PolicyUnavailable):
        OpaEngine(url)
    with pytest.raises(PolicyUnavailable):
        opa_command("opa", url, "policies")


def test_the_command_serves_locally_and_calls_nobody() -> None:
    command = opa_command("/bin/opa", "http://127.0.0.1:8181", "/p")
    assert command[:5] == ["/bin/opa", "run", "--server", "--addr", "127.0.0.1:8181"]
    assert "--skip-version-check" in command
    assert command[-1] == "/p"
