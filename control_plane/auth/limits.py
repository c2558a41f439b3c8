# SPDX-License-Identifier: Apache-2.0
"""How much one principal may ask for: a bucket of requests and one of bytes, shared by all processes (N13).

Enters: a principal, how many requests and bytes they come with. Leaves: None, or when to come again. Numbers are per
principal, so no tenant can spend another's; a tenant that the operator limited has buckets for all of its people, too.

A draw locks the bucket's row until its commit, which serialises a busy principal over all processes (450 draws a second
where one transaction took 1 ms). So a process draws a few requests at once and gives them out by itself (`Door`). What
it holds has left the shared bucket, so the sum stays under the limit; the price is that a process may hold up to
`_CHUNK` undrawn requests while another is refused. Small limits are drawn one by one, exactly.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from control_plane.auth import store
from control_plane.auth.errors import RateLimited
from control_plane.auth.principal import Principal
from control_plane.auth.rates import TenantRates
from control_plane.db import transaction

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["Crowd", "Door", "Limits", "stranger", "take"]

_LONGEST_WAIT_S = 3_600
_CHUNK = 16
_CHUNK_OCTETS = 1_048_576
# A chunk is at most this part of a bucket, so that no process holds much of a small one.
_PART = 64
_PURSES = 4_096
_PACE_S = 0.02
_WHOLE = ""  # in a principal's place: the tenant's own bucket
_BURST_S = 4.0
_NO_RATE = 1e15
_AT_ONCE = (512, 64, 64 << 20)  # requests, WebSockets, bytes of bodies: of one principal in one process


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Fill rates and sizes of the two buckets. A size is what may come at once after a pause."""

    requests_per_s: float = 500.0
    requests_burst: float = 2_000.0
    bytes_per_s: float = 67_108_864.0
    bytes_burst: float = 134_217_728.0

    def __post_init__(self) -> None:
        """ValueError unless each is a finite number above zero: a rate of zero would shut everybody out for good."""
        for name, value in msgspec.structs.asdict(self).items():
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"limits.{name} = {value!r}: wanted a number above 0")


