# SPDX-License-Identifier: Apache-2.0
"""Clients that keep jobs flowing through a plane whose parts die, and that remember every acknowledgement they got.

Each job has an Idempotency-Key and is sent until it is acknowledged, so a lost answer is asked for again. What was
acknowledged is kept: job ids by key, checkpoints seen, results handed out, signals taken. `tests.faults.judge` holds
the ledger to it. A client that meets a dead plane waits a moment and asks again; no answer but these is expected: the
one that is meant, 503, and a connection that breaks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from ledger import checkpoint
from tests.conformance.driver import LONG
from tests.own_plane import OwnPlane

BELL = json.loads((Path(__file__).parents[2] / "examples" / "bell.json").read_bytes())
BROKE = "broke"
AGAIN_S = 0.1
LIMIT_S = 20.0
WEIGHTS = {"run": 8, "standard": 4, "long": 4, "twice": 3, "cancel": 3, "hold": 2, "denied": 2, "broke": 2, "budget": 1}


class Heard:
    """What clients of a plane were told, each of it a promise."""

    def __init__(self) -> None:
        self.jobs: dict[str, set[str]] = defaultdict(set)  # Idempotency-Key → job ids that it was answered with
        self.denied: set[str] = set()
        self.erased: set[str] = set()  # job ids whose contents somebody had erased: no evidence is promised of them
        self.heads: dict[int, bytes] = {}  # size → root of each checkpoint seen
        self.results: dict[str, Any] = {}  # job id → counts

    def head(self, note: bytes) -> None:
        """A checkpoint was shown."""
        found = checkpoint.parse(note)
        assert self.heads.setdefault(found.size, found.root) == found.root, f"forked at {found.size}"

    def job(self, key: str, document: dict[str, Any]) -> None:
        """A submission was answered."""
        self.jobs[key].add(document["job_id"])
        if document["state"] == "DENIED":
            self.denied.add(document["job_id"])


class Traffic:
    """What the clients do; `heard` is what they were told."""

    def __init__(self, plane: OwnPlane, seed: int, *, clients: int = 4, pause_s: float = 0.5) -> None:
        self.plane, self.heard = plane, Heard()
        self.answers: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._clients, self._pause_s = clients, pause_s
        self._tokens = {user: plane.ask("login", "--as", user)["access_token"] for user in ("admin", "engineer")}

    async def prepare(self) -> None:
        """A project whose budget is spent at once."""
        async with self._session("admin") as admin:
            await self._budget(admin, f"project:{BROKE}", "0.01")

    async def flow(self, stop: asyncio.Event) -> None:
        """Keep jobs flowing until stopped; returns once every job sent was acknowledged."""
        async with self._session("engineer") as engineer, self._session("admin") as admin, asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(random.Random(self._chance.random() + number), engineer, admin, stop))
            group.create_task(self._watch(engineer, stop))

    async def send(self, session: aiohttp.ClientSession, spec: dict[str, Any], key: str) -> dict[str, Any]:
        """Submit until it is acknowledged."""

        async def once() -> dict[str, Any] | None:
            async with session.post("/api/v1/jobs", json=spec, headers={"Idempotency-Key": key}) as said:
                document = await self._document(said)
                return document if said.status in (200, 202, 403) else None

        document: dict[str, Any] = await self._until(once)
        self.heard.job(key, document)
        return document

    @contextlib.asynccontextmanager
    async def _session(self, user: str) -> AsyncIterator[aiohttp.ClientSession]:
        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        limit = aiohttp.ClientTimeout(total=LIMIT_S)
        async with aiohttp.ClientSession(self.plane.record.url, headers=headers, timeout=limit) as session:
            yield session

    async def _client(
        self,
        chance: random.Random,
        engineer: aiohttp.ClientSession,
        admin: aiohttp.ClientSession,
        stop: asyncio.Event,
    ) -> None:
        kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
        while not stop.is_set():
            kind, key = chance.choices(kinds, weights)[0], uuid.UUID(int=chance.getrandbits(128)).hex
            if kind == "budget":
                await self._budget(admin, "project:demo", f"{chance.randrange(9_000, 10_000)}")
            elif kind == "twice":
                await asyncio.gather(*(self.send(engineer, spec(kind), key) for _ in range(2)))
            else:
                job_id = (await self.send(engineer, spec(kind), key))["job_id"]
                if kind == "cancel":
                    await self._signal(engineer, job_id, "cancel")
                elif kind == "hold":
                    await self._signal(engineer, job_id, "hold")
                    await self._signal(engineer, job_id, "resume")
                else:
                    await self._look(engineer, job_id)
            await asyncio.sleep(chance.expovariate(1 / self._pause_s))

    async def _signal(self, session: aiohttp.ClientSession, job_id: str, signal: str) -> None:
        async def once() -> int | None:
            async with session.post(f"/api/v1/jobs/{job_id}/{signal}") as said:
                await self._document(said)
                return said.status if said.status in (202, 409) else None  # 409: too late, or it isn't held

        await self._until(once)

    async def _budget(self, session: aiohttp.ClientSession, scope: str, amount: str) -> None:
        asked = {"scope": scope, "amount": amount, "currency": "USD", "period": "monthly"}

        async def once() -> bool:
            async with session.put("/api/v1/budgets", json=asked) as said:
                await self._document(said)
                return said.status == 200

        await self._until(once)

    async def _look(self, session: aiohttp.ClientSession, job_id: str) -> None:
        """Ask once for the result; what is handed out must stay so."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"/api/v1/jobs/{job_id}?wait=2") as said:
                ended = (await self._document(said)).get("state") == "COMPLETED"
            if ended:
                async with session.get(f"/api/v1/jobs/{job_id}/result") as said:
                    document = await self._document(said)
                    if said.status == 200:
                        self.heard.results[job_id] = document["quantum_result"]["counts"]

    async def _watch(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        """Remember each checkpoint that the plane shows."""
        while not stop.is_set():
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get("/api/v1/ledger/checkpoint") as said:
                    note = await said.read()
                    if said.status == 200:
                        self.heard.head(note)
            await asyncio.sleep(AGAIN_S)

    async def _until(self, once: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                found = await once()
            except (aiohttp.ClientError, TimeoutError) as error:
                self.answers[type(error).__name__] += 1
                found = None
            if found:
                return found
            await asyncio.sleep(AGAIN_S)

    async def _document(self, said: aiohttp.ClientResponse) -> Any:
        document = await said.json(content_type=None)
        code = document.get("code") if isinstance(document, dict) else None
        self.answers[f"{said.status} {code}" if code else str(said.status)] += 1
        return document


def spec(kind: str) -> dict[str, Any]:
    """The job spec of this kind of job."""
    made: dict[str, Any] = {**BELL, "execution": {"shots": 100, "seed": 7}}
    if kind == "long":
        circuit = {"format": "QASM3", "source": base64.b64encode(LONG).decode()}
        made |= {"circuit": circuit, "execution": {"shots": 100, "seed": 7}}
    if kind == "program":
        circuit = made.pop("circuit")
        made["program"] = {"kind": "sampler", "circuits": [circuit] * 5}
    if kind == "standard":
        made["evidence_requirements"] = {"level": "standard"}
    if kind == "denied":
        made["governance"] = {**BELL["governance"], "classification": "restricted"}
    if kind == "broke":
        made["governance"] = {**BELL["governance"], "project": BROKE}
    return made
