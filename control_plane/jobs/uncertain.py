# SPDX-License-Identifier: Apache-2.0
"""Settling a job whose outcome nobody knows: its parked hold is released, or charged up to what was held, once (I3).

Somebody who asked the vendor decides; the plane never does by itself. Entry, hold and row are one transaction: `cost`,
`settle` and `charge` in the entry's body are what the fold of jobs and books reads. The job stays UNCERTAIN and its
evidence as it was sealed, which says what was known then.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

import finops.store
import ledger.store
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import accepted, charging, store
from control_plane.jobs.admit import shown_state
from control_plane.jobs.evidence import Row
from control_plane.jobs.spec import Governance
from control_plane.strict import Reason
from finops import charge_store, money
from finops.errors import AmountInvalid, HoldClosed
from ledger.canonical import parse_time, timestamp
from ledger.chain import Pending

KIND = "job:uncertain:settled"
_AMOUNT = {"pattern": r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$"}


class Settling(Struct, frozen=True, forbid_unknown_fields=True):
    """What is decided: `charged` with an amount in the hold's currency, or `released`; and why."""

    outcome: Literal["released", "charged"]
    reason: Reason
    amount: Annotated[str, Meta(extra_json_schema=_AMOUNT)] | None = None


async def settle(plane: Plane, principal: Principal, row: Row, asked: Settling) -> None:
    """Settle the job of this row; raises Refused `transition_refused`, AmountInvalid, HoldClosed the second time."""
    if shown_state(row) != "UNCERTAIN":
        raise Refused("transition_refused", f"the job is {shown_state(row)}; only what is UNCERTAIN is settled by hand")
    amount, now = _amount(asked, row), plane.now()
    backend = await plane.known.backend(plane.engine, row["backend"])
    settlement = {
        "outcome": asked.outcome,
        "amount": money.text(amount),
        "currency": row["currency"],
        "reason": asked.reason,
        "by": principal.actor,
        "at": timestamp(now),
    }
    async with plane.transaction(principal.tenant) as conn:
        if not await store.keep_settlement(conn, row["job_id"], settlement, amount):
            raise HoldClosed("the job was settled before", field=row["job_id"])
        charged = asked.outcome == "charged"  # a quota then counts all that was held: nobody knows how much ran
        ended = await finops.store.settle(
            conn,
            principal.tenant,
            row["job_id"],
            amount,
            row["currency"],
            shots=Decimal(row["executions"] if charged else 0),
            jobs=Decimal(charged),
        )
        body: dict[str, Any] = {
            "job_id": row["job_id"],
            "outcome": asked.outcome,
            "reason": asked.reason,
            "cost": {"amount": settlement["amount"], "currency": row["currency"]},
            "settle": ended.body(),
        }
        name = str(uuid.uuid4())
        if amount:
            governance = await _governance(plane, conn, row)
            told = charging.settled(row, governance, amount, principal.pseudonym, backend)
            await charge_store.insert(conn, principal.tenant, name, parse_time(timestamp(now)), (told,))
            body["charge"] = told.body()
        entry = Pending(
            entry_id=name,
            tenant=principal.tenant,
            kind=KIND,
            actor=principal.pseudonym,
            time=now,
            body=body,
        )
        await ledger.store.append(conn, [(entry, None)])


async def _governance(plane: Plane, conn: AsyncConnection, row: Row) -> Governance | None:
    """Who pays and why, as the job said; None where its content was erased."""
    try:
        spec = await plane.vault.read(conn, row["tenant"], row["spec_blob"])
    except Refused as error:
        if error.code != "content_erased":
            raise
        return None
    return accepted.from_canonical(spec.content).governance


def _amount(asked: Settling, row: Row) -> Decimal:
    if (asked.amount is None) != (asked.outcome == "released"):
        wanted = "an amount" if asked.outcome == "charged" else "no amount"
        raise Refused(
            "request_invalid",
            f"{asked.outcome} takes {wanted}",
            errors=({"field": "amount", "message": f"{asked.outcome} takes {wanted}"},),
        )
    if asked.amount is None:
        return money.ZERO
    amount, held = money.parse(asked.amount, "amount"), row["hold_amount"]
    if held is None or not 0 < amount <= held:
        raise AmountInvalid(f"more than 0 and at most what is held, {money.text(held or money.ZERO)}", field="amount")
    return Decimal(money.text(amount))  # the one form that row and entry both have


decoder = msgspec.json.Decoder(Settling)
