# SPDX-License-Identifier: Apache-2.0
"""Backends: why each is up or down, what it can do, its calibrations, queue and prices; figures over a period (G14)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from control_plane.api.backend_shapes import Backend, BackendFigures, BackendShown
from control_plane.api.shapes import Answers
from control_plane.auth.access import may_anywhere, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs.evidence import Row
from control_plane.jobs.quote import NETWORK
from control_plane.registry import figures as figured
from control_plane.registry import store
from finops import card_store, money
from finops.card import Line, RateCard
from finops.errors import FinopsError, UnknownPrice
from finops.rates import upper_bound
from finops.tariff import tariff
from ledger.canonical import timestamp

REFERENCE = 1000  # executions that a price is told for
PERIOD = r"^([1-9][0-9]{0,2}d|[1-9][0-9]{0,3}h)$"
LONGEST_DAYS = 366


@get(
    "/backends",
    opt={"action": "backend:read", "answers": Answers({200: tuple[Backend, ...]})},
    summary="Backends and why each is up or down",
)
async def backends(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> list[dict[str, Any]]:
    """The registry, by id."""
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.backends(conn, store.BACKEND_STALE_S)
    nodes = await plane.known.nodes(plane.engine)
    return [_listed(_placed(row, nodes)) for row in rows]


@get(
    "/backends/{backend_id:str}",
    opt={"action": "backend:read", "query": ("hours",), "answers": Answers({200: BackendShown})},
    summary="One backend: capability, calibrations, queue and prices",
)
async def backend(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    backend_id: FromPath[str],
    hours: Annotated[int, QueryParameter(ge=1, le=24 * store.QUEUE_DAYS, description="Of the queue.")] = 24,
) -> dict[str, Any]:
    """What the registry knows; prices are those of the tenant's own rate cards, for who may see rates."""
    principal = request.user
    known = "\x00" not in backend_id
    async with plane.transaction(principal.tenant) as conn:
        rows = await store.backends(conn, store.BACKEND_STALE_S) if known else ()
        row = next((row for row in rows if row["id"] == backend_id), None)
        if row is None:
            raise Refused("not_found", f"no backend {backend_id}")
        cards = await card_store.every(conn, principal.tenant) if may_anywhere(principal, "rates:read") else []
    calibrations, queue = await plane.read(
        principal.tenant, store.calibrations(backend_id), store.queue(backend_id, hours)
    )
    now = _pricing(cards, row, plane.now())
    cards.sort(key=lambda one: (one.effective_from, one.hash))
    found = ((card, _price(card, row, plane.settings.job_deadline_s)) for card in cards)
    prices = [price | {"in_force": card.hash == now} for card, price in found if price is not None]
    return _shown(_placed(row, await plane.known.nodes(plane.engine))) | {
        "calibrations": [_calibration(one) for one in calibrations],
        "queue_history": [one | {"at": timestamp(one["at"])} for one in queue],
        "prices": prices,
    }


@get(
    "/backends/figures",
    opt={
        "action": "cost:read",
        "query": ("provider", "since"),
        "answers": Answers({200: BackendFigures}),
    },
    summary="Figures of each backend over a period, from the tenant's own jobs",
)
async def figures(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    since: Annotated[
        str, QueryParameter(pattern=PERIOD, description="So many days (30d) or hours (12h) until now.")
    ] = "30d",
    provider: Annotated[str | None, QueryParameter(max_length=128, pattern=r"^[^\x00]*$")] = None,
) -> dict[str, Any]:
    """Success with its interval, waiting and running times, price and drift against the period before."""
    ends = plane.now()
    period = length(since)
    projects = visible(request.user, "cost:read")
    queries = store.figured(ends - period, ends, sorted(projects) if projects is not None else None)
    rows, failures = await plane.read(request.user.tenant, *queries)
    return {
        "since": timestamp(ends - period),
        "until": timestamp(ends),
        "compared_since": timestamp(ends - 2 * period),
        "jobs_at_most": store.FIGURED_JOBS,
        "backends": figured.document(rows, failures, provider),
    }


