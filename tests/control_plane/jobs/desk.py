# SPDX-License-Identifier: Apache-2.0
"""A plane without its processes: the real database, policy, money, vault and sealer; time and faults are the test's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

import finops.store
from control_plane import db, seed
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.jobs import admit, reading, store, view
from control_plane.jobs.admit import Admission
from control_plane.jobs.claim import Claimed, claim
from control_plane.jobs.envelope import Envelope, Submit
from control_plane.jobs.evidence import Row
from control_plane.jobs.refold import Replayed, replay
from control_plane.jobs.run import Run
from control_plane.jobs.vault import Vault
from control_plane.policy.pdp import Pdp
from control_plane.registry import store as registry
from control_plane.sealing import utc_now
from control_plane.settings import Settings
from hal_drivers.base import Driver
from ledger import sealer_keys
from ledger.batch import LOGGED
from ledger.batch import Plane as Scope
from ledger.blob import BlobKeys
from ledger.sealer_config import SealerConfig
from tests.ledger.support import sealing
from tests.postgres import TestDatabase

BELL = json.loads((Path(__file__).resolve().parents[3] / "examples" / "bell.json").read_bytes())
CONNECTIONS = 24


def person(name: str = "ann", tenant: str = "demo", *roles: str) -> Principal:
    """Somebody who may submit."""
    return Principal(
        subject=f"s-{name}",
        name=name,
        domain=tenant,
        tenant=tenant,
        issuer="urn:test",
        pseudonym=f"a-{tenant}-{name}",
        roles=roles or ("quantum-engineer",),
        team="blue",
    )


def bell(**changes: Any) -> dict[str, Any]:
    """The bell spec at evidence level `standard`; a key is a path joined by two underscores."""
    spec: dict[str, Any] = json.loads(json.dumps(BELL))
    spec["evidence_requirements"]["level"] = "standard"
    for path, value in changes.items():
        *folders, name = path.split("__")
        at = spec
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = value
    return spec


class Desk:
    """What a test does to a plane and sees of it."""

    def __init__(self, database: TestDatabase, plane: Plane, sealer: SealerConfig) -> None:
        self.database, self.plane, self._sealer = database, plane, sealer
        # Statements are planned anew each time: tests change tables.
        self._superuser = psycopg.connect(database.conninfo("superuser"), autocommit=True, prepare_threshold=None)

    def close(self) -> None:
        """Let go of the database."""
        self._superuser.close()

    async def submit(
        self,
        spec: dict[str, Any] | None = None,
        *,
        who: Principal | None = None,
        key: str | None = None,
        dry_run: bool = False,
        plane: Plane | None = None,
    ) -> Admission:
        """One submission, from its bytes on."""
        body = json.dumps(spec or bell()).encode()
        payload = Submit(reading.parse(body), hashlib.sha256(body).hexdigest(), key, dry_run)
        return await admit.admit(
            plane or self.plane, Envelope(who or person(), payload, utc_now(), "request-1"), payload
        )

    async def admitted(self, **changes: Any) -> str:
        """A job that is queued and sealed: ready to be claimed."""
        admission = await self.submit(bell(**changes))
        assert admission.state == "QUEUED", admission.problem
        await self.seal()
        return admission.job_id

    async def seal(self) -> None:
        """Seal all that waits."""
        async with sealing(self._sealer):
            while self.sql("SELECT 1 FROM ledger.inbox LIMIT 1"):  # noqa: ASYNC110 - the sealer is another task
                await asyncio.sleep(0.005)

    async def claim(self, worker: str = "w1", at_most: int = 8) -> list[Claimed]:
        """What this worker gets."""
        return await claim(self.plane, worker, at_most)

    async def attempt(self, driver: Driver, worker: str = "w1") -> Run:
        """Claim the one job there is, ready to advance."""
        (claimed,) = await self.claim(worker)
        return Run(self.plane, {"fake": driver}, claimed)

    async def row(self, job_id: str, tenant: str = "demo") -> Row:
        """The job's row as the API reads it."""
        ((found,),) = await self.plane.read(tenant, store.find(job_id))
        return found

    async def state(self, job_id: str) -> str:
        """The state that is shown."""
        shown: str = view.shown(await self.row(job_id))["state"]
        return shown

    async def limit(self, amount: str, scope: str = "project:demo") -> None:
        """Set a budget, by default the project's, told by an entry as the API tells it."""
        async with self.plane.transaction("demo") as conn:
            changed = await finops.store.set_budget(conn, "demo", scope, "monthly", Decimal(amount), "USD")
            await seed._tell(conn, "demo", "budget:set", msgspec.to_builtins(changed))

    async def money(self) -> tuple[Decimal, Decimal]:
        """(held, captured) of the project's budget."""
        async with self.plane.transaction("demo") as conn:
            (budget,) = await finops.store.show(conn, "demo", utc_now())
        return budget.held, budget.captured

    async def replayed(self) -> Replayed:
        """The fold of the ledger, held against the rows (I6)."""
        async with _engine(self.database.audit) as audit:
            return await replay(audit, compare=True)

    def lose_lease(self) -> None:
        """Every worker stalls until its leases are over."""
        self.sql("UPDATE jobs.job SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL")

    def kinds(self) -> list[str]:
        """The kinds of all entries, sealed or not, that were written for tenant demo, in their order."""
        sealed = self.sql(
            f"SELECT kind FROM ledger.entry WHERE tenant = 'demo' AND kind <> '{LOGGED}' ORDER BY \"index\""
        )
        waiting = self.sql("SELECT pending FROM ledger.inbox WHERE tenant = 'demo' ORDER BY id")
        return [kind for (kind,) in sealed] + [msgspec.json.decode(data)["kind"] for (data,) in waiting]

    def counts(self) -> dict[str, int]:
        """How many rows each table that an admission writes holds."""
        tables = ("ledger.inbox", "ledger.blob", "jobs.job", "jobs.idempotency", "finops.hold")
        counted = {table: self.sql(f"SELECT count(*) FROM {table}")[0][0] for table in tables}
        held = self.sql("SELECT coalesce(sum(held), 0) FROM finops.budget_window")[0][0]
        return counted | {"held": held}

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """As superuser."""
        cursor = self._superuser.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


