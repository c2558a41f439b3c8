# SPDX-License-Identifier: Apache-2.0
"""What a person does to the plane's policies: push a revision, look at one, see what is in force (G2, G5, G13).

A push is judged first (`policy.trial`); refused or kept, an entry tells of it. Policy is the plane's, so only the
administrators of tenants that the setting `policy_tenants` names push it, and only there are its files read: they name
projects of every tenant (I7).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from control_plane.auth import access
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.policy import push, store, trial
from control_plane.policy.choice import find_opa
from control_plane.policy.data import places
from control_plane.policy.fault import Fault
from control_plane.policy.push import Asked
from control_plane.policy.revision import PolicySet
from control_plane.policy.store import Push, Stored
from control_plane.settings import Settings
from ledger import store as entries
from ledger.canonical import sha256
from ledger.chain import Pending

REFUSED = "policy:push:refused"
TOLD = 20  # faults that a refusal's entry names
_room = asyncio.Semaphore(1)  # a judgement starts processes


def require_tenant(settings: Settings, who: Principal) -> None:
    """Refused `forbidden` unless the plane's policies are this tenant's business."""
    named = settings.policy_tenants
    if not named:
        known = {one.tenant for one in settings.providers}
        named = ("demo",) if settings.profile == "dev" else tuple(known) if len(known) == 1 else ()
    if who.tenant not in named:
        raise Refused("forbidden", "the plane's policies are kept by the tenants that its setting policy_tenants names")


async def pushed(plane: Plane, who: Principal, files: Mapping[str, bytes], base: str | None, message: str) -> Push:
    """Judge and keep a push; the one in force where nothing would change. Raises Refused with each fault, or moved."""
    policies, faults = await judged(plane, who, files)
    asked = Asked(tenant=who.tenant, actor=who.pseudonym, message=message, base=base, at=plane.now())
    if policies is None or faults:
        await _tell_refused(plane, asked, files, faults)
        raise refused(faults)
    return await _put(plane, policies, asked)


async def judged(plane: Plane, who: Principal, files: Mapping[str, bytes]) -> tuple[PolicySet | None, Sequence[Fault]]:
    """The policies of these files, or what speaks against putting them in force."""
    async with _room:
        policies, faults = await trial.judge(files, find_opa(plane.settings.opa_bin))
    if policies is None:
        return policies, faults
    return policies, (
        *faults,
        *_rights(files, who),
        *_strangers(policies, {one.name for one in plane.settings.channels}),
    )


async def _put(plane: Plane, policies: PolicySet, asked: Asked) -> Push:
    async with plane.transaction(asked.tenant) as conn:
        found = await store.in_force(conn)
        number, standing = await store.head(conn)
        if found is not None and found.number == number and found.files == policies.files:
            if asked.base not in (None, standing):
                raise push.moved(standing)
            return found
        plane.sealing.refuse()  # what isn't sealed is never in force
        return await push.put(conn, policies, asked)


def refused(faults: Sequence[Fault]) -> Refused:
    """The refusal that names each fault."""
    more = f" (the first of {len(faults)})" if len(faults) > 1 else ""
    return Refused(
        "policy_refused",
        f"{faults[0]}{more}",
        errors=tuple({"field": f"{one.path}:{one.line}", "message": f"{one.rule}: {one.message}"} for one in faults),
        extras={"faults": [_told(one) for one in faults]},
    )


def _rights(files: Mapping[str, bytes], who: Principal) -> tuple[Fault, ...]:
    """A table of rights that this program understands whole, under which whoever pushes may push again."""
    try:
        table = access.parse_permissions(files.get(access.PATH, b"{}"))
    except ValueError as error:
        return (Fault(access.PATH, 1, "permissions", str(error)),)
    if not access.may(who, "policy:push", None, table):
        return (
            Fault(access.PATH, 1, "permissions", "you could not push any more: none of your roles has policy:push"),
        )
    return ()


def _strangers(policies: PolicySet, known: Collection[str]) -> Iterator[Fault]:
    """Notices to tables that this plane doesn't have: each job that they bind would be refused."""
    files = {path: content.decode() for path, content in policies.files.items() if path.startswith("data/")}
    for name, rule in policies.data.get("obligations", {}).get("rules", {}).items():
        if rule["kind"] == "notify" and rule["value"] not in known:
            place = ("obligations", "rules", name, "value")
            path, line = next((path, lines[place]) for path, text in files.items() if place in (lines := places(text)))
            yield Fault(path, line, "obligations", f"this plane has no [[notify]] or [[mail]] table {rule['value']}")


async def _tell_refused(plane: Plane, asked: Asked, files: Mapping[str, bytes], faults: Sequence[Fault]) -> None:
    body = {
        "base": asked.base,
        "files": {path: sha256(content) for path, content in sorted(files.items())[:1000] if path.isascii()},
        "faults": [_told(one) for one in faults[:TOLD]],
        "count": len(faults),
    }
    entry = Pending(
        entry_id=str(uuid.uuid4()), tenant=asked.tenant, kind=REFUSED, actor=asked.actor, time=asked.at, body=body
    )
    async with plane.transaction(asked.tenant) as conn:
        await entries.append(conn, [(entry, None)])


def _told(fault: Fault) -> dict[str, Any]:
    return {"path": fault.path[:200], "line": fault.line, "rule": fault.rule, "message": fault.message[:500]}


async def found(plane: Plane, revision: str) -> Stored:
    """A revision with its files; Refused `not_found`."""
    async with plane.transaction(None) as conn:
        stored = await store.by_revision(conn, revision)
    if stored is None:
        raise Refused("not_found", f"no revision {revision}")
    return stored
