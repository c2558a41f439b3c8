# SPDX-License-Identifier: Apache-2.0
"""`python -m bench auth_fairness`: ten busy tenants beside one that floods: what it costs the ten (G11).

Ten tenants with a client each ask for their next as soon as they have the last, calm and flooded in turns; the flood is
an eleventh tenant with `FLOODERS` connections, from a process of its own. `requests`: a page of one's jobs. `jobs`: the
bell circuit, from its request to COMPLETED. No rate limits: the plane shares out what there is. The clients of both run
on the same cores as the plane, and what they cost is in the figures.
"""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from joserfc import jwt

from bench.governed import SHOTS, circuits, mirrored
from bench.plane import Client, Plane, spec
from bench.record import Figures, Run, main, table
from bench.spread import in_ms
from control_plane import seed
from control_plane.auth.issuer import AUDIENCE
from control_plane.auth.keys import issuer_key
from control_plane.db import Database, engine
from control_plane.jobs.vault import Vault
from ledger.blob import BlobKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY = 10
FLOODERS = 64
GOAL = 1.5
FLOOD = "flood"
REQUEST = "/api/v1/jobs?limit=20"
KINDS = ("requests", "jobs")


def measure(run: Run) -> None:
    """Both kinds, calm and flooded in turns, so that each meets the machine early and late alike."""
    turns, counts = (1, {"requests": 60, "jobs": 6}) if run.quick else (3, {"requests": 300, "jobs": 30})
    names = [f"busy-{number}" for number in range(BUSY)]
    with Plane(workers="1", api_processes="1") as plane:
        asyncio.run(_settled(plane, [*names, FLOOD]))
        tokens = [_token(plane, name) for name in names]
        found: dict[str, dict[str, list[float]]] = {kind: {"calm": [], "flooded": []} for kind in KINDS}
        answered = {kind: Counter[int]() for kind in KINDS}
        for kind in KINDS:
            _asked(plane, tokens, kind, counts[kind] // 3)  # warm
            for turn in mirrored(["calm", "flooded"], turns):
                if turn == "calm":
                    found[kind][turn] += _asked(plane, tokens, kind, counts[kind])
                    continue
                with _flood(plane, kind, answered[kind]):
                    found[kind][turn] += _asked(plane, tokens, kind, counts[kind])
            run.say(f"{kind}: p99 {_ratio(found[kind]):.2f} ×")
            run.keep(**{kind: _figures(found[kind], answered[kind])}, busy=BUSY, flooders=FLOODERS, goal=GOAL)


async def _settled(plane: Plane, names: list[str]) -> None:
    """Tenants with a project and a budget each."""
    pool = engine(Database.of_home(plane.home / "db").app, connections=1, name="qcos-bench")
    vault = Vault(BlobKeys.load(plane.home / "keys" / "blob" / "root"))
    try:
        for name in names:
            await seed.open_tenant(pool, vault, name, "a bench")
            await seed.funded(pool, name, "demo", Decimal(1_000_000_000))
    finally:
        await pool.dispose()


def _token(plane: Plane, tenant: str) -> str:
    """What the development issuer would sign for somebody of this tenant."""
    key: Any = issuer_key(plane.home)
    now = int(time.time())
    claims = {
        "iss": f"{plane.status['url']}/issuer",
        "aud": AUDIENCE,
        "sub": tenant,
        "client_id": "bench",
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + 7200,
        "preferred_username": tenant,
        "tenant": tenant,
        "roles": ["quantum-engineer"],
    }
    return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.thumbprint()}, claims, key, algorithms=["ES256"])


def _asked(plane: Plane, tokens: list[str], kind: str, count: int) -> list[float]:
    """Seconds of each request of ten clients at once."""
    found: list[float] = []
    body, place = spec(circuits()["bell"], SHOTS, "standard"), urlsplit(plane.status["url"]).netloc

    def ask(token: str) -> None:
        with Client(place, token, plane.refused) as client:
            for _ in range(count):
                if kind == "jobs":
                    found.append(client.job(body)[0])
                    continue
                begun = time.perf_counter()
                client.get(REQUEST)
                found.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=ask, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextmanager
def _flood(plane: Plane, kind: str, answered: Counter[int]) -> Iterator[None]:
    """The eleventh tenant asks with all its connections, until the block ends."""
    context = multiprocessing.get_context("spawn")
    stop, told = context.Event(), context.Queue()
    place, token = urlsplit(plane.status["url"]).netloc, _token(plane, FLOOD)
    child = context.Process(target=_flooding, args=(place, token, kind, stop, told))
    child.start()
    try:
        time.sleep(2.0)  # a flood that goes on, not its first moment
        yield
    finally:
        stop.set()
        answered.update(told.get(timeout=120))
        child.join()


def _flooding(place: str, token: str, kind: str, stop: Any, told: Any) -> None:
    """The flood's own process: as many of its jobs wait at any time as it has connections."""
    body = spec(circuits()["bell"], SHOTS, "standard")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    method, path, sent = ("POST", "/api/v1/jobs?wait=60", body) if kind == "jobs" else ("GET", REQUEST, None)
    answered: Counter[int] = Counter()

    def one() -> None:
        connection = http.client.HTTPConnection(place, timeout=120)
        while not stop.is_set():
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            answer.read()
            answered[answer.status] += 1

    threads = [threading.Thread(target=one) for _ in range(FLOODERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.put(answered)


def _ratio(found: dict[str, list[float]]) -> float:
    return in_ms(found["flooded"])["p99"] / in_ms(found["calm"])["p99"]


def _figures(found: dict[str, list[float]], answered: Counter[int]) -> Figures:
    spreads = {f"{turn}_ms": in_ms(took) for turn, took in found.items()}
    return {
        **spreads,
        "ratio_p99": _ratio(found),
        "asked": len(found["flooded"]),
        "flood_answered": {str(status): count for status, count in sorted(answered.items())},
    }


def tables(figures: Figures) -> dict[str, str]:
    """A row a kind: calm beside flooded."""
    rows = []
    for kind in KINDS:
        if kind in figures:
            calm, flooded = figures[kind]["calm_ms"], figures[kind]["flooded_ms"]
            rows.append(
                f"| {kind} | {calm['p50']:.1f} | {calm['p99']:.1f} | {flooded['p50']:.1f} | {flooded['p99']:.1f} |"
                f" {figures[kind]['ratio_p99']:.2f} |"
            )
    if not rows:
        return {}
    head = "| ten busy tenants | p50 ms | p99 ms | beside a flood: p50 ms | p99 ms | p99 ÷ p99 |"
    told = f"The flood: {figures['flooders']} connections of an eleventh tenant. Goal: p99 ÷ p99 ≤ {figures['goal']}.\n"
    return {"auth_fairness": table(head, rows) + "\n" + told}


if __name__ == "__main__":
    main("auth_fairness", measure, tables)
