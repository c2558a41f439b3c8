# SPDX-License-Identifier: Apache-2.0
"""The sealer: what is durable becomes sealed, once, in order, whatever is killed or sent to it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from control_plane.db import transaction
from ledger import checkpoint, export, head_store, leader, session, signature_store, store, tables
from ledger.audit import Verification
from ledger.chain import Evidence, parse_leaf, pending_bytes
from ledger.errors import LedgerRollback, NotDurable, TimeUnavailable
from ledger.head import read_head
from ledger.predicate import Predicate, pae, statement_bytes
from ledger.sealer import run
from ledger.sealer_config import Authority
from ledger.sealer_keys import load_sealer_keys
from tests.ledger import plane
from tests.ledger.support import (
    config,
    engine,
    pending,
    sealed,
    sealer_process,
    sealing,
    superuser,
    until_sealed,
    write,
)
from tests.postgres import RunningCluster, TestDatabase


@pytest.fixture(params=["18", pytest.param("15", marks=pytest.mark.faults)])
def database(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """A fresh migrated database of the newest and, with the slow tests, of the oldest PostgreSQL that a plane takes."""
    server: RunningCluster = request.getfixturevalue("cluster" if request.param == "18" else "cluster_15")
    with server.database() as fresh:
        yield fresh


async def verify(database: TestDatabase, head: Path | None = None) -> Verification:
    async with transaction(engine(database.audit), None) as conn:
        return await export.verify_log(conn, head=read_head(head) if head else None)


async def leaves(database: TestDatabase) -> list[Any]:
    async with transaction(engine(database.audit), None) as conn:
        return [parse_leaf(row.leaf) async for row in store.stream_entries(conn)]


async def test_a_durable_entry_is_sealed_under_a_checkpoint(database: TestDatabase, tmp_path: Path) -> None:
    """G5: the writer's entry, its place and its checkpoint; a tenant sees its own only (I7)."""
    settings = config(database, tmp_path)
    async with sealing(settings):
        mine = await write(database, pending(), pending())
        theirs = await write(database, pending("other"))
        await until_sealed(database, mine + theirs)
    async with transaction(engine(database.app), "demo") as conn:
        first, second = [await store.entry(conn, entry_id) for entry_id in mine]
        assert first is not None
        assert second is not None
        assert await store.entry(conn, theirs[0]) is None
        assert await store.sealed(conn, mine + theirs) == set(mine)
        leaf, after = parse_leaf(first[1]), parse_leaf(second[1])
        assert (leaf.tenant_index, leaf.tenant_prev, after.tenant_index) == (0, None, 1)
        head = await head_store.latest_checkpoint(conn)
        assert head is not None
        assert checkpoint.parse(head.note).root == head.root
        over = await head_store.checkpoint_over(conn, first[0])
        assert over is not None
        assert over.size > first[0]
        assert [key.key_id.split("-")[0] for key in await signature_store.keys(conn)] == ["evidence"] * 2 + ["log"] * 2
    assert read_head(settings.head) == head.note


async def test_an_entry_that_nobody_waits_for_is_sealed_with_the_next_or_soon(
    database: TestDatabase, tmp_path: Path
) -> None:
    """Decision 1: patience spares a batch, and is no way to lie unsealed."""
    patient = msgspec.structs.replace(pending(), patient=True)
    async with sealing(config(database, tmp_path)):
        alone = await write(database, patient)
        await until_sealed(database, alone)
        both = await write(database, msgspec.structs.replace(patient, entry_id=str(uuid.uuid4())), pending())
        await until_sealed(database, both)
    places = {str(leaf.entry_id): leaf.index for leaf in await leaves(database)}
    assert places[both[1]] == places[both[0]] + 1
    assert (await verify(database)).failures == ()


async def test_an_entry_keeps_its_place_after_a_restart(database: TestDatabase, tmp_path: Path) -> None:
    """I2: a new session goes on where the last one stopped, and publishes no key twice."""
    for _ in range(3):
        await sealed(database, tmp_path, pending())
    found = await leaves(database)
    assert [leaf.index for leaf in found] == list(range(7))
    assert [leaf.tenant_index for leaf in found if leaf.tenant == "demo"] == [0, 1, 2]
    assert (await verify(database)).failures == ()


