# SPDX-License-Identifier: Apache-2.0
"""The soak: a plane of its own, a thousand bell jobs of ten users, a budget for half of them (I1, I2, I3, I6, G13).

    1 a plane in ./.qcos-soak on a free port, believing a second issuer that this process serves on loopback
    2 ten users, each with a few jobs in flight; meanwhile two watchers look at the budget, one in the database, one
      through the API, and count every look at which held + captured is more than the limit
    3 every job's evidence is fetched and verified here, offline; `qcos ledger verify`; `qcos ledger replay --compare`

Prints a table; exit 1 where any promise was broken. The plane is stopped at the end, its folder kept for reading.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from msgspec import Struct

from control_plane.db import conninfo
from finops.facts import fact
from finops.rates import charge, parse_card
from ledger.verify import verify
from tests.own_plane import OwnPlane
from tests.soak.issuer import Issuer

HOME = Path(".qcos-soak")
ROOT = Path(__file__).resolve().parents[2]
TENANT = "soak"
SCOPE = "project:soak"
USERS = 10
IN_FLIGHT = 2  # jobs that a user waits for at once
EVIDENCE_S = 120.0  # a checkpoint without executed jobs is stamped once a minute
STANDING = "SELECT coalesce(sum(held), 0), coalesce(sum(captured), 0) FROM finops.budget_window WHERE tenant = 'soak'"


class Ended(Struct, frozen=True):
    """One job as its user saw it end."""

    job_id: str
    state: str
    code: str | None
    seconds: float


class Sightings:
    """What a watcher of the budget saw."""

    def __init__(self, limit: Decimal) -> None:
        self.limit, self.looks, self.most, self.oversold = limit, 0, Decimal(0), 0

    def look(self, held: Decimal, captured: Decimal) -> None:
        """Note one look (I3)."""
        self.looks += 1
        self.most = max(self.most, held + captured)
        self.oversold += held + captured > self.limit


class Soak:
    """One run against a plane that is up."""

    def __init__(self, plane: OwnPlane, issuer: Issuer, jobs: int, seed: int) -> None:
        chance = random.Random(seed)
        self.plane, self.issuer = plane, issuer
        self.shots = [chance.randrange(100, 1001) for _ in range(jobs)]
        self.limit = _cost(self.shots[: jobs // 2])
        self.levels = ["standard" if chance.random() < 0.1 else "full" for _ in range(jobs)]
        self.ended: list[Ended] = []
        self.inside, self.outside = Sightings(self.limit), Sightings(self.limit)
        self.verdicts: Counter[str] = Counter()
        self.submit_s = self.evidence_s = 0.0

    async def run(self, token: str) -> None:
        """Set the budget, submit everything under watch, then collect the evidence."""
        async with self._session(token) as admin:
            budget = {"scope": SCOPE, "amount": format(self.limit, "f"), "currency": "USD", "period": "total"}
            async with admin.put("/api/v1/budgets", json=budget) as answer:
                assert answer.status == 200, await answer.text()
            done = asyncio.Event()
            watchers = [asyncio.create_task(self._look_inside(done)), asyncio.create_task(self._look(admin, done))]
            begun = time.monotonic()
            numbers = iter(range(len(self.shots)))
            await asyncio.gather(*(self._user(f"user-{n}", numbers) for n in range(USERS)))
            self.submit_s = time.monotonic() - begun
            done.set()
            await asyncio.gather(*watchers)
            begun = time.monotonic()
            await self._evidence(admin)
            self.evidence_s = time.monotonic() - begun

    async def _user(self, name: str, numbers: Any) -> None:
        async with self._session(self.issuer.token(name, "quantum-engineer", team=f"team-of-{name}")) as session:
            await asyncio.gather(*(self._jobs(session, numbers) for _ in range(IN_FLIGHT)))

    async def _jobs(self, session: aiohttp.ClientSession, numbers: Any) -> None:
        for number in numbers:
            begun = time.monotonic()
            async with session.post(
                "/api/v1/jobs?wait=60", json=_spec(self.shots[number], self.levels[number])
            ) as said:
                document = await said.json(content_type=None)
            while document.get("code") is None and document["state"] not in ("COMPLETED", "FAILED", "CANCELED"):
                async with session.get(f"/api/v1/jobs/{document['job_id']}?wait=60") as said:
                    document = await said.json(content_type=None)
            state = document.get("state") or f"HTTP {said.status}"
            code = document.get("code") or (document.get("error") or {}).get("code")
            self.ended.append(Ended(str(document.get("job_id")), state, code, time.monotonic() - begun))

    async def _look_inside(self, done: asyncio.Event) -> None:
        """The budget as the database has it, a few hundred times."""
        async with await psycopg.AsyncConnection.connect(conninfo(self.plane.database.audit), autocommit=True) as conn:
            while not done.is_set():
                row = await (await conn.execute(STANDING)).fetchone()
                assert row is not None
                self.inside.look(*row)
                await asyncio.sleep(0.05)

    async def _look(self, admin: aiohttp.ClientSession, done: asyncio.Event) -> None:
        """The budget as the plane shows it."""
        while not done.is_set():
            async with admin.get("/api/v1/budgets") as answer:
                (shown,) = [one for one in await answer.json() if one["scope"] == SCOPE]
            self.outside.look(Decimal(shown["held"]), Decimal(shown["captured"]))
            await asyncio.sleep(0.25)

    async def _evidence(self, admin: aiohttp.ClientSession) -> None:
        """Fetch every bundle and verify it here, with the trust file alone."""
        kept = self.plane.home / "trust.json"
        self.plane.ask("trust", "export", "-o", str(kept))
        trust = kept.read_bytes()
        todo = iter(self.ended)

        async def some() -> None:
            for one in todo:
                bundle = await self._bundle(admin, one.job_id)
                if bundle is None:
                    self.verdicts["missing"] += 1
                    continue
                report = verify(bundle, trust, datetime.now(UTC))
                same = json.loads(bundle)["state"] == one.state
                self.verdicts[report.verdict if same else "another state"] += 1

        await asyncio.gather(*(some() for _ in range(4)))

    async def _bundle(self, admin: aiohttp.ClientSession, job_id: str) -> bytes | None:
        until = time.monotonic() + EVIDENCE_S
        while time.monotonic() < until:
            async with admin.get(f"/api/v1/jobs/{job_id}/evidence") as answer:
                if answer.status == 200:
                    return await answer.read()
                if answer.status != 409:
                    return None
            await asyncio.sleep(0.5)
        return None

    @contextlib.asynccontextmanager
    async def _session(self, token: str) -> AsyncIterator[aiohttp.ClientSession]:
        limit = aiohttp.ClientTimeout(total=180)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(self.plane.record.url, headers=headers, timeout=limit) as session:
            yield session


def _cost(shots: Sequence[int]) -> Decimal:
    """What these jobs will be charged, the simulator's seconds apart, which are fractions of a cent."""
    card = parse_card((ROOT / "finops" / "cards" / "own.json").read_bytes())
    total = Decimal(0)
    for number in shots:
        facts = [fact("tasks", Decimal(1), "measured", "plane"), fact("shots", Decimal(number), "measured", "plane")]
        total += charge(card, "aer", facts, device="aer").amount
    return total


