# SPDX-License-Identifier: Apache-2.0
"""What a process of the plane holds while it runs: engine, policy, keys, clock. API and workers share it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.auth import access
from control_plane.db import Database, Query, engine, read, transaction
from control_plane.jobs.away import Away
from control_plane.jobs.known import Known
from control_plane.jobs.lane import Lanes
from control_plane.jobs.vault import Vault
from control_plane.policy.choice import Setting, choose_engine, open_engine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet
from control_plane.policy.watch import Watch
from control_plane.sealing import PlaneClock, Sealing
from control_plane.settings import Settings
from ledger.blob import BlobKeys


@dataclass(frozen=True)
class Plane:
    """One process's parts. `name` is the plane's own name, signed into every bundle as its scope."""

    settings: Settings
    name: str
    engine: AsyncEngine
    pdp: Pdp
    vault: Vault
    known: Known = field(default_factory=Known)
    now: PlaneClock = field(default_factory=PlaneClock)
    sealing: Sealing = field(default_factory=Sealing)
    lanes: Lanes = field(default_factory=Lanes)
    away: Away = field(default_factory=Away)
    watch: Watch | None = None
    """How this process learns of a policy push; a plane of tests may be given its policies."""

    async def read(self, tenant: str | None, *queries: Query) -> list[list[dict[str, Any]]]:
        """The rows of each query, in one transaction that sees this tenant alone and one round trip."""
        return await read(self.engine, tenant, *queries)

    def transaction(
        self, tenant: str | None, *, limit_s: float | None = None
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that sees this tenant alone; `limit_s` replaces the setting `database_limit_s`."""
        return transaction(self.engine, tenant, limit_s=limit_s)


def open_plane(settings: Settings, database: Database, *, connections: int, name: str) -> Plane:
    """The parts that API and worker share."""
    choice = choose_engine(
        cast("Setting", settings.policy_engine),
        settings.profile,
        settings.opa_bin,
        settings.opa_url,
    )
    deciding, held = (
        open_engine(choice.engine, choice.opa_url, settings.policy_limit_s),
        Held(max_age_s=settings.policy_max_age_s),
    )
    pool = engine(database.app, connections=connections, name=name, limit_s=settings.database_limit_s)
    key = settings.home / "keys" / "policy"
    return Plane(
        settings=settings,
        name=settings.plane,
        engine=pool,
        pdp=Pdp(deciding, held),
        vault=Vault(BlobKeys.load(settings.home / "keys" / "blob" / "root")),
        sealing=Sealing(settings.clock_tolerance_s),
        watch=Watch(pool, key, deciding, held, _permissions_follow, settings.policy_max_age_s),
    )


def _permissions_follow(policies: PolicySet) -> None:
    access.put_in_force(access.tolerated(policies.files[access.PATH]))
