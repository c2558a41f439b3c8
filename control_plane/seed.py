# SPDX-License-Identifier: Apache-2.0
"""What a plane needs before its first request: tenants of its issuers, a rate card, and in dev the development seed.

Run by `up` after migrations, before the API. Idempotent: what is there stays as it is. Each change is a ledger entry in
the transaction of the change (G5).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import finops.store
import ledger.store
from control_plane.auth import store as accounts
from control_plane.db import Database, engine, transaction
from control_plane.jobs.vault import Vault
from control_plane.sealing import utc_now
from control_plane.settings import Settings
from finops import card_store
from ledger.blob import BlobKeys
from ledger.chain import Pending

PLANE_ACTOR = "plane"
# Those of what a plane can reach as it comes; the others are pushed by who has a contract.
CARDS = ("own.json", "aws-braket.json", "ibm-quantum.json")
DEV_TENANTS = {"demo": "demo", "other": "other"}
DEV_BUDGET = Decimal(1000)


async def seed(settings: Settings) -> None:
    """Make what is missing."""
    database = Database.of_home(settings.home / "db")
    admin = engine(database.app, connections=2, name="qcos-seed")
    vault = Vault(BlobKeys.load(settings.home / "keys" / "blob" / "root"))
    tenants = {one.tenant for one in settings.providers}
    if settings.profile == "dev":
        tenants |= DEV_TENANTS.keys()
    try:
        for tenant in sorted(tenants):
            await open_tenant(admin, vault, tenant)
            if settings.profile == "dev" and tenant in DEV_TENANTS:
                await _development(admin, tenant, DEV_TENANTS[tenant])
    finally:
        await admin.dispose()


async def open_tenant(pool: AsyncEngine, vault: Vault, tenant: str, reason: str = "an issuer speaks for it") -> None:
    """A tenant with a blob key and rate cards of its own, each only where there is none."""
    now = utc_now()
    async with transaction(pool, tenant) as conn:
        if not any(known.tenant == tenant for known in await accounts.tenants(conn)):
            await accounts.add_tenant(conn, tenant)
            await _tell(conn, tenant, "tenant:created", {"tenant": tenant, "by": PLANE_ACTOR, "reason": reason})
        await vault.unlock(conn, tenant)
        if not await card_store.every(conn, tenant):
            for name in CARDS:
                document = files("finops").joinpath("cards", name).read_bytes()
                card = await card_store.push(conn, tenant, document, now)
                await _tell(conn, tenant, "rates:pushed", {"rate_card": card.hash, "name": card.name})


async def _development(pool: AsyncEngine, tenant: str, project: str) -> None:
    await funded(pool, tenant, project, DEV_BUDGET)


async def funded(pool: AsyncEngine, tenant: str, project: str, amount: Decimal) -> None:
    """A project with a monthly budget in USD, each only where there is none."""
    async with transaction(pool, tenant) as conn:
        if await accounts.project(conn, tenant, project) is None:
            await accounts.add_project(conn, tenant, project)
            await _tell(conn, tenant, "project:created", {"project": project})
        scope = f"project:{project}"
        if not any(view.scope == scope for view in await finops.store.show(conn, tenant, utc_now())):
            changed = await finops.store.set_budget(conn, tenant, scope, "monthly", amount, "USD")
            await _tell(conn, tenant, "budget:set", msgspec.to_builtins(changed))


async def _tell(conn: AsyncConnection, tenant: str, kind: str, body: Mapping[str, Any]) -> None:
    at: dt.datetime = utc_now()
    pending = Pending(
        entry_id=str(uuid.uuid4()),
        tenant=tenant,
        kind=kind,
        actor=PLANE_ACTOR,
        time=at,
        body=dict(body),
    )
    await ledger.store.append(conn, [(pending, None)])
