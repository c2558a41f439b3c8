# SPDX-License-Identifier: Apache-2.0
"""What evidence gives of a tenant's lines: of a job's usage by facts and rate card, of all else by its entry (G7, G3).

Facts and card MUST give exactly what was signed and what the entry charges. A backend may be sold under another name,
which evidence doesn't give: each price of its provider on that card is tried. A job that was settled by hand has no
facts: its lines are what its entry tells. Not here: verifying evidence. Pure.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, TypeAlias

from msgspec import Struct

from finops import money
from finops.charges import FIELDS, Charged
from finops.errors import FinopsError, UnknownPrice
from finops.facts import Fact
from finops.focus.shape import RAW
from finops.rates import Charge, ChargeLine, charge, parse_card

Place: TypeAlias = tuple[str, int]
_STEP: Final = Decimal(1).scaleb(-money.DECIMALS)
_OF_THE_JOB: Final = frozenset({"x_EvidenceBundleId", "x_QueueSeconds"})


class Told(Struct, frozen=True):
    """What a valid entry says: its rows, where it lies in the log (None where that isn't told), and who says it."""

    rows: tuple[Charged, ...]
    tenant: str
    plane: str
    index: int | None
    corrects: str | None = None  # the month of what it corrects


class Proven(Struct, frozen=True):
    """What a job's valid evidence says of its charge; `signed` are the lines that were signed, as plain values."""

    job_id: str
    bundle_id: str
    provider: str
    backend: str
    waited: Decimal | None
    facts: tuple[Fact, ...]
    card: bytes
    signed: tuple[tuple[str, str, str, str, str, str], ...]
    told: Told
    each: tuple[Mapping[str, Decimal], ...] = ()
    """What each of its tasks used, where that is told."""


class Due(Struct, frozen=True):
    """A line that evidence gives: a row of `shape.RAW`, whose it is, and which columns evidence doesn't give."""

    row: Mapping[str, Any]
    tenant: str
    plane: str
    unknown: frozenset[str] = frozenset()


def rebuilt(job: Proven) -> Charge:
    """The charge again, from facts and card; raises FinopsError where no price gives what was signed and charged."""
    card = parse_card(job.card)
    names = dict.fromkeys(
        [job.backend, *(price.device for price in card.card.prices if price.provider == job.provider)]
    )
    for sku in names:
        try:
            found = charge(card, job.provider, job.facts, device=job.backend, sku=sku, each=job.each)
        except UnknownPrice:
            continue
        lines = tuple(map(_signed, found.lines))
        if lines == job.signed:
            if lines != tuple(map(_signed, job.told.rows)):
                raise FinopsError("the entry charges otherwise than was signed", field=job.job_id)
            return found
    raise FinopsError("facts and rate card don't give what was signed", field=job.job_id)


def _signed(line: ChargeLine | Charged) -> tuple[str | None, ...]:
    numbers = (line.quantity, line.rate, line.amount)
    quantity, rate, amount = (None if value is None else money.text(value) for value in numbers)
    return (line.meter, quantity, line.unit, rate, amount, line.source)


def due_of_job(job: Proven) -> dict[Place, Due]:
    """The lines of a job's usage, from facts and card; raises FinopsError."""
    again = rebuilt(job)
    found: dict[Place, Due] = {}
    for row, line in zip(job.told.rows, again.lines, strict=True):
        made = {name: getattr(line, name) for name in ("meter", "quantity", "unit", "rate", "amount", "source")}
        made |= {"currency": again.currency, "rate_card": again.card_hash, "bundle_id": job.bundle_id}
        found[row.entry_id, row.line] = _due(row, job.told, made | {"queue_s": job.waited})
    return found


def due_of_entry(told: Told, jobs: Mapping[str, Proven]) -> dict[Place, Due]:
    """The lines that an entry tells of; `jobs` whose bundle and wait are known."""
    found: dict[Place, Due] = {}
    for row in told.rows:
        job = jobs.get(row.job_id or "")
        made = {"bundle_id": None if job is None else job.bundle_id, "queue_s": None if job is None else job.waited}
        unknown = _OF_THE_JOB if job is None and row.job_id is not None else frozenset()
        found[row.entry_id, row.line] = _due(row, told, made | {"corrects": told.corrects}, unknown)
    return found


def _due(row: Charged, told: Told, made: Mapping[str, Any], unknown: frozenset[str] = frozenset()) -> Due:
    raw = dict.fromkeys(RAW) | {name: getattr(row, name) for name in FIELDS} | {"index": told.index} | dict(made)
    if raw["category"] == "usage" and raw["quantity"] is not None and raw["rate"] is not None:
        with money.exact():
            product = raw["quantity"] * raw["rate"]
        raw["product"] = product.quantize(_STEP, ROUND_HALF_UP)
    return Due(raw, told.tenant, told.plane, unknown)