def length(since: str) -> dt.timedelta:
    """The period that its pattern let through; raises Refused where it is too long."""
    number = int(since[:-1])
    length = dt.timedelta(days=number) if since.endswith("d") else dt.timedelta(hours=number)
    if length > dt.timedelta(days=LONGEST_DAYS):
        said = f"at most {LONGEST_DAYS}d"
        raise Refused("request_invalid", f"since: {said}", errors=({"field": "since", "message": said},))
    return length


def _placed(row: Row, nodes: Sequence[Mapping[str, Any]]) -> Row:
    """A network lies where its approved nodes lie, by their enrolment; sovereign where all are."""
    if row["provider"] != NETWORK:
        return row
    places = {name: ", ".join(sorted({one[name] for one in nodes})) or None for name in ("region", "compliance_zone")}
    return dict(row) | places | {"sovereign": bool(nodes) and all(one["sovereign"] for one in nodes)}


def _listed(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "provider": row["provider"],
        "state": row["state"] if row["fresh"] else "offline",
        "qubits": row["qubits"],
        "formats": row["formats"],
        "region": row["region"],
        "compliance_zone": row["compliance_zone"],
        "sovereign": row["sovereign"],
        "reason": row["reason"] if row["fresh"] else "no worker has reported it lately",
    }


def _shown(row: Row) -> dict[str, Any]:
    calibration = row["calibration"]
    return _listed(row) | {
        "since": timestamp(row["changed_at"] if row["fresh"] else row["seen_at"]),
        "seen_at": timestamp(row["seen_at"]),
        "simulator": row["simulator"],
        "max_shots": row["max_shots"],
        "queue": {"depth": row["queue_depth"], "seconds": row["queue_s"]},
        "capability": row["capability"],
        "calibration": calibration and {name: calibration[name] for name in ("id", "hash", "valid_from", "errors")},
    }


def _calibration(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "hash": row["hash"],
        "valid_from": timestamp(row["valid_from"]),
        "found_at": timestamp(row["found_at"]),
        "seen_at": timestamp(row["seen_at"]),
        "size": row["size"],
        "errors": row["facts"]["errors"],
    }


def _pricing(cards: Sequence[RateCard], row: Row, at: dt.datetime) -> str | None:
    """The hash of the card, of all in the order in which they were pushed, that prices the backend at the moment."""
    try:
        return tariff(cards, at).card_for(row["provider"], row["id"], row["capability"].get("sku")).hash
    except UnknownPrice:
        return None


def _price(card: RateCard, row: Row, deadline_s: float) -> dict[str, Any] | None:
    """What the card says of the backend, and the most that a job of `REFERENCE` executions costs by it."""
    sold = row["provider"], row["id"], row["capability"].get("sku")
    try:
        lines = card.lines(*sold)
    except FinopsError:
        return None
    return {
        "rate_card": card.hash,
        "from": timestamp(card.effective_from),
        "until": timestamp(card.effective_until) if card.effective_until is not None else None,
        "currency": card.currency,
        "at_most_for_1000": _most(card, *sold, deadline_s),
        "rates": [_rate(line) for line in lines],
    }


def _most(card: RateCard, provider: str, device: str, sku: str | None, deadline_s: float) -> str | None:
    try:
        return money.text(upper_bound(card, provider, device, REFERENCE, deadline_s, sku=sku).amount)
    except FinopsError:
        return None


def _rate(line: Line) -> dict[str, Any]:
    """One line; of several tiers the first, and all of them beside it."""
    cap, minimum = line.cap_of_a_task, line.minimum_of_a_task
    return {
        "meter": line.meter,
        "unit": line.unit,
        "rate": line.rate if line.rate is not None else line.tiers[0].rate,
        "cap": money.text(cap) if cap is not None else None,
        "minimum": money.text(minimum) if minimum is not None else None,
        "by": line.by,
        "increment": msgspec.to_builtins(line.increment),
        "tiers": msgspec.to_builtins(line.tiers),
    }


HANDLERS = (backends, figures, backend)
