# SPDX-License-Identifier: Apache-2.0
"""A person answers a request for an approval: policy decides whether they may, and the answer moves the job (G2).

    1 decided     action `job:approve`, on the job's document with the approver as its principal; a denial is recorded
    2 requested   what is to be approved is known: a worker is still compiling it, or the answer is asked for again
    3 answered    yes: QUEUED, with who, why and until when; no: DENIED, hold released, evidence written

Decision and answer are entries of one write. An answer that comes late, or twice, finds the job
moved on and is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

import ledger.store
from control_plane import crash
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import accepted, admit, approval, denials, leases, quote, settle, transition
from control_plane.jobs.approval import Word
from control_plane.jobs.settle import Refusal
from control_plane.jobs.store import Change
from control_plane.jobs.transition import MovedOn
from control_plane.jobs.vault import Sealed
from control_plane.policy.decision import Decision, problem_code
from control_plane.policy.document import time_judged
from control_plane.strict import Reason
from ledger.canonical import timestamp
from ledger.chain import Pending

ACTION = "job:approve"
LONGEST_S = 366 * 86_400
READY_S, LOOK_S = 15.0, 0.05  # how long an answer waits for its request, and how often it looks


class Approving(Struct, frozen=True, forbid_unknown_fields=True):
    """A yes that is asked for."""

    reason: Reason
    expires_s: Annotated[int, Meta(ge=1, le=LONGEST_S, description="Seconds from now; policy bounds them.")] = 86_400


class Rejecting(Struct, frozen=True, forbid_unknown_fields=True):
    """A no that is asked for."""

    reason: Reason


approving = msgspec.json.Decoder(Approving)
rejecting = msgspec.json.Decoder(Rejecting)


async def answer(plane: Plane, who: Principal, job_id: str, asked: Approving | Rejecting) -> None:
    """Approve or reject; Refused with a denial's code, `transition_refused`, or `approval_pending`."""
    await plane.vault.ready(plane.engine, who.tenant)
    row = await _waiting(plane, who, job_id)
    judged = await _judge(plane, who, row, asked)
    clock = asyncio.get_running_loop().time
    until = clock() + READY_S
    while True:
        asking = approval.of(row)
        if asking is not None and asking.state == "requested":
            change = await _change(plane, who, row, asked, judged)
            crash.point("approval.answering")
            with contextlib.suppress(MovedOn):
                await transition.write(plane, row, change)
                crash.point("approval.answered")
                return
        elif clock() > until:
            raise Refused("approval_pending", "what is to be approved is still being compiled")
        else:
            await asyncio.sleep(LOOK_S)
        row = await _waiting(plane, who, job_id)


class _Judged(Struct, frozen=True):
    decision: Decision
    entry: Pending
    input: Sealed


async def _waiting(plane: Plane, who: Principal, job_id: str) -> dict[str, Any]:
    """All of the job's row; Refused `transition_refused` unless it waits for an answer."""
    (rows,) = await plane.read(who.tenant, leases.taken((job_id,)))
    if not rows:
        raise Refused("not_found", f"no job {job_id}")
    row: dict[str, Any] = rows[0]
    if row["state"] != approval.WAITS:
        raise Refused("transition_refused", f"the job is {row['final'] or row['state']}, not {approval.WAITS}")
    if (over := approval.over(row, plane.now())) is not None:
        raise Refused("transition_refused", over[1])
    return row


async def _judge(plane: Plane, who: Principal, row: Mapping[str, Any], asked: Approving | Rejecting) -> _Judged:
    """What policy says; a denial is recorded, and raised as Refused."""
    at = plane.now()
    decision = await plane.pdp.decide(_document(plane, who, row, asked, at), str(uuid.uuid4()), at)
    (sealed,) = plane.vault.seal(who.tenant, (decision.input,))
    about = {"job_id": row["job_id"], "action": ACTION}
    entry = admit.decided(who.tenant, who.pseudonym, about, decision, sealed.commitment, at)
    if decision.allow:
        return _Judged(decision, entry, sealed)
    await denials.count(plane, who, ((entry, None),), (sealed.blob,), decision, at)
    async with plane.transaction(who.tenant) as conn:
        await ledger.store.append(conn, [(entry, None)], [sealed.blob])
    shown = decision.document()
    extras = {"job_id": row["job_id"], "decision_id": decision.id, "decision": shown, "reasons": shown["reasons"]}
    raise Refused(problem_code(decision), "; ".join(one.message for one in decision.reasons), extras=extras)


def _document(
    plane: Plane, who: Principal, row: Mapping[str, Any], asked: Approving | Rejecting, at: dt.datetime
) -> dict[str, Any]:
    """The job's document as it was judged, but for who asks, what and when."""
    recorded: dict[str, Any] = msgspec.json.decode(settle.read_submitted(plane, row).decision_input)
    recorded.pop("limits", None)
    recorded.pop("envelope", None)  # the requester signed, not who answers
    requester = recorded["principal"]
    waiting = approval.of(row)
    return (
        {"nodes": [], "plan": None}
        | recorded
        | {
            "action": ACTION,
            "principal": quote.principal_judged(who, row["project"]),
            "time": time_judged(at),
            "approval": {
                "requested_by": {name: requester[name] for name in ("subject", "name", "domain")},
                "reasons": list(waiting.reasons) if waiting is not None else [],
                "justification": asked.reason,
                "lasts_s": asked.expires_s if isinstance(asked, Approving) else 0,
            },
        }
    )


async def _change(
    plane: Plane, who: Principal, row: dict[str, Any], asked: Approving | Rejecting, judged: _Judged
) -> Change:
    """The move that the answer is, with its decision; the approver's name goes beside the row and into evidence."""
    now, given = plane.now(), approval.of(row)
    if given is None:
        raise MovedOn
    word = Word(who.pseudonym, asked.reason, timestamp(now), judged.decision.id)
    told = (judged.entry, None)
    if isinstance(asked, Approving):
        expires_at = timestamp(now + dt.timedelta(seconds=asked.expires_s))
        granted = approval.granted(given, msgspec.structs.replace(word, expires_at=expires_at)).document()
        kind = "job:approval:granted"
        columns: dict[str, Any] = {"approval": granted, "approver": who.actor, "lease_until": None, "worker": None}
        change = transition.move(
            row, ("QUEUED",), kind, now, actor=who.pseudonym, told={"approval": granted}, **columns
        )
    else:
        submitted = settle.read_submitted(plane, row)
        spec = accepted.from_canonical(submitted.spec)
        end = Refusal("approval_rejected", f"rejected by {who.actor}: {asked.reason}", word)
        change = await settle.settle(plane, row | {"approver": who.actor}, spec, submitted, end)
        change = msgspec.structs.replace(change, columns=change.columns | {"approver": who.actor})
    return msgspec.structs.replace(change, items=(told, *change.items), blobs=(*change.blobs, judged.input.blob))
