# SPDX-License-Identifier: Apache-2.0
"""The ways to write that `make bench-ledger` compares, each of 2 KB an entry: into the ledger, plainly, chained.

An entry is JSON as the plane's are: some hashes, names and numbers, in all 2,048 bytes. `Ledger` and `Bulk` write as
the plane's writers do, as role `app`. `Plain` is one INSERT into a table with a sequence and nothing else.
`Chained` is what many audit logs do: under a lock read the newest hash, hash it with the entry, insert, commit.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import struct

import msgspec
from psycopg.pq import abc

from bench.flight import checked, run
from ledger.canonical import parse_time
from ledger.chain import Pending, pending_bytes

SIZE = 2048
TENANT = "bench"
AT = parse_time("2026-11-21T10:00:00.000Z")
_MARK = "00000000-0000-4000-8000-000000000000"
_BYTEA, _TEXT, _JSONB, _BYTEAS = 17, 25, 3802, 1001

TABLES = """
CREATE TABLE IF NOT EXISTS public.plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL);
ALTER TABLE public.plain ALTER body SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS public.chained (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL, hash bytea NOT NULL);
ALTER TABLE public.chained ALTER body SET STORAGE EXTERNAL;
GRANT SELECT, INSERT ON public.plain, public.chained TO {app};
TRUNCATE public.plain, public.chained;
"""


class Entries:
    """Pending entries of one size, each with an id of its own."""

    def __init__(self, size: int = SIZE) -> None:
        hashes = {f"part_{number:02d}": "sha256:" + os.urandom(32).hex() for number in range(18)}
        body = {"job_id": "qcos-job-2026-11-21-a7f3", "attempt": 1, "shots": 1000, **hashes}
        kept: dict[str, object] = {}
        for name, value in body.items():
            if len(_bytes(kept | {name: value, "note": ""})) > size:
                break
            kept[name] = value
        kept["note"] = "x" * (size - len(_bytes(kept | {"note": ""})))
        self._before, mark, self._after = _bytes(kept).partition(_MARK.encode())
        assert mark
        self._serial = itertools.count(int.from_bytes(os.urandom(6)) << 16)

    def one(self) -> tuple[bytes, bytes]:
        """(entry id in 16 bytes, pending bytes) of a fresh one."""
        low = next(self._serial)
        entry_id = b"\x5f\x0c\x7b\x52\x0a\x52\x4c\x0c" + (1 << 63 | low).to_bytes(8)
        text = entry_id.hex()
        name = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        return entry_id, self._before + name.encode() + self._after


def _bytes(body: dict[str, object]) -> bytes:
    return pending_bytes(
        Pending(entry_id=_MARK, tenant=TENANT, kind="job:outcome:completed", actor="a-1", time=AT, body=body)
    )


class Ledger:
    """One entry a transaction, by the statement of `ledger.store.append`; done once it is sealed."""

    watched = True

    def __init__(self, size: int = SIZE) -> None:
        self._made = Entries(size)

    def prepare(self, conn: abc.PGconn) -> None:
        """The tenant is the session's, as an API's transaction sets it."""
        run(conn, b"SET qcos.tenant = '%s'" % TENANT.encode())
        checked(conn.prepare(b"put", _PUT, [_TEXT, _BYTEA]))

    def begin(self, conn: abc.PGconn) -> bytes:
        """The statement is the transaction."""
        key, pending = self._made.one()
        conn.send_query_prepared(b"put", [TENANT.encode(), pending], [0, 1], 1)
        return key

    def answered(self, _conn: abc.PGconn, _result: abc.PGresult) -> bool:
        """The answer comes after the commit."""
        return True


class Bulk(Ledger):
    """Many entries a transaction, by the function through which jobs are written; done once the last is sealed."""

    def __init__(self, entries: int, size: int = SIZE) -> None:
        super().__init__(size)
        self._entries = entries
        self._names = msgspec.json.encode({"blobs": [], "entries": [{}] * entries})
        self._no_blobs = _array([])

    def prepare(self, conn: abc.PGconn) -> None:
        """The tenant is the session's, as an API's transaction sets it."""
        run(conn, b"SET qcos.tenant = '%s'" % TENANT.encode())
        checked(conn.prepare(b"put", b"SELECT ledger.take_in($1, $2, $3, $4)", [_TEXT, _JSONB, _BYTEAS, _BYTEAS]))

    def begin(self, conn: abc.PGconn) -> bytes:
        """One call is the transaction."""
        made = [self._made.one() for _ in range(self._entries)]
        entries = _array([part for _, pending in made for part in (pending, None, None)])
        values = [TENANT.encode(), self._names, self._no_blobs, entries]
        conn.send_query_prepared(b"put", values, [0, 0, 1, 1], 1)
        return made[-1][0]


class Plain:
    """One INSERT a transaction."""

    watched = False

    def __init__(self) -> None:
        self._made = Entries()

    def prepare(self, conn: abc.PGconn) -> None:
        """The statement is parsed once."""
        checked(conn.prepare(b"put", b"INSERT INTO public.plain (body) VALUES ($1)", [_BYTEA]))

    def begin(self, conn: abc.PGconn) -> bytes:
        """The statement is the transaction."""
        key, body = self._made.one()
        conn.send_query_prepared(b"put", [body], [1], 1)
        return key

    def answered(self, _conn: abc.PGconn, _result: abc.PGresult) -> bool:
        """The answer comes after the commit."""
        return True


class Chained:
    """Under a lock: the newest hash, then SHA-256 of it with the entry, inserted and committed; two round trips."""

    watched = False

    def __init__(self) -> None:
        self._made = Entries()
        self._bodies: dict[int, bytes] = {}

    def prepare(self, conn: abc.PGconn) -> None:
        """Nothing: several statements in one message can't be prepared."""

    def begin(self, conn: abc.PGconn) -> bytes:
        """Lock and read; the hash is the client's to make."""
        key, self._bodies[conn.socket] = self._made.one()
        conn.send_query(_HEAD)
        return key

    def answered(self, conn: abc.PGconn, result: abc.PGresult) -> bool:
        """After the head comes the row; after the row it is committed."""
        body = self._bodies.pop(conn.socket, None)
        if body is None:
            return True
        head = bytes.fromhex((result.get_value(0, 0) or b"").decode()) if result.ntuples else b""
        made = hashlib.sha256(head + body).hexdigest()
        conn.send_query(
            rf"INSERT INTO public.chained (body, hash) VALUES ('\x{body.hex()}', '\x{made}'); COMMIT".encode()
        )
        return False


def _array(values: list[bytes | None]) -> bytes:
    """bytea[] in PostgreSQL's binary form."""
    parts = [struct.pack("!iii", 1 if values else 0, 1, _BYTEA)]
    if values:
        parts.append(struct.pack("!ii", len(values), 1))
    for value in values:
        parts += [struct.pack("!i", -1)] if value is None else [struct.pack("!i", len(value)), value]
    return b"".join(parts)


_PUT = b"""
    INSERT INTO ledger.inbox (tenant, pending, bundle_id, level, statement, salt, traceparent, patient)
    VALUES ($1, $2, NULL, NULL, NULL, NULL, NULL, false)"""
_HEAD = (
    b"BEGIN; SELECT pg_advisory_xact_lock(7, 7);"
    b" SELECT encode(hash, 'hex') FROM public.chained ORDER BY id DESC LIMIT 1"
)
