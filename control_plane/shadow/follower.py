# SPDX-License-Identifier: Apache-2.0
"""The follower: decides recorded decisions again by the shadow's policies, and tells of differences (G2, I5, I7).

One worker at a time follows, by a lease on one row. It reads sealed decisions after a place in each tenant's chain and
decides each once more on an engine of its own, with the candidate's limits: nothing that admits, routes or runs a job
waits for it or hears of it. Entries, counts and the place are one transaction, so no decision is compared twice or
missed, whichever worker dies. The first `AN_HOUR` differences of a tenant's hour are entries; the others are counted,
and one entry tells how many. A candidate that gives no decision time and again is stopped, and its entry says why.
Denials that were folded have no entry of their own and aren't compared.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

import ledger.blob_store
import ledger.store
from control_plane.context import Plane
from control_plane.policy import private
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.document import Document
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet
from control_plane.seed import PLANE_ACTOR
from control_plane.shadow import compare, store
from control_plane.shadow.compare import Said
from control_plane.shadow.store import Seen, Shadow
from control_plane.turns import take_turns
from ledger.canonical import timestamp
from ledger.chain import Leaf, Pending, parse_leaf

log = logging.getLogger("qcos.shadow")
STEP_S = 0.5
LEASE_S = 10.0
TURN_S = 3.0
"""What one batch may take: the lease outlives it, however slow the candidate is."""
BATCH = 50
AN_HOUR = 100
FRUITLESS = 20
"""Decisions in a row that the candidate couldn't give before it is stopped."""
OPENING = 3
DIFFERENCE = "policy:shadow:difference"
COUNTED = "policy:shadow:counted"
STOPPED = "policy:shadow:stopped"


class Compared(Struct, frozen=True):
    """A recorded decision and what the candidate says; `would` is None where it can't be asked, `why` says why."""

    leaf: Leaf
    was: Said
    would: Said | None
    why: str | None = None
    at_fault: bool = False
    """Whether the candidate is to blame that there is no decision."""


class Follower:
    """One process's follower; `serve` runs until cancelled, `step` is one turn of it."""

    def __init__(self, plane: Plane, opa_bin: Path | None, name: str) -> None:
        """`name` is unique to this process."""
        self._plane, self._opa_bin, self._name = plane, opa_bin, name
        self._run: int | None = None
        self._stack = AsyncExitStack()
        self._pdp: Pdp | None = None
        self._fruitless = self._unopened = 0

    async def serve(self) -> None:
        """Follow whenever the lease is this process's, through any fault."""
        try:
            await take_turns(self.step, STEP_S, log, "following the shadow")
        finally:
            await self.close()

    async def step(self) -> bool:
        """One turn; whether there may be more to do at once."""
        async with self._plane.transaction(None) as conn:
            shadow = await store.lease(conn, self._name, LEASE_S)
            tenants = await store.tenants(conn) if shadow is not None else []
        if shadow is None:
            await self.close()
            return False
        if self._run != shadow.run and not await self._open(shadow):
            return False
        more = False
        for tenant in tenants:
            more |= await self._follow(shadow, tenant)
            async with self._plane.transaction(None) as conn:
                if await store.lease(conn, self._name, LEASE_S) is None:  # stopped, or another was faster
                    return False
        return more

    async def close(self) -> None:
        """End the engine."""
        self._run, self._pdp = None, None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def _open(self, shadow: Shadow) -> bool:
        await self.close()
        async with self._plane.transaction(None) as conn:
            files = await store.files(conn, shadow.run)
        if files is None:
            return False
        try:
            policies = PolicySet.of(files)
            if policies.revision != shadow.revision:
                raise PolicyUnavailable("its stored files are not those of its revision")
            limit_s = self._plane.settings.policy_limit_s
            engine = await self._stack.enter_async_context(private.opened(policies, self._opa_bin, limit_s))
        except PolicyUnavailable as error:
            self._unopened += 1
            if self._unopened >= OPENING:
                await self._stop(shadow, f"it doesn't load: {error}")
            return False
        self._run, self._fruitless, self._unopened = shadow.run, 0, 0
        self._pdp = Pdp(engine, Held(policies))
        return True

    async def _follow(self, shadow: Shadow, tenant: str) -> bool:
        async with self._plane.transaction(tenant) as conn:
            seen = await store.seen(conn, tenant)
            if seen is None or seen.run != shadow.run:  # a tenant that came after the shadow did
                seen = await store.from_now(conn, tenant, shadow.run)
            head = await store.head(conn, tenant)
            found = await store.following(conn, tenant, seen.place, head, BATCH)
        if not found and head == seen.place and not _is_due(seen, self._plane.now()):
            return False
        compared = await self._compare(tenant, [parse_leaf(leaf) for _, leaf in found])
        more = len(compared) < len(found) or len(found) == BATCH
        place = found[len(compared) - 1][0] if more else head
        if not await self._keep(shadow, seen, place, compared):
            return False
        if self._fruitless >= FRUITLESS:
            await self._stop(shadow, f"{FRUITLESS} decisions in a row could not be had of it: {compared[-1].why}")
        return more

    async def _compare(self, tenant: str, leaves: Sequence[Leaf]) -> list[Compared]:
        if not leaves:
            return []
        plane = self._plane
        await plane.vault.ready(plane.engine, tenant)
        async with plane.transaction(tenant) as conn:
            blobs = await ledger.blob_store.blobs(conn, tenant, [leaf.commitments["input"] for leaf in leaves])
        compared, begun_at = [], time.monotonic()
        for leaf in leaves:
            sealed = blobs.get(leaf.commitments["input"])
            recorded = None if sealed is None else plane.vault.open(sealed).content
            compared.append(await self._again(leaf, recorded))
            self._fruitless = self._fruitless + 1 if compared[-1].at_fault else 0
            if self._fruitless >= FRUITLESS or time.monotonic() - begun_at > TURN_S:
                break
        return compared

    async def _again(self, leaf: Leaf, recorded: bytes | None) -> Compared:
        """One decision more on what is on record, by the candidate and with its limits."""
        was, pdp = compare.recorded(leaf.body), self._pdp
        if recorded is None or pdp is None:
            return Compared(leaf, was, None, "its input was erased")
        document: dict[str, Any] = msgspec.json.decode(recorded)
        try:
            asked = msgspec.convert(document, Document)
        except msgspec.ValidationError:
            return Compared(leaf, was, None, "its input is of an older form")
        policies, who = pdp.held.current, asked.principal
        try:
            limits = policies.limits(asked.job.project, who.team, who.department, who.tenant)
            now = self._plane.now()
            decision = await pdp.judge(policies, {**document, "limits": limits}, leaf.body["decision_id"], now)
        except PolicyUnavailable as error:
            return Compared(leaf, was, None, str(error)[:500], at_fault=True)
        return Compared(leaf, was, compare.decided(decision))

    async def _keep(self, shadow: Shadow, before: Seen, place: int, compared: Sequence[Compared]) -> bool:
        """Tell, count and move on in one transaction; False, and nothing is written, where another follows by now."""
        now = self._plane.now()
        entries, after = told(shadow, before, compared, now)
        async with self._plane.transaction(before.tenant) as conn:
            if not await store.holds(conn, shadow.run, self._name):
                return False
            if not await store.keep(conn, before, msgspec.structs.replace(after, place=place)):
                return False
            await ledger.store.append(conn, [(entry, None) for entry in entries])
        return True

    async def _stop(self, shadow: Shadow, reason: str) -> None:
        log.warning("the shadow %s is stopped: %s", shadow.revision, reason)
        now, reason = self._plane.now(), reason[:500]
        async with self._plane.transaction(shadow.by_tenant) as conn:
            if await store.stop(conn, now, reason, shadow.run) is not None:
                await ledger.store.append(conn, [(stopped(shadow, PLANE_ACTOR, now, reason), None)])
        await self.close()


