# SPDX-License-Identifier: Apache-2.0
"""How much one principal may ask for: a bucket of requests and one of bytes, shared by all processes (N13).

Enters: a principal, how many requests and bytes they come with. Leaves: None, or when to come again. The caller MUST
run `take` in a short transaction of its own, before the request's: the bucket's row stays locked until its commit, and
a refused request must cost its draw too. Numbers are per principal, so no tenant can spend another's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from control_plane.auth import store
from control_plane.auth.errors import RateLimited

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from control_plane.auth.principal import Principal

__all__ = ["Limits", "take"]

_LONGEST_WAIT_S = 3_600


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


async def take(
    conn: AsyncConnection, principal: Principal, limits: Limits, *, requests: int = 1, octets: int = 0
) -> RateLimited | None:
    """Draw `requests` and `octets` from the principal's buckets; both or nothing.

    A value, not an exception: the caller raises it, or counts it. Durable in no sense: a crash of the database fills
    all buckets.
    """
    if not 0 < requests <= limits.requests_burst or octets < 0:
        raise ValueError("requests must fit the bucket, octets can't be negative")
    want = {"requests": float(requests), "bytes": float(octets), **msgspec.structs.asdict(limits)}
    granted, wait_s = await store.take(conn, principal.tenant, principal.pseudonym, want)
    return None if granted else RateLimited(max(1, min(_LONGEST_WAIT_S, math.ceil(wait_s))))
