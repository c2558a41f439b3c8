# SPDX-License-Identifier: Apache-2.0
"""Single random mutations of sealed data, each of which must be found; nothing may be reported on what is unchanged.

`python -m tests.ledger.mutations [--count 10000] [--seed N]`. Half are changes of bundle files (`ledger.attack`), half
of a sealed log in PostgreSQL, made by its superuser with every constraint and trigger taken off: bits, fields, rows,
order and tails of entries, tiles, checkpoints, signatures, keys and folded records. Each is judged by what `qcos ledger
verify` runs, with the head that is kept outside, and rolled back. Prints what was tried by class, and each mutation
that was not found; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import attack, fold
from ledger.audit import verify_log
from ledger.chain import Evidence, pending_bytes
from ledger.head import read_head
from ledger.predicate import Predicate, statement_bytes
from tests.ledger import plane
from tests.ledger.support import config, engine, pending, sealing, until_sealed, write
from tests.postgres import TestDatabase, running_cluster

ROOT = Path(__file__).parents[1] / "vectors" / "bundles"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
TABLES = ("entry", "tile", "checkpoint", "signature", "key", "folded")
BYTES = {
    "entry": ("leaf",),
    "tile": ("hashes",),
    "checkpoint": ("root", "note"),
    "signature": ("pae_mu", "mldsa65", "pae_sha256", "p256"),
    "key": ("public",),
    "folded": ("pending",),
}
FIELDS = {
    "entry": ("index", "entry_id", "tenant", "tenant_index", "kind"),
    "tile": ("level", "index", "start"),
    "checkpoint": ("size",),
    "signature": ("bundle_id", "tenant", "entry_id", "index", "level"),
    "key": ("key_id", "alg", "purpose", "valid_from"),
    "folded": ("tenant", "fold", "position", "entry_id"),
}
OTHER = {  # a value that differs from any that stands there
    "index": '"index" + 1 + (random() * 50)::int',
    "tenant_index": "tenant_index + 1 + (random() * 50)::int",
    "size": "size + 1 + (random() * 50)::int",
    "position": "position + 1 + (random() * 50)::int",
    "level": "level + 1",
    "start": "start + 1",
    "entry_id": "gen_random_uuid()",
    "bundle_id": "gen_random_uuid()",
    "fold": "gen_random_uuid()",
    "tenant": "tenant || 'x'",
    "kind": "kind || 'x'",
    "key_id": "key_id || 'x'",
    "alg": "alg || 'x'",
    "purpose": "purpose || 'x'",
    "valid_from": "valid_from + interval '1 second'",
}
ORDERED = (("entry", "leaf"), ("checkpoint", "note"), ("checkpoint", "root"), ("tile", "hashes"), ("key", "public"))
TAILS = {"entry": "index", "checkpoint": "size", "tile": "start", "signature": "index", "folded": "position"}


class Found(Counter[str]):
    """Tried and found by class, and what was not found."""

    def __init__(self) -> None:
        super().__init__()
        self.missed: list[str] = []
        self.good = 0

    def judge(self, name: str, mutation: str, *, found: bool) -> None:
        """One mutation's outcome."""
        self[name] += 1
        if found:
            self.good += 1
        else:
            self.missed.append(f"{name}: {mutation}")


