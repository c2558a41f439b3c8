# SPDX-License-Identifier: Apache-2.0
"""A flood of denials: few entries, bounded in bytes a day, nothing silent, everybody else at their pace (G2, N13)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from control_plane.db import transaction
from control_plane.jobs import denials
from control_plane.jobs.denials import ALONE_A_MINUTE, DenialQuota, fold_ripe
from control_plane.jobs.lane import AT_ONCE, MANY, WITHIN_S, Lanes
from control_plane.jobs.refold import replay
from ledger import export
from ledger.audit import Verification
from tests.control_plane.jobs.desk import Desk, _engine, bell, person

EVE = person("eve", "demo", "auditor")


async def flood(desk: Desk, number: int) -> list[str]:
    return [(await desk.submit(bell(), who=EVE)).job_id for _ in range(number)]


async def verified(desk: Desk) -> Verification:
    async with _engine(desk.database.audit) as engine, transaction(engine, None) as conn:
        return await export.verify_log(conn)


def entries(desk: Desk) -> int:
    return int(desk.sql("SELECT count(*) FROM ledger.entry")[0][0])


async def test_a_flood_of_denials_folds_into_few_entries_and_each_is_kept(desk: Desk) -> None:
    """G2, G5: durable before they are answered, one entry for all beyond the first, the fold equals the rows."""
    before = entries(desk)
    jobs = await flood(desk, ALONE_A_MINUTE + 40)
    assert desk.sql("SELECT count(*) FROM ledger.unfolded")[0][0] == 80
    assert (await desk.replayed()).differences == []  # what waits to be folded is durable, and counts
    assert await fold_ripe(desk.plane, 0) == 80
    assert (await desk.replayed()).differences == []
    await desk.seal()
    assert entries(desk) - before == 2 * ALONE_A_MINUTE + 1
    assert (await verified(desk)).failures == ()
    replayed = await desk.replayed()
    assert (replayed.agrees, replayed.differences) == (True, [])
    for job in jobs:
        row = await desk.row(job)
        assert (row["state"], row["ready"], row["error"]["code"]) == ("DENIED", True, "policy_denied")


async def test_a_few_denials_stand_alone(desk: Desk) -> None:
    """G5: what a person does by mistake isn't a flood; and one person's flood isn't another's."""
    await flood(desk, ALONE_A_MINUTE)
    await desk.submit(bell(), who=person("bob", "demo", "auditor"))
    assert desk.sql("SELECT count(*) FROM ledger.unfolded")[0][0] == 0


CHANGES = {
    "a byte": "UPDATE ledger.folded SET pending = set_byte(pending, 60, get_byte(pending, 60) # 1) WHERE position = 3",
    "one gone": "DELETE FROM ledger.folded WHERE position = 3",
    "all gone": "DELETE FROM ledger.folded",
    "the last gone": "DELETE FROM ledger.folded WHERE position = 7",
    "two swapped": """UPDATE ledger.folded a SET pending = b.pending FROM ledger.folded b
                      WHERE (a.position, b.position) IN ((2, 4), (4, 2))""",
    "its id": "UPDATE ledger.folded SET entry_id = gen_random_uuid() WHERE position = 0",
    "its tenant": "UPDATE ledger.folded SET tenant = 'other' WHERE position = 0",
    "one more": """INSERT INTO ledger.folded (tenant, fold, position, entry_id, pending)
                   SELECT tenant, fold, 8, gen_random_uuid(), pending FROM ledger.folded WHERE position = 0""",
}


async def test_a_changed_folded_record_names_its_entry(desk: Desk) -> None:
    """I4: the records beside the log are as much under its root as a leaf is."""
    await flood(desk, ALONE_A_MINUTE + 4)
    await fold_ripe(desk.plane, 0)
    await desk.seal()
    ((index,),) = desk.sql("SELECT \"index\" FROM ledger.entry WHERE kind = 'ledger:entries:folded'")
    desk.sql("CREATE TABLE kept AS SELECT * FROM ledger.folded")
    for change, statement in CHANGES.items():
        assert (await verified(desk)).ok
        desk.sql(statement)
        assert {failure.index for failure in (await verified(desk)).failures} == {index}, change
        desk.sql("DELETE FROM ledger.folded")
        desk.sql("INSERT INTO ledger.folded SELECT * FROM kept")


async def test_records_under_no_entry_are_found(desk: Desk) -> None:
    """I4."""
    desk.sql(
        "INSERT INTO ledger.folded VALUES ('demo', gen_random_uuid(), 0, gen_random_uuid(), '{}')",
    )
    assert not (await verified(desk)).ok


async def test_beyond_a_days_bytes_denials_are_counted_and_told_and_nothing_more(desk: Desk) -> None:
    """N13, G2: bounded in bytes, never silent; what policy allows goes on."""
    settings = msgspec.structs.replace(desk.plane.settings, denial_bytes_per_day=60_000)
    plane = type(desk.plane)(settings, desk.plane.name, desk.plane.engine, desk.plane.pdp, desk.plane.vault)
    kept, refused = 0, 0
    for _ in range(40):
        try:
            await desk.submit(bell(), who=EVE, plane=plane)
            kept += 1
        except DenialQuota as quota:
            refused += 1
            assert 1 <= quota.retry_after_s <= 86_400
            assert quota.extras["reasons"]
    assert kept and refused
    ((octets,),) = desk.sql("SELECT octets FROM jobs.denial WHERE pseudonym = 'a-demo-eve'")
    assert octets <= 60_000
    assert len(desk.sql("SELECT 1 FROM jobs.job")) == kept
    told = [body["suppressed"] for body in bodies(desk, denials.SUPPRESSED)]
    assert told == [2**power for power in range(refused.bit_length())]
    assert (await desk.submit(plane=plane)).state == "QUEUED"
    assert (await desk.replayed()).differences == []


async def test_the_counted_bytes_bound_what_is_stored(desk: Desk) -> None:
    """N13: the count isn't below what a denial's rows take, content, entries and all."""
    before = size(desk)
    await flood(desk, 60)
    ((octets,),) = desk.sql("SELECT octets FROM jobs.denial")
    assert size(desk) - before <= octets


def size(desk: Desk) -> int:
    tables = ("ledger.inbox", "ledger.unfolded", "ledger.blob", "jobs.job")
    return sum(int(desk.sql(f"SELECT coalesce(sum(pg_column_size(t.*)), 0) FROM {table} t")[0][0]) for table in tables)


def bodies(desk: Desk, kind: str) -> list[dict[str, Any]]:
    waiting = [msgspec.json.decode(data) for (data,) in desk.sql("SELECT pending FROM ledger.inbox ORDER BY id")]
    return [one["body"] for one in waiting if one["kind"] == kind]


async def test_two_workers_fold_each_record_once(desk: Desk) -> None:
    """I2: whoever is faster; nothing is folded twice, nothing is left."""
    await flood(desk, ALONE_A_MINUTE + 30)
    folded = await asyncio.gather(*(fold_ripe(desk.plane, 0) for _ in range(4)))
    while more := await fold_ripe(desk.plane, 0):
        folded.append(more)
    assert sum(folded) == 60
    await desk.seal()
    assert (await verified(desk)).ok
    async with _engine(desk.database.audit) as audit:
        assert (await replay(audit, compare=True)).differences == []


async def test_whoever_is_refused_again_and_again_takes_turns_and_nobody_else() -> None:
    """N13: the flood's own submissions wait for one another; another person's never do."""
    now = 0.0
    lanes = Lanes(lambda: now)
    for _ in range(MANY):
        async with lanes.turn(EVE):
            pass
    inside, most, begun = 0, 0, asyncio.Event()

    async def one() -> None:
        nonlocal inside, most
        async with lanes.turn(EVE) as turn:
            inside += 1
            most = max(most, inside)
            begun.set()
            await asyncio.sleep(0)
            turn.refused = False
            inside -= 1

    tasks = [asyncio.create_task(one()) for _ in range(20)]
    await begun.wait()
    async with lanes.turn(person("bob")) as turn:
        turn.refused = False
    await asyncio.gather(*tasks)
    assert most == AT_ONCE
    now += WITHIN_S
    most = 0
    await asyncio.gather(*(one() for _ in range(5)))
    assert most == 5
