# SPDX-License-Identifier: Apache-2.0
"""Decisions to try policies on: jobs of many people and projects, through the pipeline's own code (G2; `dev` only).

Each job is admitted or denied by `jobs.admit` as if it had come over HTTP: priced, decided by the policies in force,
held, recorded, sealed. No worker takes an admitted one: it is cancelled at once by `jobs.control`, so that nothing runs
and every hold is given back. What the jobs ask for is drawn from a seed and is the same each time; ids and times
aren't. The people exist in their jobs alone: nobody can sign in as one of them.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from control_plane.auth.keys import demand_dev, pseudonym_key
from control_plane.auth.principal import Principal, pseudonym_of
from control_plane.context import Plane, open_plane
from control_plane.db import Database
from control_plane.jobs import control, reading
from control_plane.jobs.admit import admit
from control_plane.jobs.envelope import Envelope, Submit
from control_plane.policy import choice, private, store
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet, load
from control_plane.seed import funded
from control_plane.settings import Settings

TENANT = "demo"
ISSUER = "urn:qcos:demo-data"
PROJECTS: dict[str, Decimal | None] = {
    "demo": None,
    "materials": Decimal(2000),
    "chemistry": Decimal(500),
    "optics": Decimal("1.00"),
    "unfunded": None,
}
"""With the monthly budget that each gets; `demo` has one from the seed, `unfunded` none on purpose."""

AT_ONCE = 16
PURPOSES = ("benchmark", "benchmark-nightly", "production-run", "research-optimisation")
SHOTS = (200, 500, 1000, 4000, 20_000)
CLASSIFICATIONS = ("public", "internal", "internal", "internal", "confidential")
_SEED = 7
_PUT_OFF_S = 60.0
_DENIAL_BYTES = 1 << 40  # a flood of one's own making is kept whole
_BELL = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\n'
    "c[0] = measure q[0];\nc[1] = measure q[1];\n"
)


class Crowd(Struct, frozen=True):
    """Some alike people: their role, team and department, and how many of a hundred jobs are theirs."""

    name: str
    role: str
    team: str | None
    department: str | None
    people: int
    share: int


CROWDS = (
    Crowd("engineer", "quantum-engineer", "materials", None, 8, 45),
    Crowd("student", "quantum-user", "students", None, 20, 20),
    Crowd("scientist", "quantum-user", "labs", "research", 8, 25),
    Crowd("guest", "quantum-user", None, None, 4, 7),
    Crowd("auditor", "auditor", None, None, 2, 3),
)


class Made(Struct, frozen=True):
    """How many decisions were recorded, how they went, and in what time."""

    decisions: int
    admitted: int
    denied: dict[str, int]
    seconds: float


class Asked(Struct, frozen=True):
    """One job: who asks, and the bytes of the spec."""

    crowd: Crowd
    person: int
    body: bytes


def drawn(count: int) -> Iterator[Asked]:
    """What is asked for: the same each time, so many of it. Pure."""
    chance = random.Random(_SEED)  # noqa: S311 - to be spread, not to be secret
    shares = [crowd.share for crowd in CROWDS]
    for _ in range(count):
        (crowd,) = chance.choices(CROWDS, shares)
        (project,) = chance.choices(tuple(PROJECTS), (40, 25, 20, 10, 5))
        (shots,) = chance.choices(SHOTS, (30, 25, 25, 15, 5))
        # The research department may state benchmarks alone: most of its jobs do.
        purpose = PURPOSES[0] if crowd.department and chance.random() < 0.8 else chance.choice(PURPOSES)
        body = _spec(project, shots, purpose, chance.choice(CLASSIFICATIONS))
        yield Asked(crowd, chance.randrange(crowd.people), msgspec.json.encode(body))


def _spec(project: str, shots: int, purpose: str, classification: str) -> dict[str, Any]:
    return {
        "circuit": {"format": "QASM3", "source": base64.b64encode(_BELL.encode()).decode()},
        "execution": {"shots": shots, "backend_constraints": {"allowed_providers": ["aer"]}},
        "governance": {
            "project": project,
            "cost_center": f"CC-{project.upper()}",
            "classification": classification,
            "purpose": purpose,
            "justification": "made by qcos demo-data",
        },
        "evidence_requirements": {"level": "standard", "retention_days": 30},
    }


async def decisions(settings: Settings, count: int, tell: Callable[[int], None]) -> Made:
    """Record so many; `tell` hears how many there are. Refused or SettingInvalid outside profile `dev`."""
    demand_dev(settings.profile)
    begun = time.monotonic()
    async with opened(settings) as plane:
        for project, amount in PROJECTS.items():
            if amount is not None:
                await funded(plane.engine, TENANT, project, amount)
        await plane.sealing.look(plane)
        await plane.vault.ready(plane.engine, TENANT)
        went: Counter[str] = Counter()
        key, asked = pseudonym_key(settings.home), drawn(count)

        async def some() -> None:
            for one in asked:
                went[await _one(plane, one, key)] += 1
                tell(went.total())

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())
    denied = {code: number for code, number in went.most_common() if code != "admitted"}
    return Made(went.total(), went["admitted"], denied, round(time.monotonic() - begun, 3))


async def _one(plane: Plane, asked: Asked, key: bytes) -> str:
    """Admit and cancel one job, or have it denied: `admitted`, or the problem's code."""
    who = person(asked.crowd, asked.person, key)
    submit = Submit(reading.parse(asked.body), hashlib.sha256(asked.body).hexdigest())
    admission = await admit(plane, Envelope(who, submit, plane.now(), "demo-data"), submit, put_off_s=_PUT_OFF_S)
    if admission.problem is not None:
        return admission.problem
    await control.signal(plane, who, "cancel", admission.job_id)
    return "admitted"


def person(crowd: Crowd, number: int, key: bytes) -> Principal:
    """One of the crowd; the same each time."""
    name = f"{crowd.name}-{number + 1}"
    return Principal(
        subject=name,
        name=name,
        domain=TENANT,
        tenant=TENANT,
        issuer=ISSUER,
        pseudonym=pseudonym_of(key, tenant=TENANT, issuer=ISSUER, subject=name),
        roles=(crowd.role,),
        team=crowd.team,
        department=crowd.department,
    )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Plane]:
    """The parts of an API process of the plane in this home, with an engine of its own for the policies in force."""
    roomy = msgspec.structs.replace(settings, denial_bytes_per_day=_DENIAL_BYTES, policy_engine="embedded")
    plane = open_plane(roomy, Database.of_home(settings.home / "db"), connections=AT_ONCE, name="qcos-demo-data")
    await plane.pdp.close()
    opa = choice.find_opa(settings.opa_bin)
    try:
        async with plane.transaction(None) as conn:
            stored = await store.in_force(conn)
        policies = load() if stored is None else PolicySet.of(stored.files)
        async with private.opened(policies, opa) as engine:
            yield dataclasses.replace(plane, pdp=Pdp(engine, Held(policies)))
    finally:
        await plane.engine.dispose()