def bundles(found: Found, count: int, seed: int) -> None:
    """About so many mutations of bundle files of every kind."""
    trust, files = (ROOT / "trust.json").read_bytes(), sorted((ROOT / "good").glob("*.json"))
    share = max(1, count // len(files))
    for path in files:
        told = attack.attack(path.read_bytes(), trust, NOW, seed=seed, most=max(8, share // 7), go_on=_up_to(share))
        for kind in told.classes:
            found[f"bundle: {kind.name}"] += kind.tried
            found.good += kind.found
        found.missed += [f"{path.name}: {one.attack}: {one.path}: {one.why}" for one in told.survived]


def _up_to(most: int) -> Any:
    left = iter(range(most))
    return lambda _name, _tried: next(left, None) is not None


@asynccontextmanager
async def sealed_log(database: TestDatabase, home: Path) -> AsyncIterator[bytes]:
    """A log of every kind of entry; its head. Yields nothing else: the rest is in the database."""
    async with sealing(config(database, home)):
        for kind in ("completed_full", "completed_standard", "denied", "completed_full"):
            await until_sealed(database, await write(database, pending(), evidence=_evidence(kind)))
        await until_sealed(database, await write(database, *(pending("other") for _ in range(9))))
        rows = [pending_bytes(pending()) for _ in range(3)]
        entry = msgspec.structs.replace(pending(), kind=fold.FOLDED, body=fold.body(rows))
        names = [msgspec.json.decode(row)["entry_id"] for row in rows]
        with psycopg.connect(database.conninfo("superuser")) as conn:
            for position, (name, row) in enumerate(zip(names, rows, strict=True)):
                conn.execute(
                    "INSERT INTO ledger.folded (tenant, fold, position, entry_id, pending) VALUES (%s, %s, %s, %s, %s)",
                    ("demo", entry.entry_id, position, name, row),
                )
        await until_sealed(database, await write(database, entry))
        await until_sealed(database, await write(database, *(pending() for _ in range(5))))
    head = read_head(home / "ledger" / "head")
    assert head is not None
    yield head


def _evidence(kind: str) -> Evidence:
    members, _ = plane.record(kind)
    record = msgspec.convert(members | {"bundle_id": str(uuid.uuid4())}, Predicate)
    return Evidence(
        bundle_id=record.bundle_id,
        level=record.evidence_level,
        statement=statement_bytes(record),
        salt=os.urandom(32),
    )


async def log(found: Found, database: TestDatabase, home: Path, count: int, seed: int) -> None:
    """So many mutations of a sealed log, each rolled back; and the log as it is, before, between and after."""
    chance = Random(seed)
    async with sealed_log(database, home) as head:
        pool = engine(database.superuser)
        try:
            async with pool.connect() as conn:
                await _unguarded(conn)
                for number in range(count):
                    if number % 500 == 0:
                        await _clean(found, conn, head)
                    await _mutated(found, conn, head, chance)
                await _clean(found, conn, head)
                await conn.rollback()
        finally:
            await pool.dispose()


async def _unguarded(conn: AsyncConnection) -> None:
    """What the owner of a server can take off before changing rows; it is all one transaction, never committed."""
    rows = await conn.execute(
        text("""
        SELECT conrelid::regclass::text AS "table", conname FROM pg_constraint
        WHERE connamespace = 'ledger'::regnamespace AND contype <> 'n' ORDER BY contype = 'p'""")
    )
    for row in rows.all():
        await conn.exec_driver_sql(f'ALTER TABLE {row.table} DROP CONSTRAINT IF EXISTS "{row.conname}" CASCADE')
    columns = await conn.execute(
        text("""
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'ledger' AND is_nullable = 'NO' AND table_name = ANY (:tables)"""),
        {"tables": list(TABLES)},
    )
    for row in columns.all():
        await conn.exec_driver_sql(f'ALTER TABLE ledger.{row[0]} ALTER COLUMN "{row[1]}" DROP NOT NULL')
    await conn.exec_driver_sql("SET session_replication_role = replica")


async def _clean(found: Found, conn: AsyncConnection, head: bytes) -> None:
    told = await verify_log(conn, head=head)
    if not told.ok:
        found.missed.append(f"unchanged, and reported: {told.failures[:3]}")


async def _mutated(found: Found, conn: AsyncConnection, head: bytes, chance: Random) -> None:
    name, statement = next(mutations(chance))
    await conn.exec_driver_sql("SAVEPOINT mutation")
    done = await conn.exec_driver_sql(statement)
    if done.rowcount:
        try:
            told = await verify_log(conn, head=head)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no finding
            found.judge(f"log: {name}", f"{statement}: {error!r}"[:600], found=False)
        else:
            found.judge(f"log: {name}", statement, found=not told.ok)
    await conn.exec_driver_sql("ROLLBACK TO SAVEPOINT mutation")


def mutations(chance: Random) -> Iterator[tuple[str, str]]:
    """Statements without end, each of which changes one thing; one that finds no row is no mutation."""
    makers = (_bit, _bit, _bit, _field, _field, _null, _row, _double, _order, _tail)
    while True:
        yield chance.choice(makers)(chance)


def _one(table: str, chance: Random, wanted: str = "true") -> str:
    """One row of a table, the same for the same number."""
    key = {"entry": '"index"', "checkpoint": "size", "tile": 'level, "index", start', "key": "key_id, alg"}
    order = key.get(table, "entry_id")
    return (
        f"ctid = (SELECT ctid FROM ledger.{table} WHERE {wanted} ORDER BY {order} "
        f"OFFSET mod({chance.randrange(10**6)}, greatest(1, (SELECT count(*) FROM ledger.{table} WHERE {wanted}))) "
        "LIMIT 1)"
    )


def _bit(chance: Random) -> tuple[str, str]:
    table = chance.choice(TABLES)
    column = chance.choice(BYTES[table])
    place = f"mod({chance.randrange(10**6)}, length({column}) * 8)"
    where = _one(table, chance, f"{column} IS NOT NULL")
    change = f"set_bit({column}, {place}, 1 - get_bit({column}, {place}))"
    return f"bit of {table}.{column}", f"UPDATE ledger.{table} SET {column} = {change} WHERE {where}"


def _field(chance: Random) -> tuple[str, str]:
    table = chance.choice(TABLES)
    column = chance.choice(FIELDS[table])
    other = OTHER[column]
    if (table, column) == ("signature", "level"):
        other = "CASE level WHEN 'full' THEN 'standard' ELSE 'full' END"
    where = _one(table, chance, f'"{column}" IS NOT NULL')
    return f"field of {table}", f'UPDATE ledger.{table} SET "{column}" = {other} WHERE {where}'


def _null(chance: Random) -> tuple[str, str]:
    table = chance.choice(TABLES)
    column = chance.choice(FIELDS[table] + BYTES[table])
    where = _one(table, chance, f'"{column}" IS NOT NULL')
    return f"field of {table} erased", f'UPDATE ledger.{table} SET "{column}" = NULL WHERE {where}'


def _row(chance: Random) -> tuple[str, str]:
    table = chance.choice(TABLES)
    return f"row of {table} dropped", f"DELETE FROM ledger.{table} WHERE {_one(table, chance)}"


def _double(chance: Random) -> tuple[str, str]:
    table = chance.choice(TABLES)
    where = _one(table, chance)
    return f"row of {table} doubled", f"INSERT INTO ledger.{table} SELECT * FROM ledger.{table} WHERE {where}"


def _order(chance: Random) -> tuple[str, str]:
    table, column = chance.choice(ORDERED)
    one, two = _one(table, chance), _one(table, chance)
    return f"rows of {table} swapped", (
        f"WITH a AS (SELECT ctid AS at, {column} AS held FROM ledger.{table} WHERE {one}), "
        f"b AS (SELECT ctid AS at, {column} AS held FROM ledger.{table} WHERE {two}) "
        f"UPDATE ledger.{table} t SET {column} = CASE WHEN t.ctid = a.at THEN b.held ELSE a.held END "
        f"FROM a, b WHERE t.ctid IN (a.at, b.at) AND a.held <> b.held"
    )


def _tail(chance: Random) -> tuple[str, str]:
    table = chance.choice(sorted(TAILS))
    column = TAILS[table]
    cut = f'(SELECT "{column}" FROM ledger.{table} WHERE {_one(table, chance)})'
    return f"tail of {table} cut", f'DELETE FROM ledger.{table} WHERE "{column}" >= {cut}'


def report(found: Found) -> str:
    """A table by class, then what was not found."""
    missed = Counter(one.partition(": ")[0] + ": " + one.partition(": ")[2].partition(": ")[0] for one in found.missed)
    lines = ["| mutation | tried |", "|---|---:|"]
    lines += [f"| {name} | {tried:,} |" for name, tried in sorted(found.items())]
    lines += ["", f"{found.total():,} mutations, {found.good:,} found, {len(found.missed)} not found"]
    return "\n".join(
        [*lines, *(f"not found: {one}" for one in found.missed[:50]), *(f"{n} {k}" for k, n in missed.items())]
    )


def main() -> int:
    """Make a server, a log, and mutations."""
    parser = argparse.ArgumentParser(description="Mutate sealed data; every mutation must be found.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--log-only", action="store_true")
    arguments = parser.parse_args()
    found = Found()
    server = running_cluster()
    try:
        with server.database() as database:
            home = server.folder / "plane"
            asyncio.run(log(found, database, home, arguments.count - arguments.count // 2, arguments.seed))
    finally:
        server.stop()
    if not arguments.log_only:
        bundles(found, arguments.count - found.total(), arguments.seed)
    sys.stdout.write(report(found) + "\n")
    return 1 if found.missed else 0


if __name__ == "__main__":
    sys.exit(main())
