# SPDX-License-Identifier: Apache-2.0
"""A log that goes on under another origin: said in its first entry, verified across both, and forged by nobody (I2)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from ledger import checkpoint
from ledger.audit import Verification
from ledger.batch import Plane
from ledger.canonical import dumps
from ledger.chain import PLANE as NOBODY
from ledger.chain import parse_leaf
from ledger.errors import LeafInvalid, LedgerError, LogForeign, UsageError
from ledger.head import read_head, write_head
from ledger.sealer import begin
from ledger.sealer_keys import load_sealer_keys
from ledger.succession import KIND, Head, Succession, check_succession, head_of, parse_succession
from ledger.trust import parse_trust
from ledger.verify import verify as judge
from tests.ledger.plane import NOW
from tests.ledger.support import ORIGIN, config, pending, sealed, sealing, superuser, until_sealed, write
from tests.ledger.test_log_verify import verify
from tests.postgres import TestDatabase

SECOND = f"{ORIGIN}/2026-11-21-0badc0de"
LOST = hashlib.sha256(b"a root that is gone").digest()


def asked(database: TestDatabase, statement: str) -> list[Any]:
    with psycopg.connect(database.conninfo("audit")) as conn:
        return conn.cursor(binary=True).execute(statement.encode()).fetchall()


async def succeeded(database: TestDatabase, home: Path) -> Succession:
    """A log of seven entries whose eighth and ninth are gone, and the log after it with two more of its own."""
    await sealed(database, home, pending(), pending("other"), pending())
    kept = head_of(read_head(home / "ledger" / "head") or b"")
    keys = load_sealer_keys(home / "keys")
    lost = checkpoint.sign(ORIGIN, kept.size + 2, LOST, ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)
    log = Succession(SECOND, head_of(lost), kept, "the disk died", "os:root", "2026-11-21T10:00:00.000Z")
    note = await begin(config(database, home), log)
    write_head(home / "ledger" / "head", note)
    two = await write(database, pending(), pending())
    async with sealing(config(database, home)):
        await until_sealed(database, two)
    return log


async def test_a_log_goes_on_under_another_name_and_verifies_across_both(
    database: TestDatabase, tmp_path: Path
) -> None:
    """I2, I4: entries, tiles and chains of before stay; the first entry names the head that was lost."""
    log = await succeeded(database, tmp_path)
    at = log.kept.size
    ((leaf,),) = asked(database, f'SELECT leaf FROM ledger.entry WHERE "index" = {at}')
    origins = asked(database, "SELECT note FROM ledger.checkpoint ORDER BY size")
    first = parse_leaf(leaf)
    assert (first.tenant, first.kind, first.prev_checkpoint) == (NOBODY, KIND, log.kept.checkpoint)
    assert first.body == log.body()
    names = [checkpoint.parse(note).origin for (note,) in origins]
    assert names[0] == ORIGIN
    assert names[-2:] == [SECOND, SECOND]
    found: Verification = await verify(database, read_head(tmp_path / "ledger" / "head"))
    assert found.failures == ()
    assert found.size == at + 3


async def test_the_head_that_was_lost_is_still_missed(database: TestDatabase, tmp_path: Path) -> None:
    """I4: who kept the old head sees that this log hasn't it, whatever the entry says; an older one is there."""
    log = await succeeded(database, tmp_path)
    keys = load_sealer_keys(tmp_path / "keys")
    lost = checkpoint.sign(ORIGIN, log.previous.size, LOST, ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)
    found = await verify(database, lost)
    assert [failure.reason.split(":")[0] for failure in found.failures] == ["ledger_rollback"]
    ((kept,),) = asked(database, f"SELECT note FROM ledger.checkpoint WHERE size = {log.kept.size}")
    assert (await verify(database, kept)).ok


