# SPDX-License-Identifier: Apache-2.0
"""What a job can cost at most on each backend, by the rate card that prices it there (G6, G7, I3).

A submission is priced by the tariff of its moment; the card of each backend is fixed with the admission, so that what
is pushed later changes nothing for a job that waits. Before compilation nobody knows a job's gates: each meter counts
as many as its scan says that operations can happen, which is what admission holds; what was compiled is priced anew at
the dispatch gate. Nothing is converted: a backend that is priced in another currency than the budgets' is left out.
Pure, but for remembering what pure functions gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from msgspec.structs import replace

from control_plane.jobs.past import NO_PAST, Past
from control_plane.jobs.routing import Candidate
from finops.card import RateCard
from finops.errors import FinopsError, UnknownPrice
from finops.rates import upper_bound
from finops.reading import COMPILED
from finops.tariff import Tariff

Cards: TypeAlias = Mapping[str, RateCard | str]
"""By backend: the card that prices it, or why none does."""
Sold: TypeAlias = tuple[str, str, str | None]

_bounds: dict[tuple[object, ...], Decimal | str] = {}
_meters: dict[tuple[object, ...], frozenset[str]] = {}
BOUNDS = 16_384
UNMITIGATED = {"mitigated_tasks": Decimal(0)}
"""No spec can ask for error mitigation."""


def cards_of(tariff: Tariff, rows: Sequence[Any]) -> dict[str, RateCard | str]:
    """The card of each backend of the registry."""
    return {row["id"]: _card(tariff, row) for row in rows}


def _card(tariff: Tariff, row: Any) -> RateCard | str:
    try:
        return tariff.card_for(row["provider"], row["id"], row["capability"].get("sku"))
    except UnknownPrice as error:
        return error.detail


def fixed(job: Mapping[str, Any], backend: str) -> str | None:
    """The hash of the card by which a job is priced on a backend; None where its admission knew none."""
    cards: Mapping[str, str] | None = job["rate_cards"]
    # A job of before there were several cards has one for all.
    name: str | None = job["rate_card"] if cards is None else cards.get(backend)
    return name


def before_compiling(operations: int | None, executions: int, tasks: int) -> dict[str, Decimal]:
    """The most of each meter that compiling will tell, as far as the scan of a circuit bounds it; no task is mitigated.

    `operations` are the most of one circuit, None where nobody can tell before it runs. A compiler may make several
    gates of one, so this is what admission holds and no promise.
    """
    known = dict(UNMITIGATED)
    if operations is None:
        return known
    for meter in COMPILED - known.keys():
        known[meter] = Decimal(operations * (executions if meter.endswith("_shots") else tasks))
    return known


def priced(
    rows: Sequence[Any],
    cards: Cards,
    executions: int,
    deadline_s: float,
    past: Mapping[str, Past],
    tasks: int,
    known: Mapping[str, Decimal],
) -> tuple[Candidate, ...]:
    """The registry's rows as candidates, each with its upper-bound price; None where no card has one, and why.

    `known` is the most of meters that neither shots nor the deadline bounds.
    """
    return tuple(
        _candidate(row, cards.get(row["id"], "no price is known"), executions, deadline_s, past, tasks, known)
        for row in rows
    )


def in_currency(candidates: Sequence[Candidate], currency: str) -> tuple[Candidate, ...]:
    """The candidates, without a price where theirs is in another currency."""
    return tuple(
        one
        if one.price is None or one.currency == currency
        else replace(one, price=None, unpriced=f"priced in {one.currency}, the budgets are in {currency}")
        for one in candidates
    )


def _candidate(
    row: Any,
    card: RateCard | str,
    executions: int,
    deadline_s: float,
    past: Mapping[str, Past],
    tasks: int,
    known: Mapping[str, Decimal],
) -> Candidate:
    sold = (row["provider"], row["id"], row["capability"].get("sku"))
    price = card if isinstance(card, str) else _bound(card, sold, executions, deadline_s, tasks, known)
    before = past.get(row["id"], NO_PAST)
    calibration = row["calibration"] or {}
    return Candidate(
        id=row["id"],
        provider=row["provider"],
        qubits=row["qubits"],
        formats=tuple(row["formats"]),
        state=row["state"] if row["fresh"] else "offline",
        reason=row["reason"] if row["fresh"] else "no worker has reported it lately",
        region=row["region"],
        compliance_zone=row["compliance_zone"],
        sovereign=row["sovereign"],
        price=price if isinstance(price, Decimal) else None,
        currency=None if isinstance(card, str) else card.currency,
        queue_s=round(max(row["queue_s"] or 0.0, before.queue_s)),
        max_shots=row["max_shots"],
        survival=calibration.get("survival"),
        sessions=bool((row["capability"] or {}).get("session")),
        services=bool((row["capability"] or {}).get("services")),
        programs=bool((row["capability"] or {}).get("programs", True)),
        succeeded=before.succeeded,
        ended=before.ended,
        unpriced=price if isinstance(price, str) else None,
        rate_card=None if isinstance(card, str) else card.hash,
    )


def _bound(
    card: RateCard, sold: Sold, executions: int, deadline_s: float, tasks: int, known: Mapping[str, Decimal]
) -> Decimal | str:
    """The upper bound, or why there is none; remembered, for it is a pure function of numbers that come again."""
    priced_as = card.hash, card.accepted, sold
    if priced_as not in _meters:
        if len(_meters) >= BOUNDS:
            _meters.clear()
        _meters[priced_as] = card.meters(*sold)
    heard = tuple((meter, known[meter]) for meter in sorted(_meters[priced_as] & known.keys()))
    key = *priced_as, executions, deadline_s, tasks, heard
    if key not in _bounds:
        if len(_bounds) >= BOUNDS:
            _bounds.clear()
        provider, device, sku = sold
        try:
            _bounds[key] = upper_bound(card, provider, device, executions, deadline_s, tasks, sku, dict(heard)).amount
        except FinopsError as error:
            _bounds[key] = str(error)
    return _bounds[key]