def stranger(source: str) -> Principal:
    """Whoever isn't signed in, from this address: an IPv6 network counts as one, since one host has all of it."""
    try:
        address = ip_address(source)
        name = str(ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
    except ValueError:
        name = "here"
    return Principal(subject=name, name=name, domain="", tenant="_plane", issuer="", pseudonym=f"from:{name}")


async def take(
    conn: AsyncConnection, principal: Principal, limits: Limits, *, requests: int = 1, octets: int = 0
) -> RateLimited | None:
    """Draw `requests` and `octets` from the principal's buckets; both or nothing.

    MUST run in a short transaction of its own: the row stays locked until the commit, and a request that is refused
    later must have cost its draw. A value, not an exception: the caller raises it, or counts it. Durable in no sense: a
    crash of the database fills all buckets.
    """
    return await _take(conn, (principal.tenant, principal.pseudonym), limits, requests, octets)


async def _take(
    conn: AsyncConnection, whose: tuple[str, str], limits: Limits, requests: int, octets: int
) -> RateLimited | None:
    if not 0 < requests <= limits.requests_burst or octets < 0:
        raise ValueError("requests must fit the bucket, octets can't be negative")
    want = {"requests": float(requests), "bytes": float(octets), **msgspec.structs.asdict(limits)}
    granted, wait_s = await store.take(conn, *whose, want)
    if granted:
        return None
    return RateLimited(max(1, min(_LONGEST_WAIT_S, math.ceil(wait_s))), whole=whose[1] == _WHOLE)


class Door:
    """The buckets as one process of the API sees them. For one event loop."""

    def __init__(self, engine: AsyncEngine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._purses: OrderedDict[tuple[str, str], _Purse] = OrderedDict()
        self.rates = TenantRates(engine)

    async def let_in(self, principal: Principal, *, octets: int = 0) -> RateLimited | None:
        """Draw one request of `octets` bytes. None = come in. Most calls touch no database.

        From the principal's bucket, and from the tenant's where the operator gave it one.
        """
        own = self._purse((principal.tenant, principal.pseudonym))
        refused = await self._spend((principal.tenant, principal.pseudonym), own, self._limits, octets)
        rates = await self.rates.of(principal.tenant)
        if refused is not None or rates is None:
            return refused
        whose = (principal.tenant, _WHOLE)
        refused = await self._spend(whose, self._purse(whose), of_tenant(rates), octets)
        if refused is not None:
            own.requests, own.octets = own.requests + 1, own.octets + octets
        return refused

    def _purse(self, key: tuple[str, str]) -> _Purse:
        purse = self._purses.setdefault(key, _Purse())
        self._purses.move_to_end(key)
        if len(self._purses) > _PURSES:
            # What the forgotten one held is lost to its owner: a little too strict, never too lax.
            self._purses.popitem(last=False)
        return purse

    async def _spend(self, whose: tuple[str, str], purse: _Purse, limits: Limits, octets: int) -> RateLimited | None:
        if purse.spend(octets):
            return None
        async with purse.lock:
            if purse.spend(octets):
                return None
            refused = purse.refused(octets, now := asyncio.get_running_loop().time())
            if refused is None:
                refused = await self._draw(whose, purse, limits, octets)
                if refused is None:
                    return None
                purse.shut = (now + _PACE_S, octets, refused)
        # Refusals of one principal are given out one after another: a flood of them takes a small part of a process.
        async with purse.pace:
            await asyncio.sleep(_PACE_S)
        return refused

    async def _draw(self, whose: tuple[str, str], purse: _Purse, limits: Limits, octets: int) -> RateLimited | None:
        requests = chunk(limits)
        more = max(octets, int(min(_CHUNK_OCTETS, limits.bytes_burst / _PART)))
        async with transaction(self._engine, whose[0]) as conn:
            refused = await _take(conn, whose, limits, requests, more)
            if refused is not None:
                return await _take(conn, whose, limits, 1, octets)
        purse.requests += requests - 1
        purse.octets += more - octets
        return None


def chunk(limits: Limits) -> int:
    """How many requests a process draws at once."""
    return max(1, min(_CHUNK, int(limits.requests_burst / _PART)))


def of_tenant(rates: store.Rates) -> Limits:
    """The buckets of a whole tenant: each holds what `_BURST_S` seconds fill, and what has no rate is never empty."""
    requests, octets = rates.requests_per_s or _NO_RATE, rates.bytes_per_s or _NO_RATE
    return Limits(requests, max(1.0, _BURST_S * requests), octets, max(1.0, _BURST_S * octets))


class _Purse:
    """What a process has drawn for one principal and not given out yet."""

    def __init__(self) -> None:
        self.requests = 0
        self.octets = 0
        self.lock = asyncio.Lock()
        self.pace = asyncio.Lock()
        self.shut: tuple[float, int, RateLimited] | None = None  # until when, for so many bytes, and the answer

    def spend(self, octets: int) -> bool:
        """Give out one request of `octets` bytes, if both are there."""
        if self.requests < 1 or self.octets < octets:
            return False
        self.requests -= 1
        self.octets -= octets
        return True

    def refused(self, octets: int, now: float) -> RateLimited | None:
        """The answer of a moment ago, which holds for a request no smaller; no database is asked again."""
        if self.shut is None or now >= self.shut[0] or octets < self.shut[1]:
            return None
        return self.shut[2]


class Crowd:
    """What one principal has under way in this process: requests, WebSockets, and bytes of bodies still to come.

    A rate says how often one may ask; this says how much may be held open by asking slowly.
    """

    def __init__(self) -> None:
        self._inside: dict[tuple[str, str], list[int]] = {}

    @contextmanager
    def inside(self, principal: Principal, *, socket: bool, octets: int) -> Iterator[None]:
        """Count one in until the block ends; RateLimited where that would be too many."""
        key = (principal.tenant, principal.pseudonym)
        held = self._inside.setdefault(key, [0, 0, 0])
        wanted = (not socket, socket, octets)
        try:
            if any(have + more > most for have, more, most in zip(held, wanted, _AT_ONCE, strict=True) if more):
                raise RateLimited(1)
            held[:] = [have + more for have, more in zip(held, wanted, strict=True)]
            try:
                yield
            finally:
                held[:] = [have - more for have, more in zip(held, wanted, strict=True)]
        finally:
            if not any(held):
                self._inside.pop(key, None)
