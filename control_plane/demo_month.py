# SPDX-License-Identifier: Apache-2.0
"""A month's work to try the money's commands on: jobs of the last whole month and of this one so far (G7; `dev` only).

Each job goes the whole way by the pipeline's own code: admitted, held, compiled and run by this machine's simulators,
measured, charged, proven. Only its clock is set back: the plane of this process, and the times that a driver tells, lie
at the moment that the job is drawn for. So entries and evidence claim that moment, and checkpoints and time-stamps say
when it was really written: what `verify` calls the claimed time and the proven one. What is asked for is drawn from a
seed and is the same for the same months; ids, keys and run times aren't.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime as dt
import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from control_plane import demo_data, demo_invoice
from control_plane.auth.keys import demand_dev, pseudonym_key
from control_plane.context import Plane
from control_plane.demo_data import TENANT, Crowd
from control_plane.jobs import claim, leases, reading
from control_plane.jobs.admit import admit
from control_plane.jobs.envelope import Envelope, Submit
from control_plane.jobs.run import Run
from control_plane.sealing import PlaneClock, Sealing, utc_now
from control_plane.seed import funded
from control_plane.settings import Settings
from control_plane.worker import drivers_config
from finops import charge_store
from hal_drivers.base import Block, Driver, Handle, Outcome, Running, Status
from hal_drivers.table import open_drivers, running

BILLED = "aws-braket"
"""The provider whose invoice is made."""

AT_ONCE = 2
"""Simulators that run beside each other."""

BUDGETS: dict[str, Decimal | None] = {"demo": None, "materials": Decimal(200), "chemistry": Decimal(12)}
"""Projects with the monthly budget that each gets; `demo` has one from the seed, chemistry's is nearly used up."""

COST_CENTERS = {"demo": "CC-LAB-1", "materials": "CC-RD-42", "chemistry": "CC-RD-7"}
PROVIDERS = ("aer", "aws-braket", "ibm-quantum")
SHOTS = (200, 500, 1000, 2000, 4000)
CIRCUITS = (
    "qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n",
    "qubit[3] q;\nbit[3] c;\nh q[0];\ncx q[0], q[1];\ncx q[1], q[2];\nc = measure q;\n",
    "qubit[4] q;\nbit[4] c;\nh q;\ncx q[0], q[1];\nrz(0.3) q[1];\ncx q[2], q[3];\nrx(1.1) q[3];\nc = measure q;\n",
)
WEEK = (6, 6, 6, 5, 4, 1, 1)
"""Jobs by weekday, Monday first: some 130 a month."""

CROWDS = (
    Crowd("engineer", "quantum-engineer", "materials", None, 4, 60),
    Crowd("scientist", "quantum-user", "labs", "research", 5, 40),
)
_SEED = 11
_AHEAD_S = 300.0  # how long no worker takes a job that this process runs itself
_FAR_S = 1e10  # how far a clock that is set back may differ from the database's


class Asked(Struct, frozen=True):
    """One job: when it is asked for, by whom, and the bytes of the spec."""

    at: dt.datetime
    crowd: Crowd
    person: int
    body: bytes


class Made(Struct, frozen=True):
    """How many jobs there are from which day to which, how they ended, what is wrong in the invoice; in what time."""

    since: str
    until: str
    jobs: int
    ended: dict[str, int]
    denied: dict[str, int]
    planted: dict[str, int]
    seconds: float


def drawn(now: dt.datetime, scale: float = 1.0) -> Iterator[Asked]:
    """What is asked for, in its order in time: from the first of the month before to an hour before `now`. Pure."""
    chance = random.Random(_SEED)  # noqa: S311 - to be spread, not to be secret
    shares = [crowd.share for crowd in CROWDS]
    for day in _days(now):
        busy = WEEK[day.weekday()] * scale
        count = int(busy) + (chance.random() < busy % 1)
        for at in sorted(day + dt.timedelta(seconds=chance.randrange(7 * 3600, 19 * 3600)) for _ in range(count)):
            (crowd,) = chance.choices(CROWDS, shares)
            (project,) = chance.choices(tuple(BUDGETS), (45, 35, 20))
            (provider,) = chance.choices(PROVIDERS, (55, 30, 15))
            (shots,) = chance.choices(SHOTS, (15, 20, 35, 20, 10))
            purpose = "benchmark" if crowd.department else chance.choice(("benchmark", "production-run"))
            body = _spec(project, provider, shots, purpose, chance.choice(CIRCUITS))
            asked = Asked(at, crowd, chance.randrange(crowd.people), msgspec.json.encode(body))
            if at < now - dt.timedelta(hours=1):
                yield asked


def _days(now: dt.datetime) -> Iterator[dt.datetime]:
    today = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = (today.replace(day=1) - dt.timedelta(days=1)).replace(day=1)
    while day <= today:
        yield day
        day += dt.timedelta(days=1)