async def test_bad_rows_are_recorded_and_do_not_stop_the_log(database: TestDatabase, tmp_path: Path) -> None:
    """I2, I7: bytes that are no entry, and an entry smuggled in for another tenant."""
    with psycopg.connect(database.conninfo("app")) as conn:
        conn.execute("SELECT set_config('qcos.tenant', 'demo', true)")
        for row in (b"no entry", pending_bytes(pending("other")), pending_bytes(pending()) + b" "):
            conn.execute("INSERT INTO ledger.inbox (tenant, pending) VALUES ('demo', %s)", (row,))
    await sealed(database, tmp_path, pending())
    found = await leaves(database)
    refused = [leaf.body["reason"] for leaf in found if leaf.kind == "ledger:row:refused"]
    assert refused == ["not_canonical", "leaf_invalid", "not_canonical"]
    assert not [leaf for leaf in found if leaf.tenant == "other"]
    assert (await verify(database)).ok


async def test_a_repeated_entry_is_sealed_once(database: TestDatabase, tmp_path: Path) -> None:
    """I2: a writer that retries after an unclear answer; another entry under the same id is refused."""
    entry = pending()
    await write(database, entry, entry)
    await sealed(database, tmp_path, entry)
    await sealed(database, tmp_path, pending(entry_id=entry.entry_id, body={"job_id": "other"}), pending())
    found = await leaves(database)
    assert sum(leaf.entry_id == entry.entry_id for leaf in found) == 1
    assert [leaf.body["reason"] for leaf in found if leaf.kind == "ledger:row:refused"] == ["leaf_invalid"]
    assert (await verify(database)).ok


def evidence(kind: str, **changes: Any) -> Evidence:
    """A finished statement for a bundle of its own."""
    members, _ = plane.record(kind)
    record = msgspec.convert(members | {"bundle_id": str(uuid.uuid4())} | changes, Predicate)
    return Evidence(
        bundle_id=record.bundle_id,
        level=record.evidence_level,
        statement=statement_bytes(record),
        salt=os.urandom(32),
    )


@pytest.mark.parametrize(
    ("kind", "made"),
    [("completed_full", (True, True)), ("completed_standard", (True, False)), ("denied", (False, False))],
)
async def test_evidence_is_signed_as_its_level_asks(
    database: TestDatabase, tmp_path: Path, kind: str, made: tuple[bool, bool]
) -> None:
    """G3, decision 3: over the DSSE PAE of the very statement that the entry commits to."""
    settings, proof = config(database, tmp_path), evidence(kind)
    async with sealing(settings):
        await until_sealed(database, await write(database, pending(), evidence=proof))
    async with transaction(engine(database.app), "demo") as conn:
        signed = await signature_store.signature(conn, proof.bundle_id)
    assert signed is not None
    assert (signed.mldsa65 is not None, signed.p256 is not None) == made
    if signed.mldsa65:
        public = load_sealer_keys(settings.keys).evidence_mldsa65.public
        assert isinstance(public, MLDSA65PublicKey)
        public.verify(signed.mldsa65, pae(proof.statement))
    assert (await verify(database)).failures == ()


@pytest.mark.parametrize(
    "change",
    [
        {"scope": {"profile": "dev", "plane": "plane-1", "tenant": "other"}},
        {"scope": {"profile": "saas", "plane": "plane-1", "tenant": "demo"}},
        {"scope": {"profile": "dev", "plane": "another", "tenant": "demo"}},
    ],
)
async def test_a_statement_of_another_scope_is_not_signed(
    database: TestDatabase, tmp_path: Path, change: dict[str, Any]
) -> None:
    """Decision 3: its entry is sealed, unsigned, beside an alarm."""
    proof = evidence("completed_full", **change)
    async with sealing(config(database, tmp_path)):
        await until_sealed(database, await write(database, pending(), evidence=proof))
    *_, entry, alarm = await leaves(database)
    assert (alarm.kind, alarm.body["entry_id"]) == ("evidence:refused", entry.entry_id)
    async with transaction(engine(database.app), "demo") as conn:
        assert await signature_store.signature(conn, proof.bundle_id) is None
    assert (await verify(database)).failures == ()


