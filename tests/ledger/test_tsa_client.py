# SPDX-License-Identifier: Apache-2.0
"""Asking an authority over HTTP: openssl's own tokens, and every way in which a server is none."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ledger import timestamp, tsa_client
from ledger.errors import TimeUnavailable, TokenInvalid
from ledger.sealer_config import Authority
from ledger.session import Connection
from ledger.stamping import stamp_round
from tests.ledger.support import config, sealing
from tests.outside_time import OutsideTime, make_authority, needs_openssl
from tests.postgres import TestDatabase

DIGESTS = [hashlib.sha256(bytes([n])).digest() for n in range(6)]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideTime]:
    room = tmp_path_factory.mktemp("outside")
    make_authority(room)
    with OutsideTime(room).serving() as serving:
        yield serving


def chain(room: Path) -> tuple[bytes, ...]:
    return tuple(
        part.public_bytes(Encoding.DER) for part in x509.load_pem_x509_certificates((room / "chain.pem").read_bytes())
    )


@needs_openssl
async def test_digests_are_stamped_over_http_in_their_order(outside: OutsideTime) -> None:
    tokens = await tsa_client.stamp(outside.url, DIGESTS)
    authority = timestamp.Authority("external", "outside", chain(outside.room))
    for token, digest in zip(tokens, DIGESTS, strict=True):
        authority.check(timestamp.parse(token), digest)


@asynccontextmanager
async def answering(status: int, body: bytes) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b"", TimeUnavailable),
        (404, b"<html>", TimeUnavailable),
        (200, b"<html>", TokenInvalid),
        (200, b"", TokenInvalid),
        (200, b"0" * (tsa_client.MAX_REPLY_BYTES + 1), TokenInvalid),
    ],
)
async def test_a_server_that_is_no_authority_is_refused(status: int, body: bytes, error: type[Exception]) -> None:
    async with answering(status, body) as url:
        with pytest.raises(error):
            await tsa_client.stamp(url, DIGESTS[:1])


async def test_nobody_at_the_url_is_unavailable() -> None:
    with pytest.raises(TimeUnavailable):
        await tsa_client.stamp("http://127.0.0.1:1/", DIGESTS[:1])


@needs_openssl
async def test_a_token_of_another_authority_than_the_configured_one_is_not_kept(
    outside: OutsideTime, database: TestDatabase, tmp_path: Path
) -> None:
    """G3: evidence with it would be `unanchored` under every trust file of this plane."""
    make_authority(tmp_path)
    with psycopg.connect(database.conninfo("superuser"), autocommit=True) as admin:
        admin.execute("INSERT INTO ledger.unstamped (imprint, operator) VALUES (%b, 'external')", (DIGESTS[0],))
        async with await psycopg.AsyncConnection.connect(database.conninfo("sealer"), autocommit=True) as conn:
            with pytest.raises(TokenInvalid):
                await stamp_round(conn, Authority("external", outside.url, chain(tmp_path)))
            assert await _kept(conn) == (1, 0)
            assert await stamp_round(conn, Authority("external", outside.url, chain(outside.room))) == 1
            assert await _kept(conn) == (0, 1)


async def _kept(conn: Connection) -> tuple[int, int]:
    """(awaited, stored) tokens."""
    cursor = await conn.execute("SELECT (SELECT count(*) FROM ledger.unstamped), (SELECT count(*) FROM ledger.token)")
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]


async def test_what_waits_when_an_authority_is_added_is_due_there_too(database: TestDatabase, tmp_path: Path) -> None:
    """Decision 3: it will be stamped inside the new authority's time of use, and both tokens are demanded then."""
    nobody = f"unix:{tmp_path / 'none'}"
    with psycopg.connect(database.conninfo("superuser"), autocommit=True) as admin:
        admin.execute("INSERT INTO ledger.unstamped (imprint, operator) VALUES (%b, 'self')", (DIGESTS[0],))
        async with sealing(config(database, tmp_path, Authority("self", nobody), Authority("external", nobody))):
            while True:
                rows = admin.execute(
                    "SELECT operator FROM ledger.unstamped WHERE imprint = %b", (DIGESTS[0],)
                ).fetchall()
                if {row[0] for row in rows} == {"self", "external"}:
                    break
                await asyncio.sleep(0.01)
