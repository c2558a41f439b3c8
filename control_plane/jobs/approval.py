# SPDX-License-Identifier: Apache-2.0
"""An override as a value: what somebody asks to have approved, what was approved, and what became of it (G2). Pure.

A job that policy denies for soft reasons alone, or lets pass on condition of an approval, waits for a second person.
What that person approves is bound to hashes: of each circuit as submitted, of the artefact as compiled, which is kept
and runs as it is, and of the target with the facts that policy judges. It lets one attempt through the dispatch gate,
once and until it expires. Each step is told by an entry that carries the whole value, so that the row's is a cache.

    preparing    admitted; a worker compiles for the target that routing picks
    requested    what is to be approved is known
    granted      a second person approved; the job is queued
    used         an attempt's intent is committed: nothing more rests on this approval
    rejected, expired, refused    nobody will run it; the job has ended
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import RowMapping

from control_plane.jobs import spec as specs
from control_plane.jobs.routing import Candidate
from control_plane.jobs.spec import JobSpec
from control_plane.jobs.state import State
from control_plane.policy.decision import Decision
from ledger.canonical import dumps, parse_time, sha256, timestamp
from ledger.chain import Pending

WAITS: State = "AWAITING_APPROVAL"


class Bound(Struct, frozen=True, forbid_unknown_fields=True):
    """What is approved: nothing else runs by it."""

    sources: tuple[str, ...]
    """Of each circuit as submitted, in the program's order."""
    compiled: str
    target: str
    backend: str


_NOTHING = Bound((), "", "", "")


class Word(Struct, frozen=True, forbid_unknown_fields=True):
    """Who said yes or no, why and when; `by` is a pseudonym, and only a yes expires."""

    by: str
    reason: str
    at: str
    decision_id: str
    expires_at: str | None = None


class Approval(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One job's approval so far."""

    state: Literal["preparing", "requested", "granted", "used", "rejected", "expired", "refused"]
    reasons: tuple[str, ...]
    """The codes of what it would override."""
    wait_until: str
    """When a request that nobody answered ends."""
    bound: Bound | None = None
    kept: str | None = None
    """The commitment to the artefact as compiled."""
    requested_at: str | None = None
    answer: Word | None = None
    used_at: str | None = None

    def document(self) -> dict[str, Any]:
        """As rows and entries have it."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made


_CLOSED: dict[str | None, Literal["rejected", "expired", "refused"]] = {
    "approval_rejected": "rejected",
    "approval_unanswered": "expired",
    "approval_expired": "expired",
    "approval_mismatch": "refused",
}


def needed(decision: Decision) -> tuple[str, ...]:
    """The codes that somebody must approve before the job may run; none where it may run, or never may."""
    if not decision.overridable:
        return ()
    return tuple(sorted({reason.code for reason in decision.reasons if reason.level == "soft"}))


def begun(codes: Sequence[str], at: dt.datetime, wait_s: float) -> Approval:
    """Of a job that was just admitted so."""
    return Approval("preparing", tuple(codes), timestamp(at + dt.timedelta(seconds=wait_s)))


def requested(approval: Approval, bound_to: Bound, kept: str, at: dt.datetime) -> Approval:
    """What is to be approved is known, and kept."""
    return replace(approval, state="requested", bound=bound_to, kept=kept, requested_at=timestamp(at))


def granted(approval: Approval, word: Word) -> Approval:
    """A second person said yes."""
    return replace(approval, state="granted", answer=word)


def used(approval: Approval, at: dt.datetime) -> Approval:
    """An attempt goes through the gate by it."""
    return replace(approval, state="used", used_at=timestamp(at))


def closed(approval: Approval | None, code: str | None, answer: Word | None) -> Approval | None:
    """What becomes of an approval as its job ends with this code; None where nothing does."""
    if approval is None or code not in _CLOSED:
        return None
    return replace(approval, state=_CLOSED[code], answer=answer or approval.answer)


def over(row: Mapping[str, Any], now: dt.datetime) -> tuple[str, str] | None:
    """Why a job can't go on by the approval that it waits for or has, as code and detail; None where it can."""
    approval = of(row)
    if approval is None:
        return None
    if row["state"] == WAITS:
        if parse_time(approval.wait_until) > now:
            return None
        return "approval_unanswered", f"nobody approved {', '.join(approval.reasons)} until {approval.wait_until}"
    if approval.state == "granted" and approval.bound is not None:
        return fault(approval, approval.bound, now)
    return fault(approval, _NOTHING, now)


def asked_until(row: Mapping[str, Any]) -> dt.datetime | None:
    """Until when a request lies before people, and there is nothing to do for a worker."""
    approval = of(row)
    asked = row["state"] == WAITS and approval is not None and approval.state == "requested"
    return parse_time(approval.wait_until) if asked and approval is not None else None


def of(row: Mapping[str, Any] | RowMapping) -> Approval | None:
    """A job's; None where it needs none."""
    told = row.get("approval")
    return None if told is None else msgspec.convert(told, Approval)


def target_of(row: Mapping[str, Any]) -> str | None:
    """The one backend that an approved job may run on; None where any allowed one will do."""
    approval = of(row)
    return None if approval is None or approval.bound is None else approval.bound.backend


def bound(spec: JobSpec, compiled: str, target: Candidate) -> Bound:
    """What would be approved."""
    sources = tuple(sha256(specs.source_bytes(circuit)) for circuit in spec.circuits)
    return Bound(sources, compiled, target_hash(target), target.id)


def target_hash(target: Candidate) -> str:
    """The hash of a backend as policy judges it."""
    names = ("id", "provider", "region", "compliance_zone", "sovereign")
    return sha256(dumps({name: getattr(target, name) for name in names}))


def passes(approval: Approval | None, decision: Decision) -> bool:
    """Whether a later decision on the same job lets it go on, by itself or with what was asked to be approved."""
    codes = needed(decision)
    if not codes:
        return decision.allow
    return approval is not None and set(codes) <= set(approval.reasons)


def fault(approval: Approval, made: Bound, now: dt.datetime) -> tuple[str, str] | None:
    """Why an approval lets this not pass the gate, as code and detail; None where it does."""
    if approval.state == "used":
        return "approval_used", f"the approval was used {approval.used_at}; a new attempt needs a new job"
    if approval.state != "granted" or approval.bound is None or approval.answer is None:
        return "approval_missing", f"nobody has approved this: {', '.join(approval.reasons)}"
    until = approval.answer.expires_at
    if until is None or parse_time(until) <= now:
        return "approval_expired", f"the approval ended {until}"
    for name in Bound.__struct_fields__:
        if getattr(approval.bound, name) != getattr(made, name):
            said = f"{getattr(approval.bound, name)} was approved, now it is {getattr(made, name)}"
            return "approval_mismatch", f"{name}: {said}"
    return None


def entry(job: Mapping[str, Any], approval: Approval, at: dt.datetime) -> Pending:
    """The entry that tells of an approval's use or end, beside the one that moves the job."""
    return Pending(
        entry_id=str(uuid.uuid4()),
        tenant=job["tenant"],
        kind=f"job:approval:{approval.state}",
        actor=approval.answer.by if approval.state == "rejected" and approval.answer is not None else job["pseudonym"],
        time=at,
        body={"job_id": job["job_id"], "approval": approval.document()},
    )