async def test_a_changed_signature_row_names_its_entry(database: TestDatabase, tmp_path: Path) -> None:
    """I4: also what lies beside the log."""
    async with sealing(config(database, tmp_path)):
        ids = await write(database, pending(), evidence=evidence("completed_full"))
        await until_sealed(database, ids)
    for change in (
        "UPDATE ledger.signature SET mldsa65 = set_byte(mldsa65, 9, get_byte(mldsa65, 9) # 1)",
        "UPDATE ledger.signature SET level = 'sealed', mldsa65 = NULL, pae_mu = NULL, p256 = NULL, pae_sha256 = NULL",
        "DELETE FROM ledger.signature",
    ):
        superuser(database, change)
        assert {failure.index for failure in (await verify(database)).failures} == {4}


async def test_stamps_are_fetched_and_missing_ones_are_asked_for_again(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 3: without an authority sealing goes on; when it is back, so are the tokens."""
    asked: list[bytes] = []

    async def stamp(target: str, digests: list[bytes]) -> list[bytes]:
        asked.extend(digests)
        if len(asked) < 8:
            raise TimeUnavailable(f"{target} is away")
        return [b"token over " + digest for digest in digests]

    monkeypatch.setattr("ledger.stamping.stamp", stamp)
    monkeypatch.setattr("ledger.stamping.RETRY_S", (0.01, 0.02))
    proof = evidence("completed_full")
    async with sealing(config(database, tmp_path, Authority("self", "unix:/nowhere"))):
        await until_sealed(database, await write(database, pending(), evidence=proof))
        async with transaction(engine(database.app), "demo") as conn:
            signed = await signature_store.signature(conn, proof.bundle_id)
        assert signed is not None
        assert signed.mldsa65 is not None
        imprint = hashlib.sha256(signed.mldsa65).digest()
        found: list[signature_store.StoredToken] = []
        while not found:
            async with transaction(engine(database.app), "demo") as conn:
                found = await signature_store.tokens(conn, imprint)
        assert [(token.operator, token.der) for token in found] == [("self", b"token over " + imprint)]
    async with transaction(engine(database.app), None) as conn:
        assert (await signature_store.unstamped(conn))[0] == 0


async def test_a_database_behind_the_head_outside_is_refused(database: TestDatabase, tmp_path: Path) -> None:
    """I4: ledger_rollback, and nothing is sealed over it."""
    settings = config(database, tmp_path)
    await sealed(database, tmp_path, pending(), pending())
    superuser(database, 'DELETE FROM ledger.entry WHERE "index" >= 5')
    superuser(database, "DELETE FROM ledger.checkpoint WHERE size > 5")
    superuser(database, "DELETE FROM ledger.tile WHERE start >= 5")
    with pytest.raises(LedgerRollback) as caught:
        await run(settings, asyncio.Event())
    assert (caught.value.code, caught.value.kept_size, caught.value.stored_size) == ("ledger_rollback", 6, 5)


async def test_a_log_whose_edge_was_changed_is_not_continued(database: TestDatabase, tmp_path: Path) -> None:
    """I4: the sealer signs no tree that it did not sign before."""
    await sealed(database, tmp_path, pending())
    superuser(database, "UPDATE ledger.tile SET hashes = sha256('x') WHERE start = 4")
    with pytest.raises(LedgerRollback):
        await run(config(database, tmp_path), asyncio.Event())


async def test_a_database_that_may_lose_commits_is_refused(database: TestDatabase, tmp_path: Path) -> None:
    """I2: synchronous_commit off for the sealer's role."""
    superuser(database, f"ALTER ROLE {database.roles.sealer} SET synchronous_commit = off")
    try:
        with pytest.raises(NotDurable, match="synchronous_commit"):
            await run(config(database, tmp_path), asyncio.Event())
    finally:
        superuser(database, f"ALTER ROLE {database.roles.sealer} RESET synchronous_commit")


async def writers(database: TestDatabase, tenants: list[str], each: int) -> list[str]:
    """Concurrent writers of one entry a transaction; the ids that were acknowledged."""

    async def one(tenant: str) -> list[str]:
        return [entry_id for _ in range(each) for entry_id in await write(database, pending(tenant))]

    return [entry_id for ids in await asyncio.gather(*map(one, tenants)) for entry_id in ids]


async def test_killed_sealers_lose_and_fork_nothing(database: TestDatabase, tmp_path: Path) -> None:
    """I2: kill -9 at random moments under concurrent writers; every acknowledged entry is there, once."""
    settings = config(database, tmp_path)
    chance = random.Random(7)
    work = asyncio.create_task(writers(database, ["demo", "other", "demo", "third"], 12))
    process = sealer_process(settings)
    try:
        for _ in range(4):
            await asyncio.sleep(0.6 + chance.random() / 4)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = sealer_process(settings)
        acknowledged = await work
        await until_sealed(database, acknowledged)
    finally:
        process.kill()
        process.wait()
    found = await leaves(database)
    assert sorted(leaf.entry_id for leaf in found if leaf.tenant != "_plane") == sorted(acknowledged)
    assert (await verify(database, settings.head)).failures == ()


async def test_a_stopped_leader_is_replaced_and_forks_nothing_when_it_wakes(
    database: TestDatabase, tmp_path: Path
) -> None:
    """I2, decision 1: a session that holds a lock and does nothing is ended by the one that stands by."""
    settings = config(database, tmp_path, takeover_s=0.5)
    first = sealer_process(settings)
    second = None
    try:
        await until_sealed(database, await write(database, pending()))
        first.send_signal(signal.SIGSTOP)
        second = sealer_process(settings)
        await until_sealed(database, await write(database, pending(), pending()))
        first.send_signal(signal.SIGCONT)
        await until_sealed(database, await writers(database, ["demo", "other"], 8))
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
    assert (await verify(database)).failures == ()


async def test_two_leaders_at_once_fork_nothing(database: TestDatabase, tmp_path: Path) -> None:
    """I2: the session lock is only a courtesy (a transaction pooler breaks it); the fence holds without it."""
    settings = config(database, tmp_path)

    async def claim(_: Any) -> bool:
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ledger.sealer.claim", claim)
        async with sealing(settings), sealing(settings):
            ids = await writers(database, ["demo", "other", "third"], 8)
            await until_sealed(database, ids)
    assert (await verify(database)).failures == ()


@pytest.mark.parametrize("point", ["_take", "_learn_chains", "_write"])
async def test_a_session_that_breaks_at_any_step_is_followed_by_one_that_goes_on(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """I2: the unclear commit too (the error comes after it): read again, never signed anew."""
    step = getattr(leader.Leader, point)
    broken: list[str] = []

    async def breaks(self: Any, *given: Any) -> Any:
        result = await step(self, *given)
        if len(broken) < 2:
            broken.append(point)
            raise psycopg.OperationalError("the connection is gone")
        return result

    monkeypatch.setattr(leader.Leader, point, breaks)
    async with sealing(config(database, tmp_path)):
        ids = await write(database, pending(), pending())
        await until_sealed(database, ids)
    assert len(broken) == 2
    assert (await verify(database)).failures == ()


async def test_a_look_for_work_reads_no_dead_row_of_the_queue(database: TestDatabase) -> None:
    """N18: the sealer's statements keep to their indexes, though statistics say that the inbox is empty."""
    superuser(database, "ANALYZE ledger.inbox")
    statements = ("SELECT 1", tables.WAITING, tables.DUE_NOW, tables.TAKE, tables.HEAD)
    for statement in (re.sub(r"%s|[$]\d", "256", one) for one in statements):
        async with await session.connect(database.conninfo("sealer")) as conn:
            rows = await (await conn.execute(f"EXPLAIN {statement}")).fetchall()
            assert "Seq Scan" not in str(rows), rows