def _spec(shots: int, level: str) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((ROOT / "examples" / "bell.json").read_bytes())
    spec["execution"] = {"shots": shots}
    spec["governance"] |= {"project": "soak"}
    spec["evidence_requirements"] = {"level": level}
    return spec


def _percentile(values: Sequence[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0


def _judge(soak: Soak, verified: dict[str, Any], replayed: dict[str, Any]) -> list[str]:
    """Print the table; the promises that were broken."""
    jobs = len(soak.shots)
    ends = Counter((one.state, one.code) for one in soak.ended)
    completed, denied = ends["COMPLETED", None], ends["DENIED", "budget_exceeded"]
    took = [one.seconds * 1000 for one in soak.ended if one.state == "COMPLETED"]
    refused = [one.seconds * 1000 for one in soak.ended if one.state == "DENIED"]
    faults = {
        "every job ends COMPLETED, or DENIED budget_exceeded": completed + denied == jobs,
        "the budget covers about half of them": 0.4 * jobs <= completed <= 0.6 * jobs,
        "held + captured is within the limit at every look": not soak.inside.oversold and not soak.outside.oversold,
        "every job has evidence that verifies offline": soak.verdicts == {"valid": jobs},
        "qcos ledger verify passes": verified["ok"] is True,
        "qcos ledger replay --compare agrees": replayed["agrees"] is True and replayed["jobs"] == jobs,
        "the second issuer was asked for its keys": soak.issuer.asked >= 1,
    }
    _row("jobs", f"{jobs} of {USERS} users, {USERS * IN_FLIGHT} in flight: " + _counted(ends))
    _row("budget", f"{soak.limit} USD, at most {soak.inside.most} held and captured, "
         f"{soak.inside.looks} looks in the database, {soak.outside.looks} through the API")  # fmt: skip
    _row("throughput", f"{jobs / soak.submit_s:.1f} jobs/s, {len(took) / soak.submit_s:.1f} executed/s")
    _row("to sealed", f"p50 {_percentile(took, 0.5):.0f} ms, p99 {_percentile(took, 0.99):.0f} ms")
    _row("denied", f"p50 {_percentile(refused, 0.5):.0f} ms, p99 {_percentile(refused, 0.99):.0f} ms")
    _row("evidence", f"{dict(soak.verdicts)} of {len(soak.ended)}, all fetched and verified in {soak.evidence_s:.1f} s")
    _row("ledger", f"{verified['size']} entries, sound: {verified['ok']}; replay agrees: {replayed['agrees']}")
    for promise, held in faults.items():
        _row("  held" if held else "  BROKEN", promise)
    for line in replayed["differences"][:10] + verified["failures"][:10]:
        _row("  cause", str(line))
    return [promise for promise, held in faults.items() if not held]


def _counted(ends: Counter[tuple[str, str | None]]) -> str:
    return ", ".join(f"{number} {state}{' ' + code if code else ''}" for (state, code), number in ends.most_common())


def _row(name: str, text: str) -> None:
    sys.stdout.write(f"{name:<12}{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the soak; 0 where every promise held."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20260109)
    arguments = parser.parse_args()
    shutil.rmtree(HOME, ignore_errors=True)
    issuer = Issuer(TENANT)
    issuer.start()
    admin = issuer.token("soak-admin", "quantum-admin", "auditor", "finops")
    plane = OwnPlane(HOME.absolute(), config=issuer.config, QCOS_TOKEN=admin)
    try:
        with plane.running():
            _row("plane", f"{plane.record.url}, policy {plane.record.policy_engine}, ./{HOME}")
            soak = Soak(plane, issuer, arguments.jobs, arguments.seed)
            asyncio.run(soak.run(admin))
            verified = json.loads(plane.run("ledger", "verify", "--json").stdout)
            replayed = json.loads(plane.run("ledger", "replay", "--compare", "--json").stdout)
        return 1 if _judge(soak, verified, replayed) else 0
    finally:
        issuer.stop()


if __name__ == "__main__":
    sys.exit(main())
