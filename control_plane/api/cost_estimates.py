# SPDX-License-Identifier: Apache-2.0
"""How well estimates held: the share of charges that fell into their intervals, by backend (G7, G14)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from control_plane.api.backends import PERIOD, length
from control_plane.api.shapes import Amount, Answers, Instant
from control_plane.auth.access import visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import estimating, store
from ledger.canonical import timestamp

Share = Annotated[float, Meta(ge=0, le=1)]


class EstimatesOf(Struct, frozen=True):
    """Of a backend: `judged` of its completed `jobs` had an interval that promised something.

    Of the others the interval was all that is possible (`without` a past), or the card alone told the price
    (`certain`).
    """

    backend: str
    jobs: int
    judged: int
    inside: int
    below: int
    above: int
    without: int
    certain: int
    stated: Annotated[Amount, Meta(description="Which share should be inside, at least.")]
    coverage: Annotated[Share | None, Meta(description="Which share was.")]
    coverage_interval: Annotated[tuple[Share, Share] | None, Meta(description="Wilson's, 95 %.")]
    width: Annotated[float | None, Meta(description="The median width of the intervals, in parts of the charge.")]
    drift: Annotated[bool, Meta(description="Too few were inside for chance to explain it.")]


class EstimatesJudged(Struct, frozen=True):
    """The coverage of estimates of jobs submitted since then."""

    since: Instant
    until: Instant
    jobs_at_most: int
    backends: tuple[EstimatesOf, ...]


@get(
    "/costs/estimates",
    opt={"action": "cost:read", "query": ("since",), "answers": Answers({200: EstimatesJudged})},
    summary="How many charges fell into the intervals that their jobs were given",
)
async def estimates(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    since: Annotated[
        str, QueryParameter(pattern=PERIOD, description="So many days (30d) or hours (12h) until now.")
    ] = "30d",
) -> dict[str, Any]:
    """Measured coverage of the tenant's own jobs in the projects that the caller may see costs of."""
    until = plane.now()
    begins = until - length(since)
    projects = visible(request.user, "cost:read")
    query = store.judged(begins, sorted(projects) if projects is not None else None)
    (rows,) = await plane.read(request.user.tenant, query)
    return {
        "since": timestamp(begins),
        "until": timestamp(until),
        "jobs_at_most": store.JUDGED_JOBS,
        "backends": estimating.document(rows),
    }


HANDLERS = (estimates,)
