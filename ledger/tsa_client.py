# SPDX-License-Identifier: Apache-2.0
"""Asking a time-stamping authority: digests in, tokens out, over a Unix socket or HTTP(S).

Each token is checked to answer its own request (imprint and nonce) before it is handed on; whether its
signature is good is for the verifier, who holds the trust file. A failure is TimeUnavailable or
TokenInvalid and leaves nothing behind, so the caller just asks again. MUST NOT be called inside a
database transaction: an authority may hang.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress

from ledger.errors import TimeUnavailable
from ledger.timestamp import request, token_of

UNIX = "unix:"
QUERY = "application/timestamp-query"
MAX_REPLY_BYTES = 64 * 1024
WINDOW = 32  # requests under way on one connection; the replies to so many fit any socket buffer
PARALLEL = 4  # connections to an authority of someone else: polite, and enough for one head a minute


async def stamp(target: str, digests: Sequence[bytes], *, deadline_s: float = 10.0) -> list[bytes]:
    """One TimeStampToken (DER) for each SHA-256 digest, in their order; all of them or an error.

    `target` is `unix:/path/to.sock` or an http(s) URL. TimeUnavailable when the authority is not there,
    refuses, or takes longer than `deadline_s` for all of them; TokenInvalid when it answers something
    else than was asked.
    """
    nonces = [secrets.randbits(63) | 1 << 62 for _ in digests]
    requests = [request(digest, nonce) for digest, nonce in zip(digests, nonces, strict=True)]
    try:
        async with asyncio.timeout(deadline_s):
            ask = _ask_socket if target.startswith(UNIX) else _ask_url
            replies = await ask(target, requests)
    except TimeoutError as error:
        raise TimeUnavailable(f"no answer in {deadline_s} s") from error
    except (OSError, EOFError, ValueError) as error:
        raise TimeUnavailable(f"no answer: {type(error).__name__}") from error
    return [
        token_of(reply, digest=digest, nonce=nonce)
        for reply, digest, nonce in zip(replies, digests, nonces, strict=True)
    ]


async def _ask_socket(target: str, requests: Sequence[bytes]) -> list[bytes]:
    """Pipelined on one connection: our own authority answers in order (RFC 9112 section 9.3.2)."""
    reader, writer = await asyncio.open_unix_connection(target.removeprefix(UNIX), limit=MAX_REPLY_BYTES)
    try:
        replies: list[bytes] = []
        for start in range(0, len(requests), WINDOW):
            batch = requests[start : start + WINDOW]
            writer.write(b"".join(_post(body) for body in batch))
            await writer.drain()
            replies += [await _reply(reader) for _ in batch]
        return replies
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: tsa\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        QUERY.encode(),
        len(body),
        body,
    )


async def _reply(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    _check_status(int(head[0].split(" ")[1]))
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    length = int(fields.get("content-length", "-1"))
    if not 0 < length <= MAX_REPLY_BYTES:
        raise TimeUnavailable("a reply of no stated or of an absurd length")
    return await reader.readexactly(length)


async def _ask_url(target: str, requests: Sequence[bytes]) -> list[bytes]:
    import aiohttp

    gate = asyncio.Semaphore(PARALLEL)

    async def ask(session: aiohttp.ClientSession, body: bytes) -> bytes:
        async with gate, session.post(target, data=body, headers={"Content-Type": QUERY}) as reply:
            _check_status(reply.status)
            data = await reply.content.read(MAX_REPLY_BYTES + 1)
            while len(data) <= MAX_REPLY_BYTES and not reply.content.at_eof():
                data += await reply.content.read(MAX_REPLY_BYTES + 1 - len(data))
            return data

    try:
        async with aiohttp.ClientSession() as session:
            return list(await asyncio.gather(*(ask(session, body) for body in requests)))
    except aiohttp.ClientError as error:
        raise TimeUnavailable(f"no answer: {type(error).__name__}") from error


def _check_status(status: int) -> None:
    if status != 200:
        raise TimeUnavailable(f"HTTP status {status}")
