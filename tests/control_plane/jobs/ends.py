# SPDX-License-Identifier: Apache-2.0
"""How a job is followed to its end, and lost on the way, in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from control_plane.jobs import evidence
from ledger.bundle import Bundle, Proof, Signatures
from ledger.predicate import Predicate, parse_statement
from ledger.recompute import contents_closed, cost, governance, outcome, shots, spec
from tests.control_plane.jobs.desk import Desk
from tests.fakes import Dead, FakeDriver

NOTHING = (Decimal(0), Decimal(0))


async def soon(true: Callable[[], Any]) -> None:
    """Let other tasks go on until it is true; the test's own limit bounds it."""
    while not true():  # noqa: ASYNC110 - the other side knows of no event
        await asyncio.sleep(0.005)


async def finish(desk: Desk, job_id: str) -> str:
    """Seal what the job left; its state then, after the books and rows were held against the ledger (I6)."""
    await desk.seal()
    assert (await desk.replayed()).differences == []
    return await desk.state(job_id)


async def evidence_of(desk: Desk, job_id: str) -> Bundle:
    """The job's record with its contents, its sums counted again; what proves it isn't looked at here."""
    row = await desk.row(job_id)
    async with desk.plane.transaction("demo") as conn:
        record = parse_statement((await desk.plane.vault.read(conn, "demo", row["statement_blob"])).content)
        contents = {
            part.name: await evidence._content(desk.plane, conn, "demo", row, part.name) for part in record.artefacts
        }
    bundle = Bundle(
        **{name: getattr(record, name) for name in Predicate.__struct_fields__},
        signatures=Signatures(qcos_signature=None, ecdsa_p256_signature=None, timestamp_authority=()),
        proof=Proof(leaf=b"", path=(), checkpoint="", statement_salt=b""),
        contents=contents,
    )
    for check in (contents_closed, shots, outcome, spec, cost, governance):
        check(bundle)
    return bundle


async def lost_after_intent(desk: Desk, driver: FakeDriver, call: str) -> str:
    """A job whose worker died at `call`, after the intent was committed; its lease is over."""
    job_id = await desk.admitted()
    driver.breaks[call] = Dead()
    with pytest.raises(Dead):
        await (await desk.attempt(driver)).advance()
    driver.breaks.clear()
    row = await desk.row(job_id)
    assert row["state"] == "EXECUTING"
    assert row["token"] is not None
    desk.lose_lease()
    return job_id
