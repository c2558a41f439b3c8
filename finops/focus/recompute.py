# SPDX-License-Identifier: Apache-2.0
"""A FOCUS file's usage held against evidence: facts and rate card give each line again (G7, G3).

Contract: enters the lines of a file (`reading`) and, by job, what its evidence says: provider, backend, facts and the
card's bytes. Leaves a finding a line: same, differs (both amounts), missing (evidence has it, the file doesn't), extra
(the file has it, evidence doesn't) or unproven, with the reason. A backend may be sold under another name, which
evidence doesn't give: each price of its provider on that card is tried, and one MUST give exactly what was signed.
Not here: verifying evidence, and lines that are no usage, which no evidence of a job proves. Pure.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from finops import money
from finops.errors import FinopsError, UnknownPrice
from finops.facts import Fact
from finops.rates import Charge, ChargeLine, charge, parse_card

State: TypeAlias = Literal["same", "differs", "missing", "extra", "unproven"]
# What of a line evidence gives again, by the column that has it.
AMOUNTS: Final = ("BilledCost", "EffectiveCost")
PRODUCTS: Final = ("ListCost", "ContractedCost")
RATES: Final = ("ListUnitPrice", "ContractedUnitPrice")
QUANTITIES: Final = ("PricingQuantity", "ConsumedQuantity")


class FileLine(Struct, frozen=True):
    """A line of a file: its number (1 is the first after the heading), its texts and its decimals by column."""

    number: int
    texts: Mapping[str, str]
    decimals: Mapping[str, Decimal]


class Proven(Struct, frozen=True):
    """What a job's valid evidence says of its charge; `signed` are the lines that were signed, as plain values."""

    job_id: str
    bundle_id: str
    provider: str
    backend: str
    facts: tuple[Fact, ...]
    card: bytes
    signed: tuple[tuple[str, str, str, str, str, str], ...]


class Finding(Struct, frozen=True):
    """What became of one line; amounts are texts in `currency`."""

    state: State
    job_id: str
    line: int | None
    got: str | None
    want: str | None
    currency: str
    detail: str = ""


def rebuilt(job: Proven) -> Charge:
    """The charge again, from facts and card; raises FinopsError where no price gives what was signed."""
    card = parse_card(job.card)
    names = dict.fromkeys(
        [job.backend, *(price.device for price in card.card.prices if price.provider == job.provider)]
    )
    for sku in names:
        try:
            found = charge(card, job.provider, job.facts, device=job.backend, sku=sku)
        except UnknownPrice:
            continue
        if tuple(map(_plain, found.lines)) == job.signed:
            return found
    raise FinopsError("facts and rate card don't give what was signed", field=job.job_id)


def _plain(line: ChargeLine) -> tuple[str, str, str, str, str, str]:
    quantity, rate, amount = (money.text(value) for value in (line.quantity, line.rate, line.amount))
    return (line.meter, quantity, line.unit, rate, amount, line.source)


def compare(lines: Iterable[FileLine], proven: Mapping[str, Proven], why: Mapping[str, str]) -> list[Finding]:
    """A finding for each line of the file and each that it lacks; `why` says of a job why nothing is proven of it."""
    found: list[Finding] = []
    of: dict[str, list[FileLine]] = {}
    for line in lines:
        if line.texts["x_Category"] == "usage":
            of.setdefault(line.texts["x_JobId"], []).append(line)
        else:
            found.append(_unproven(line, "no usage: its ledger entry tells of it"))
    for job_id in sorted(of.keys() | proven.keys()):
        rows, job = of.get(job_id, []), proven.get(job_id)
        if job is None:
            found += [_unproven(row, why.get(job_id, "there is no evidence of the job")) for row in rows]
            continue
        try:
            again = rebuilt(job)
        except FinopsError as error:
            found += [_unproven(row, str(error)) for row in rows]
            continue
        found += _compared(job, again, rows)
    return found


def differences(found: Iterable[Finding]) -> dict[str, str]:
    """The total difference of each currency: what the file says less what evidence gives."""
    sums: dict[str, Decimal] = {}
    for one in found:
        if one.state != "unproven":
            difference = Decimal(one.got or 0) - Decimal(one.want or 0)
            sums[one.currency] = money.total((sums.get(one.currency, money.ZERO), difference))
    return {currency: money.text(amount) for currency, amount in sorted(sums.items())}


def _compared(job: Proven, again: Charge, rows: list[FileLine]) -> list[Finding]:
    found: list[Finding] = []
    left = dict(enumerate(again.lines))
    for row in rows:
        due = left.pop(int(row.decimals["x_LedgerLine"]), None)
        got = money.text(row.decimals["BilledCost"])
        if due is None:
            found.append(Finding("extra", job.job_id, row.number, got, None, row.texts["BillingCurrency"]))
            continue
        wrong = _wrong(job, again, due, row)
        state: State = "differs" if wrong else "same"
        want = money.text(due.amount)
        found.append(Finding(state, job.job_id, row.number, got, want, again.currency, ", ".join(wrong)))
    return found + [
        Finding("missing", job.job_id, None, None, money.text(due.amount), again.currency, due.meter)
        for due in left.values()
    ]


def _wrong(job: Proven, again: Charge, due: ChargeLine, row: FileLine) -> list[str]:
    with money.exact():
        product = due.quantity * due.rate
    decimals = dict.fromkeys(AMOUNTS, due.amount) | dict.fromkeys(RATES, due.rate)
    decimals |= dict.fromkeys(QUANTITIES, due.quantity)
    texts = {
        "BillingCurrency": again.currency,
        "PricingUnit": due.unit,
        "ConsumedUnit": due.unit,
        "SkuMeter": due.meter,
        "x_Source": due.source,
        "x_RateCard": again.card_hash,
        "x_EvidenceBundleId": job.bundle_id,
        "x_Provider": job.provider,
        "x_Backend": job.backend,
    }
    wrong = [name for name, value in texts.items() if row.texts.get(name) != value]
    wrong += [name for name, value in decimals.items() if row.decimals.get(name) != value]
    step = Decimal(1).scaleb(-money.DECIMALS)
    for name in PRODUCTS:
        said = row.decimals.get(name)
        if said is None or abs(said - product) >= step:
            wrong.append(name)
    return wrong


def _unproven(row: FileLine, reason: str) -> Finding:
    amount, currency = money.text(row.decimals["BilledCost"]), row.texts["BillingCurrency"]
    return Finding("unproven", row.texts.get("x_JobId", ""), row.number, amount, None, currency, reason)
