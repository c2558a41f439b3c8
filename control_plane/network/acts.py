# SPDX-License-Identifier: Apache-2.0
"""Acts on an enrolment: judged, written and told in one transaction (N14, G5).

Enters an engine, who acts, and what is asked. Leaves the record as it stands after it, and its entry. The fabric isn't
told here: whoever acts pushes the set afterwards, and the keeper does so within a second where that failed.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import ledger.store
from control_plane.db import transaction
from control_plane.errors import Refused
from control_plane.network import store
from control_plane.network.enrolment import PEERS_AT_MOST, PROPOSED, Asked, Proposal, Record, act, propose, same
from control_plane.seed import PLANE_ACTOR
from hal_drivers.p2p.errors import IdentityInvalid
from hal_drivers.p2p.identity import public_of
from ledger.chain import PLANE, Pending


class Actor(Struct, frozen=True):
    """Who acts: the tenant whose chain tells of it, and the pseudonym."""

    tenant: str
    pseudonym: str


THE_PLANE = Actor(PLANE, PLANE_ACTOR)


async def proposed(engine: AsyncEngine, actor: Actor, proposal: Proposal, now: dt.datetime) -> tuple[Record, bool]:
    """The peer's enrolment, and whether it is new. The same proposal again changes nothing, another is a conflict."""
    try:
        public_of(proposal.peer_id)
    except IdentityInvalid as error:
        fault = {"field": "peer_id", "message": error.detail}
        raise Refused("request_invalid", f"peer_id: {error.detail}", errors=(fault,)) from error
    async with transaction(engine, actor.tenant) as conn:
        return await _proposed(conn, actor, proposal, now)


async def acted(engine: AsyncEngine, actor: Actor, peer_id: str, asked: Asked, now: dt.datetime) -> Record:
    """The record after the act; Refused not_found or transition_refused."""
    async with transaction(engine, actor.tenant) as conn:
        return await _acted(conn, actor, peer_id, asked, now)


async def enrol_own(engine: AsyncEngine, proposals: Iterable[Proposal], now: dt.datetime) -> list[Record]:
    """Propose and approve nodes that the plane starts itself, each in one transaction; what is enrolled stays as it is.

    One that an administrator suspended or revoked is not approved again.
    """
    found = []
    for proposal in proposals:
        async with transaction(engine, PLANE) as conn:
            record, new = await _proposed(conn, THE_PLANE, proposal, now)
            if new:
                asked = Asked("approve", "a node of this plane")
                record = await _acted(conn, THE_PLANE, proposal.peer_id, asked, now)
        found.append(record)
    return found


async def _proposed(conn: AsyncConnection, actor: Actor, proposal: Proposal, now: dt.datetime) -> tuple[Record, bool]:
    known = await store.lock(conn, proposal.peer_id)
    if known is None:
        if await store.count(conn) >= PEERS_AT_MOST:
            raise Refused("too_many_peers", f"{PEERS_AT_MOST} peers are known already")
        new = propose(proposal)
        if await store.put(conn, new, actor.tenant, actor.pseudonym, now):
            await _tell(conn, actor, PROPOSED, new, now)
            return new, True
        known = await store.lock(conn, proposal.peer_id)  # another proposed it meanwhile
    if known is None or not same(known, proposal):
        raise Refused("peer_known", f"peer {proposal.peer_id} is enrolled with other facts; they stay as they are")
    return known, False


async def _acted(conn: AsyncConnection, actor: Actor, peer_id: str, asked: Asked, now: dt.datetime) -> Record:
    known = await store.lock(conn, peer_id)
    if known is None:
        raise Refused("not_found", f"no peer {peer_id}")
    new, kind = act(known, asked.action, asked.reason)
    if not await store.put(conn, new, actor.tenant, actor.pseudonym, now):
        raise Refused("conflict", f"peer {peer_id} was changed meanwhile")
    await _tell(conn, actor, kind, new, now)
    return new


async def _tell(conn: AsyncConnection, actor: Actor, kind: str, record: Record, now: dt.datetime) -> None:
    entry = Pending(
        entry_id=str(uuid.uuid4()),
        tenant=actor.tenant,
        kind=kind,
        actor=actor.pseudonym,
        time=now,
        body=msgspec.to_builtins(record),
    )
    await ledger.store.append(conn, [(entry, None)])