def told(shadow: Shadow, seen: Seen, compared: Sequence[Compared], now: dt.datetime) -> tuple[list[Pending], Seen]:
    """The entries of what was compared, at most `AN_HOUR` differences an hour, and the counts after it. Pure."""
    entries: list[Pending] = []
    hour = now.replace(minute=0, second=0, microsecond=0)
    if _is_due(seen, now):
        entries.append(_entry(seen.tenant, COUNTED, now, _counted(shadow, seen)))
    if seen.hour != hour:
        seen = msgspec.structs.replace(seen, hour=hour, told=0, untold=0)
    counts = {name: getattr(seen, name) for name in ("decided", "same", "undecided", "told", "untold", *compare.SORTS)}
    for one in compared:
        if one.would is None:
            counts["undecided"] += 1
            continue
        counts["decided"] += 1
        sort = compare.difference(one.was, one.would)
        counts[sort or "same"] += 1
        if sort is None:
            continue
        if counts["told"] < AN_HOUR:
            counts["told"] += 1
            entries.append(_entry(seen.tenant, DIFFERENCE, now, _difference(shadow, one, sort, one.would)))
        else:
            counts["untold"] += 1
    return entries, msgspec.structs.replace(seen, **counts)


def _is_due(seen: Seen, now: dt.datetime) -> bool:
    """Whether an hour is over in which differences were only counted."""
    return seen.hour is not None and seen.untold > 0 and now - seen.hour >= dt.timedelta(hours=1)


def _counted(shadow: Shadow, seen: Seen) -> dict[str, Any]:
    hour = timestamp(seen.hour) if seen.hour is not None else None
    return {"shadow": shadow.revision, "hour": hour, "told": seen.told, "untold": seen.untold}


def _difference(shadow: Shadow, one: Compared, sort: str, would: Said) -> dict[str, Any]:
    body = one.leaf.body
    about = {name: body[name] for name in ("decision_id", "action", "job_id", "reservation_id") if name in body}
    by = {"shadow": shadow.revision, "in_force": body["policy_revision"], "sort": sort}
    return by | about | {"was": one.was.shown(), "would": would.shown()}


def begun(shadow: Shadow) -> dict[str, Any]:
    """What the entry of a beginning says beside its files."""
    return {"shadow": shadow.revision, "run": shadow.run, "message": shadow.message}


def stopped(shadow: Shadow, actor: str, now: dt.datetime, reason: str | None) -> Pending:
    """The entry of an end."""
    body = {"shadow": shadow.revision, "run": shadow.run, "reason": reason}
    return _entry(shadow.by_tenant, STOPPED, now, body, actor)


def _entry(tenant: str, kind: str, now: dt.datetime, body: dict[str, Any], actor: str = PLANE_ACTOR) -> Pending:
    return Pending(entry_id=str(uuid.uuid4()), tenant=tenant, kind=kind, actor=actor, time=now, body=body)
