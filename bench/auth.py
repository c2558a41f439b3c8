# SPDX-License-Identifier: Apache-2.0
"""`make bench-auth`: what it adds to a request that somebody is recognised, and that what they may do is decided.

Two planes side by side, one with ten tenants and a thousand people, one with ten thousand and a hundred thousand; a
thousand people of each ask, in turns, one request at a time. The bench holds what an API process holds: the plane's
own recogniser, buckets and permission table, on a pool of connections to the plane's database. Timed is the way from a
request's headers to a decision: token or key, tenant and person, roles given here, a draw on the buckets, the action.

`first`: an access token that the process has never seen, whose signature is checked. `again`: one that it remembers.
`key`: a secret that the plane gave out. Rights are read anew on every request, all three ways. `whole` is one request
over HTTP from outside, `/api/v1/whoami`, less the same of a public address; its answer costs a read of its own.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import http.client
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from bench.people import Issuer, People
from bench.plane import Plane
from bench.record import Figures, Run, main, table
from bench.spread import in_ms
from control_plane.auth import access, credentials, limits
from control_plane.auth.issuer import LocalIssuer
from control_plane.auth.keys import pseudonym_key
from control_plane.auth.oidc import Authenticator
from control_plane.auth.recognise import Recogniser
from control_plane.db import Database, engine, transaction
from control_plane.errors import Refused
from control_plane.policy.revision import load

FEW, MANY = People(10, 100), People(10_000, 10)
ASKING = 1_000
GOAL_MS, GOAL_RATIO = {"p50": 1.0, "p99": 5.0}, 1.2
PUBLIC, KNOWN, ACTION = "/api/v1/health", "/api/v1/whoami", "job:read"
WAYS = ("again", "first", "key")


class Side:
    """One plane, its people, and what an API process of it would hold."""

    def __init__(self, plane: Plane, people: People, number: int) -> None:
        self.people, self.chosen = people, people.some(number)
        self.issuer, self._host = Issuer(plane), urlsplit(plane.status["url"]).netloc
        self.engine = engine(Database.of_home(plane.home / "db").app, name="qcos-api")
        key = pseudonym_key(plane.home)
        local = LocalIssuer.opened(plane.home, url=plane.status["url"], profile="dev").trusted()
        self._recogniser = Recogniser(self.engine, Authenticator([], pseudonym_key=key, local=local), _now)
        self._buckets = limits.Door(self.engine, limits.Limits(1e5, 1e6, 1e9, 1e9))
        self.took: dict[str, list[float]] = {name: [] for name in (*WAYS, "public", "known")}

    def tokens(self) -> list[str]:
        """A fresh access token of each of those who ask."""
        return [self.issuer.token(tenant, subject) for tenant, subject in self.chosen]

    async def keys(self, tokens: list[str]) -> list[str]:
        """A key of each of those whose tokens these are."""
        found = []
        for token in tokens:
            who = await self._recogniser.recognise(_bearer(token), None, self._draw)
            async with transaction(self.engine, who.tenant) as conn:
                expires = _now() + dt.timedelta(hours=1)
                found.append((await credentials.issue(conn, who, "key", at=_now(), expires_at=expires)).text)
        return found

    async def ask(self, secret: str) -> float:
        """Seconds from a request's header to the decision that lets it in."""
        headers = _bearer(secret)
        begun = time.perf_counter()
        who = await self._recogniser.recognise(headers, "127.0.0.1", self._draw)
        allowed = access.may_anywhere(who, ACTION)
        took = time.perf_counter() - begun
        if not allowed:
            raise RuntimeError(f"{who.actor} may not {ACTION}")
        return took

    async def _draw(self, who: Any) -> Refused | None:
        return await self._buckets.let_in(who)

    def from_outside(self, tokens: list[str]) -> None:
        """Everybody once over HTTP, with a public request before each."""
        connection = http.client.HTTPConnection(self._host, timeout=30)
        try:
            for token in tokens:
                for name, path, headers in (("public", PUBLIC, {}), ("known", KNOWN, _plain(token))):
                    begun = time.perf_counter()
                    connection.request("GET", path, headers=headers)
                    answer = connection.getresponse()
                    body = answer.read()
                    self.took[name].append(time.perf_counter() - begun)
                    if answer.status != 200:
                        raise RuntimeError(f"GET {path}: {answer.status}: {body[:300]!r}")
        finally:
            connection.close()

    async def close(self) -> None:
        """Let go of what it holds."""
        await self._recogniser.close()
        await self.engine.dispose()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _plain(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + token.encode()}