async def test_a_name_that_no_entry_gave_is_found(database: TestDatabase, tmp_path: Path) -> None:
    """I4: a checkpoint of another origin than the one that is due is not this log's, though its keys signed it."""
    await sealed(database, tmp_path, pending())
    keys = load_sealer_keys(tmp_path / "keys")
    ((size, root),) = asked(database, "SELECT size, root FROM ledger.checkpoint ORDER BY size DESC LIMIT 1")
    note = checkpoint.sign(SECOND, size, root, ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)
    superuser(database, "UPDATE ledger.checkpoint SET note = %s WHERE size = %s", note, size)
    (failure,) = (await verify(database)).failures
    assert failure.index == size - 1
    assert SECOND in failure.reason


def heads() -> tuple[Head, Succession]:
    before = Head(ORIGIN, 7, "ab" * 32, "sha256:" + "cd" * 32)
    lost = Head(ORIGIN, 9, "12" * 32, "sha256:" + "34" * 32)
    return before, Succession(SECOND, lost, before, "r", "os:root", "")


WRONG = {
    "kept less": lambda log: replace(log, kept=replace(log.kept, size=6)),
    "kept another": lambda log: replace(log, kept=replace(log.kept, root="00" * 32)),
    "lost nothing": lambda log: replace(log, previous=replace(log.previous, size=6)),
    "an origin of before": lambda log: replace(log, origin=ORIGIN),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_beginning_that_does_not_follow_is_refused(wrong: str) -> None:
    before, log = heads()
    check_succession(log, before=before, first=True, origins=frozenset({ORIGIN}))
    with pytest.raises(LeafInvalid):
        check_succession(WRONG[wrong](log), before=before, first=True, origins=frozenset({ORIGIN}))


def test_a_log_begins_with_its_batch_and_after_a_checkpoint() -> None:
    before, log = heads()
    for head, first in ((before, False), (None, True)):
        with pytest.raises(LeafInvalid):
            check_succession(log, before=head, first=first, origins=frozenset({ORIGIN}))
    with pytest.raises(LeafInvalid):
        parse_succession(b'{"origin":"a b"}')


async def test_it_begins_on_what_was_kept_and_on_nothing_else(database: TestDatabase, tmp_path: Path) -> None:
    log = await succeeded(database, tmp_path)
    with pytest.raises(LedgerError, match="not the one that was kept"):
        await begin(config(database, tmp_path), log)


async def test_a_sealer_does_not_go_on_with_another_planes_log(database: TestDatabase, tmp_path: Path) -> None:
    """A plane that was renamed would sign a log that nobody trusts: it stops and names both."""
    await sealed(database, tmp_path, pending())
    other = replace(config(database, tmp_path), origin="qcos.test/renamed", plane=Plane(profile="dev", name="renamed"))
    with pytest.raises(LogForeign, match=r"qcos\.test/log, this plane's is qcos\.test/renamed"):
        async with sealing(other) as task:
            await task


BUNDLES = Path(__file__).parent.parent / "vectors" / "bundles"


def trust_of(name: str, **log: Any) -> bytes:
    """The vectors' trust file after its log got another name."""
    tree = json.loads((BUNDLES / "trust.json").read_bytes())
    tree["type"], tree["log"] = f"urn:qcos:trust:{name}", tree["log"] | log
    return dumps(tree)


def test_what_was_proven_under_an_earlier_name_stays_valid_under_a_trust_file_that_names_it() -> None:
    """Version 2: the log's earlier origins, signed by the same keys; without them the old evidence has no anchor."""
    bundle = (BUNDLES / "good" / "completed_full.json").read_bytes()
    later = trust_of("v2", origin=SECOND, earlier=["qcos.example/plane-1"])
    assert parse_trust(later).file.log.earlier == ("qcos.example/plane-1",)
    assert judge(bundle, later, NOW).verdict == "valid"
    assert judge(bundle, trust_of("v1", origin=SECOND), NOW).verdict == "unanchored"


@pytest.mark.parametrize("wrong", [("v1", {"earlier": ["x"]}), ("v2", {}), ("v2", {"earlier": []}), ("v3", {})])
def test_earlier_names_are_of_version_2_alone(wrong: tuple[str, dict[str, Any]]) -> None:
    name, log = wrong
    with pytest.raises(UsageError):
        parse_trust(trust_of(name, **log))