def _spec(project: str, provider: str, shots: int, purpose: str, circuit: str) -> dict[str, Any]:
    source = f'OPENQASM 3.0;\ninclude "stdgates.inc";\n{circuit}'
    return {
        "circuit": {"format": "QASM3", "source": base64.b64encode(source.encode()).decode()},
        "execution": {"shots": shots, "backend_constraints": {"allowed_providers": [provider]}},
        "governance": {
            "project": project,
            "cost_center": COST_CENTERS[project],
            "classification": "internal",
            "purpose": purpose,
            "justification": "made by qcos demo-data",
        },
        "evidence_requirements": {"level": "standard", "retention_days": 2555},
    }


async def month(
    settings: Settings, scale: float, tell: Callable[[int, int], None], invoice: Path | None = None
) -> Made:
    """Make them, and `BILLED`'s invoice of the whole month where a file for it is named.

    `tell` hears how many jobs there are of how many. Refused or SettingInvalid outside profile `dev`.
    """
    demand_dev(settings.profile)
    begun, now = time.monotonic(), utc_now()
    asked, key = list(drawn(now, scale)), pseudonym_key(settings.home)
    went: Counter[str] = Counter()
    async with demo_data.opened(settings) as plane:
        for project, amount in BUDGETS.items():
            if amount is not None:
                await funded(plane.engine, TENANT, project, amount)
        drivers = open_drivers(replace(drivers_config(settings), children=AT_ONCE))
        async with running(drivers):
            places, left = asyncio.Semaphore(AT_ONCE), iter(asked)

            async def some(name: str) -> None:
                for one in left:
                    async with places:
                        went[await _one(plane, drivers, one, key, name)] += 1
                    tell(went.total(), len(asked))

            async with asyncio.TaskGroup() as group:
                for number in range(AT_ONCE):
                    group.create_task(some(f"demo-data-{number}"))
        planted = {} if invoice is None else await _bill(plane, now, invoice)
    ended = {state: went.pop(state) for state in ("COMPLETED", "FAILED", "CANCELED", "UNCERTAIN") if state in went}
    first = asked[0].at.date().isoformat() if asked else ""
    seconds = round(time.monotonic() - begun, 3)
    return Made(first, now.date().isoformat(), sum(ended.values()), ended, dict(went.most_common()), planted, seconds)


async def _bill(plane: Plane, now: dt.datetime, file: Path) -> dict[str, int]:
    """Write the invoice of the whole month; what is planted in it."""
    whole = f"{next(_days(now)):%Y-%m}"
    async with plane.transaction(TENANT) as conn:
        found = [one async for one in charge_store.lines(conn, TENANT, month=whole) if one.provider == BILLED]
    text, planted = demo_invoice.invoice(found)
    file.write_text(text, encoding="utf-8")
    return planted


async def _one(plane: Plane, drivers: Mapping[str, Driver], asked: Asked, key: bytes, name: str) -> str:
    """One job, whole, at its own time: how it ended, or the problem that it was denied for."""
    back = utc_now() - asked.at
    there = dataclasses.replace(plane, now=PlaneClock(lambda: utc_now() - back), sealing=Sealing(_FAR_S))
    who = demo_data.person(asked.crowd, asked.person, key)
    submit = Submit(reading.parse(asked.body), hashlib.sha256(asked.body).hexdigest())
    put_off_s = back.total_seconds() + _AHEAD_S
    admission = await admit(there, Envelope(who, submit, there.now(), "demo-data"), submit, put_off_s=put_off_s)
    if admission.problem is not None:
        return admission.problem
    async with there.transaction(TENANT) as conn:
        await leases.keep(conn, admission.job_id, name)
    (rows,) = await there.read(TENANT, leases.taken([admission.job_id]))
    found = await claim.taken(there, rows[0], name)
    if found is not None:
        set_back = {backend: SetBack(driver, back) for backend, driver in drivers.items()}
        await Run(there, set_back, found).advance()
    (rows,) = await there.read(TENANT, leases.taken([admission.job_id]))
    return str(rows[0]["final"])


class SetBack:
    """A driver whose clock is set back by so much: what it tells of its tasks' times, and nothing else."""

    def __init__(self, driver: Driver, by: dt.timedelta) -> None:
        """Everything but times is the driver's own."""
        self._driver, self._by = driver, by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        """The task's status, a start at the time set back."""
        status = await self._driver.poll(handle, wait_s)
        return replace(status, started_at=status.started_at - self._by) if isinstance(status, Running) else status

    async def result(self, handle: Handle) -> Outcome:
        """The outcome, at the time set back."""
        outcome = await self._driver.result(handle)
        blocks = tuple(self._shifted(block) for block in outcome.blocks)
        started, ended = outcome.started_at - self._by, outcome.ended_at - self._by
        return replace(outcome, blocks=blocks, started_at=started, ended_at=ended)

    def _shifted(self, block: Block) -> Block:
        return replace(block, start=block.start - self._by, end=block.end - self._by)