@contextlib.asynccontextmanager
async def desk(database: TestDatabase, home: Path, pdp: Pdp) -> AsyncIterator[Desk]:
    """A seeded plane: tenants demo and other, project demo with a budget of 1,000 USD a month."""
    BlobKeys.create(home / "root")
    vault = Vault(BlobKeys.load(home / "root"))
    sealer_keys.create_sealer_keys(home / "sealer")
    settings = Settings(home=home, simulators=1)
    async with _engine(database.app) as pool:
        plane = Plane(settings, settings.plane, pool, pdp, vault)
        for tenant in ("demo", "other"):
            await seed.open_tenant(pool, vault, tenant)
            await seed._development(pool, tenant, tenant)
        sealer = SealerConfig(
            conninfo=database.conninfo("sealer"),
            keys=home / "sealer",
            head=home / "ledger" / "head",
            origin="qcos.test/log",
            plane=Scope(profile="dev", name=settings.plane),
        )
        made = Desk(database, plane, sealer)
        with contextlib.closing(made):
            await made.seal()
            yield made


async def report(desk: Desk, driver: Driver) -> None:
    """What a worker tells the registry of its backends."""
    for device in await driver.devices():
        row = {
            "id": device.id,
            "provider": device.provider,
            "state": "online",
            "reason": None,
            "qubits": device.qubits,
            "formats": list(device.capabilities.formats),
            "region": device.region,
            "compliance_zone": device.compliance_zone,
            "sovereign": device.sovereign,
            "simulator": device.simulator,
            "capability": msgspec.to_builtins(device.capabilities),
        }
        async with desk.plane.transaction(None) as conn:
            await registry.report_backend(conn, row)


@contextlib.asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = db.engine(url, connections=CONNECTIONS)
    try:
        yield made
    finally:
        await made.dispose()