def measure(run: Run) -> None:
    """Both sides in turns."""
    access.put_in_force(access.parse_permissions(load().files[access.PATH]))
    rounds, number = (2, 100) if run.quick else (5, ASKING)
    with ExitStack() as stack:
        planes = []
        for people in (FEW, MANY):
            plane = stack.enter_context(Plane(workers="1", api_processes="1"))
            people.settle(plane)
            planes.append((plane, people))
            run.say(f"{people.tenants} tenants, {people.total} people")
        sides = asyncio.run(_inside(planes, number, rounds))
        run.say("decided")
        for side in sides:
            tokens = side.tokens()
            side.from_outside(tokens)
            side.took["public"].clear()
            side.took["known"].clear()
            side.from_outside(tokens)
        run.keep(sides=[_figures(side) for side in sides])


async def _inside(planes: list[tuple[Plane, People]], number: int, rounds: int) -> list[Side]:
    sides = [Side(plane, people, number) for plane, people in planes]
    try:
        warm = [side.tokens() for side in sides]
        await _round(sides, warm, None)  # who is new here is written down, once
        keys = [await side.keys(tokens) for side, tokens in zip(sides, warm, strict=True)]
        await _round(sides, keys, None)
        for _ in range(rounds):
            await _round(sides, warm, "again")
            await _round(sides, keys, "key")
            await _round(sides, [side.tokens() for side in sides], "first")
    finally:
        for side in sides:
            await side.close()
    return sides


async def _round(sides: list[Side], secrets: list[list[str]], way: str | None) -> None:
    """Everybody once, on both sides in turns."""
    for pair in zip(*secrets, strict=True):
        for side, secret in zip(sides, pair, strict=True):
            took = await side.ask(secret)
            if way is not None:
                side.took[way].append(took)


def _figures(side: Side) -> Figures:
    took = {f"{name}_ms": in_ms(found) for name, found in side.took.items()}
    return {"tenants": side.people.tenants, "people": side.people.total, **took}


def tables(figures: Figures) -> dict[str, str]:
    """A row a way in, both planes and what many tenants cost more than few."""
    if "sides" not in figures:
        return {}
    few, many = figures["sides"]
    rows = []
    for way in WAYS:
        a, b = few[f"{way}_ms"], many[f"{way}_ms"]
        rows.append(f"| {way} | {_pair(a)} | {_pair(b)} | {b['p50'] / a['p50']:.2f} | {b['p99'] / a['p99']:.2f} |")
    whole = [
        {name: side["known_ms"][name] - side["public_ms"][name] for name in ("p50", "p99")} for side in (few, many)
    ]
    rows.append(
        f"| whole | {_pair(whole[0])} | {_pair(whole[1])} | {whole[1]['p50'] / whole[0]['p50']:.2f} |"
        f" {whole[1]['p99'] / whole[0]['p99']:.2f} |"
    )
    names = " | ".join(
        f"{side['tenants']:,} tenants, {side['people']:,} people: p50 ms | p99 ms" for side in (few, many)
    )
    told = f"Goals: p50 ≤ {GOAL_MS['p50']:g} ms, p99 ≤ {GOAL_MS['p99']:g} ms, many ÷ few ≤ {GOAL_RATIO}.\n"
    return {"auth": table(f"| added | {names} | many ÷ few, p50 | p99 |", rows) + "\n" + told}


def _pair(spread: dict[str, float]) -> str:
    return f"{spread['p50']:.2f} | {spread['p99']:.2f}"


if __name__ == "__main__":
    main("auth", measure, tables)
