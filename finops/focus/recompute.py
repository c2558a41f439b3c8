# SPDX-License-Identifier: Apache-2.0
"""A FOCUS file held against evidence: facts and rate card give each usage again, its entry any other line (G7, G3).

Contract: enters the lines of a file (`reading`), by job what its evidence says: provider, backend, facts and the card's
bytes, and by ledger entry the lines that it tells of. Leaves a finding a line: same, differs (both amounts), missing
(evidence has it, the file doesn't), extra (the file has it, evidence doesn't) or unproven, with the reason. A backend
may be sold under another name, which evidence doesn't give: each price of its provider on that card is tried, and one
MUST give exactly what was signed. A job that was settled by hand has no facts: its line is held against its entry.
Not here: verifying evidence and entries. Pure.
"""

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from finops import money
from finops.charges import Charged
from finops.errors import FinopsError, UnknownPrice
from finops.facts import Fact
from finops.rates import Charge, ChargeLine, charge, parse_card

State: TypeAlias = Literal["same", "differs", "missing", "extra", "unproven"]
# What of a line evidence gives again, by the column that has it.
AMOUNTS: Final = ("BilledCost", "EffectiveCost")
PRODUCTS: Final = ("ListCost", "ContractedCost")
RATES: Final = ("ListUnitPrice", "ContractedUnitPrice")
QUANTITIES: Final = ("PricingQuantity", "ConsumedQuantity")
_NOTHING: Final[Mapping[str, Collection[Charged]]] = {}
_STEP: Final = Decimal(1).scaleb(-money.DECIMALS)


class FileLine(Struct, frozen=True):
    """A line of a file: its number (1 is the first after the heading), its texts and its decimals by column."""

    number: int
    texts: Mapping[str, str]
    decimals: Mapping[str, Decimal]


class Proven(Struct, frozen=True):
    """What a job's valid evidence says of its charge; `signed` are the lines that were signed, as plain values."""

    job_id: str
    bundle_id: str
    entry_id: str
    project: str
    cost_center: str | None
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


def compare(
    lines: Iterable[FileLine],
    proven: Mapping[str, Proven],
    why: Mapping[str, str],
    told: Mapping[str, Collection[Charged]] = _NOTHING,
) -> list[Finding]:
    """A finding for each line of the file and each that it lacks of a job; `why` says why nothing is proven.

    By job id, or by the entry's. `told` are the lines of entries that verify, by the entry's id.
    """
    found: list[Finding] = []
    of: dict[str, list[FileLine]] = {}
    left = {(entry, row.line): row for entry, rows in told.items() for row in rows}
    for line in lines:
        job_id, entry = line.texts.get("x_JobId", ""), line.texts["x_LedgerEntryId"]
        if line.texts["x_Category"] == "usage" and (job_id in proven or job_id in why or entry not in told):
            of.setdefault(job_id, []).append(line)
        elif entry in told:
            found.append(_held(line, left.pop((entry, int(line.decimals["x_LedgerLine"])), None)))
        else:
            found.append(_unproven(line, why.get(entry, "its ledger entry isn't there")))
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


def lacking(lines: Iterable[FileLine], whole: Iterable[FileLine]) -> list[Finding]:
    """What of the whole month the file lacks: jobs, and lines that are no usage; of a job's lines `compare` tells."""
    places = {(line.texts["x_LedgerEntryId"], line.decimals["x_LedgerLine"]) for line in lines}
    entries = {entry for entry, _ in places}
    return [
        Finding(
            "missing",
            line.texts.get("x_JobId", ""),
            None,
            None,
            money.text(line.decimals["BilledCost"]),
            line.texts["BillingCurrency"],
            f"{line.texts['x_Category']}, entry {line.texts['x_LedgerEntryId']}",
        )
        for line in whole
        if (entry := line.texts["x_LedgerEntryId"]) not in entries
        or (line.texts["x_Category"] != "usage" and (entry, line.decimals["x_LedgerLine"]) not in places)
    ]


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
        "x_LedgerEntryId": job.entry_id,
        "x_Project": job.project,
        "SubAccountId": job.project,
        "x_CostCenter": job.cost_center,
        "x_Provider": job.provider,
        "x_Backend": job.backend,
    }
    return _unlike(row, texts, decimals, product)


def _held(row: FileLine, due: Charged | None) -> Finding:
    """A line held against what its entry tells of it."""
    got, currency = money.text(row.decimals["BilledCost"]), row.texts["BillingCurrency"]
    if due is None:
        return Finding("extra", row.texts.get("x_JobId", ""), row.number, got, None, currency, "its entry has no such")
    product: Decimal | None = due.amount
    if due.category == "usage":
        with money.exact():
            product = None if due.quantity is None or due.rate is None else due.quantity * due.rate
    decimals = dict.fromkeys(AMOUNTS, due.amount) | dict.fromkeys(RATES, due.rate)
    decimals |= dict.fromkeys(QUANTITIES, due.quantity)
    texts = {
        "BillingCurrency": due.currency,
        "x_Category": due.category,
        "x_JobId": due.job_id,
        "x_Project": due.project,
        "SubAccountId": due.project,
        "x_CostCenter": due.cost_center,
        "x_Provider": due.provider,
        "x_Backend": due.backend,
        "x_Source": due.source,
        "x_RateCard": due.rate_card,
    }
    wrong = _unlike(row, texts, decimals, product)
    state: State = "differs" if wrong else "same"
    return Finding(state, due.job_id or "", row.number, got, money.text(due.amount), due.currency, ", ".join(wrong))


def _unlike(
    row: FileLine,
    texts: Mapping[str, str | None],
    decimals: Mapping[str, Decimal | None],
    product: Decimal | None,
) -> list[str]:
    """The columns in which the line says otherwise."""
    wrong = [name for name, value in texts.items() if row.texts.get(name) != value]
    wrong += [name for name, value in decimals.items() if row.decimals.get(name) != value]
    for name in PRODUCTS:
        said = row.decimals.get(name)
        if (said is None) != (product is None) or (said is not None and abs(said - (product or 0)) >= _STEP):
            wrong.append(name)
    return wrong


def _unproven(row: FileLine, reason: str) -> Finding:
    amount, currency = money.text(row.decimals["BilledCost"]), row.texts["BillingCurrency"]
    return Finding("unproven", row.texts.get("x_JobId", ""), row.number, amount, None, currency, reason)
