# SPDX-License-Identifier: Apache-2.0
"""Policy revisions in the database (G2): each push with its files, and the sealer's signatures of them.

Each function belongs to the caller's transaction. In force is the newest push that has a signature; a push whose entry
is sealed without one was refused by the sealer. Nothing here judges files or signatures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_COLUMNS = "p.number, p.entry_id::text, p.revision, p.base, p.whose AS tenant, p.actor, p.message, p.pushed_at"
_NEWEST = text("SELECT number, revision FROM ledger.policy_signature ORDER BY number DESC LIMIT 1")
_IN_FORCE = text(f"""
    SELECT {_COLUMNS}, p.files, s.signature
    FROM policy.push p JOIN ledger.policy_signature s ON s.entry_id = p.entry_id
    ORDER BY p.number DESC LIMIT 1""")
_REVISION = text(f"""
    SELECT {_COLUMNS}, p.files, s.signature
    FROM policy.push p JOIN ledger.policy_signature s ON s.entry_id = p.entry_id
    WHERE p.revision = :revision ORDER BY p.number DESC LIMIT 1""")
_SUPERSEDED = text("""
    SELECT extract(epoch FROM now() - p.pushed_at) FROM policy.push p
    JOIN ledger.policy_signature s ON s.entry_id = p.entry_id
    WHERE p.number > :number ORDER BY p.number LIMIT 1""")
_HISTORY = text(f"""
    SELECT {_COLUMNS}, s.entry_id IS NOT NULL AS signed,
           s.entry_id IS NULL AND e.entry_id IS NOT NULL AS refused
    FROM policy.push p LEFT JOIN ledger.policy_signature s ON s.entry_id = p.entry_id
    LEFT JOIN ledger.entry e ON e.entry_id = p.entry_id
    WHERE p.number < :before ORDER BY p.number DESC LIMIT :many""")
_CURRENT = text(f"""
    SELECT {_COLUMNS} FROM policy.push p JOIN ledger.policy_signature s ON s.entry_id = p.entry_id
    ORDER BY p.number DESC LIMIT 1""")
_HEAD = text("""
    SELECT coalesce((SELECT max(number) FROM policy.push), 0), (
        SELECT p.revision FROM policy.push p
        WHERE EXISTS (SELECT FROM ledger.policy_signature s WHERE s.entry_id = p.entry_id)
           OR NOT EXISTS (SELECT FROM ledger.entry e WHERE e.entry_id = p.entry_id)
        ORDER BY p.number DESC LIMIT 1)""")
_INSERT = text("""
    INSERT INTO policy.push (number, entry_id, revision, base, whose, actor, message, files, pushed_at)
    VALUES (:number, CAST(:entry_id AS uuid), :revision, :base, :tenant, :actor, :message, :files, :pushed_at)
    ON CONFLICT DO NOTHING RETURNING number""")
_EVERYTHING = 2**62


class Push(Struct, frozen=True, kw_only=True):
    """One push; `tenant` and `actor` are whose administrator it was, the plane's own where it was the plane."""

    number: int
    entry_id: str
    revision: str
    base: str | None
    tenant: str
    actor: str
    message: str
    pushed_at: datetime


class Stored(Push, frozen=True, kw_only=True):
    """A signed push with its files by path."""

    files: dict[str, bytes]
    signature: str


class Told(Push, frozen=True, kw_only=True):
    """A push and what became of it: neither signed nor refused until the sealer has seen it."""

    signed: bool
    refused: bool


async def newest(conn: AsyncConnection) -> tuple[int, str] | None:
    """Number and revision of the push in force; None before the first."""
    row = (await conn.execute(_NEWEST)).one_or_none()
    return None if row is None else (row[0], row[1])


async def current(conn: AsyncConnection) -> Push | None:
    """The push in force without its files; None before the first."""
    row = (await conn.execute(_CURRENT)).mappings().one_or_none()
    return None if row is None else Push(**row)


async def in_force(conn: AsyncConnection) -> Stored | None:
    """The push in force; None before the first."""
    return _stored((await conn.execute(_IN_FORCE)).mappings().one_or_none())


async def by_revision(conn: AsyncConnection, revision: str) -> Stored | None:
    """The newest signed push of a revision; None where there was none."""
    return _stored((await conn.execute(_REVISION, {"revision": revision})).mappings().one_or_none())


async def superseded_s(conn: AsyncConnection, number: int) -> float | None:
    """How long ago another push took the place of this one; None where it is in force."""
    row = (await conn.execute(_SUPERSEDED, {"number": number})).one_or_none()
    return None if row is None else float(row[0])


async def history(conn: AsyncConnection, many: int, before: int = _EVERYTHING) -> Sequence[Told]:
    """The newest pushes below a number, newest first."""
    rows = (await conn.execute(_HISTORY, {"many": many, "before": before})).mappings()
    return [msgspec.convert(dict(row), Told) for row in rows]


async def head(conn: AsyncConnection) -> tuple[int, str | None]:
    """What a push has to follow: the last number given, and the revision of the last push that wasn't refused."""
    number, standing = (await conn.execute(_HEAD)).one()
    return number, standing


async def put(conn: AsyncConnection, push: Push, files: Mapping[str, bytes]) -> bool:
    """Keep a push; False where another took its number, once that one has committed."""
    values = msgspec.structs.asdict(push) | {"files": _packed(files)}
    return (await conn.execute(_INSERT, values)).one_or_none() is not None


_files = msgspec.json.Decoder(dict[str, str])


def _packed(files: Mapping[str, bytes]) -> bytes:
    return msgspec.json.encode({path: content.decode() for path, content in files.items()}, order="sorted")


def _stored(row: Any) -> Stored | None:
    if row is None:
        return None
    try:
        files = {path: content.encode() for path, content in _files.decode(bytes(row["files"])).items()}
    except ValueError:
        files = {}  # changed in the database: no set of policies, and no signature is of it
    values = dict(row) | {"files": files, "signature": bytes(row["signature"]).decode()}
    return Stored(**values)
