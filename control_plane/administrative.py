# SPDX-License-Identifier: Apache-2.0
"""The entries of administrative actions: who gave what to whom, and why (G5, G13).

Enters who acts, the kind of act, what changed and the reason. Leaves a pending entry, which the caller appends in the
transaction of the change. People stand in it by their pseudonyms, the actor as `by`; a body holds no secret.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane.auth.principal import Principal
from control_plane.seed import PLANE_ACTOR
from ledger.chain import PLANE, Pending

Kind: TypeAlias = Literal[
    "costs:allocation_set",
    "costs:corrected",
    "costs:credited",
    "costs:month_closed",
    "costs:month_frozen",
    "costs:refunded",
    "costs:shared",
    "identity:admin:bootstrapped",
    "identity:delegation:granted",
    "identity:delegation:revoked",
    "identity:group:mapped",
    "identity:group:unmapped",
    "identity:key:created",
    "identity:key:revoked",
    "identity:key:rotated",
    "identity:role:granted",
    "identity:role:revoked",
    "identity:service:created",
    "identity:service:removed",
    "identity:session:ended",
    "identity:session:opened",
    "identity:signing_key:enrolled",
    "identity:signing_key:revoked",
    "identity:user:added",
    "identity:user:removed",
    "identity:user:restored",
    "identity:workload:added",
    "identity:workload:removed",
    "project:changed",
    "project:closed",
    "project:created",
    "rates:accepted",
    "rates:pushed",
    "tenant:closed",
    "tenant:created",
    "tenant:exported",
    "tenant:limits_set",
    "tenant:reader:created",
    "tenant:reader:dropped",
    "tenant:reopened",
]
KINDS = frozenset(get_args(Kind))


def entry(
    actor: Principal | None,
    kind: Kind,
    body: Mapping[str, Any],
    reason: str | None,
    at: dt.datetime,
    *,
    tenant: str | None = None,
) -> Pending:
    """The entry of an act in the actor's tenant, or in `tenant`; None is who acts on the plane's own machine.

    What the act was done with, a plane token or a delegation, stands in it, too.
    """
    by = PLANE_ACTOR if actor is None else actor.pseudonym
    told: dict[str, Any] = {**body, "by": by, "reason": reason}
    if actor is not None:
        told["via"] = actor.via
        if actor.credential is not None:
            told["credential"] = actor.credential
        if actor.chain:
            told["delegations"] = [link.delegation for link in actor.chain]
    whose = tenant or (PLANE if actor is None else actor.tenant)
    return Pending(entry_id=str(uuid.uuid4()), tenant=whose, kind=kind, actor=by, time=at, body=told)


async def append(conn: AsyncConnection, *entries: Pending) -> None:
    """Durable with the change itself, once the caller's transaction is."""
    await ledger.store.append(conn, [(one, None) for one in entries])
