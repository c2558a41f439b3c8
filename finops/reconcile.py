# SPDX-License-Identifier: Apache-2.0
"""A provider's invoice against the charges of the ledger: every line explained, none guessed (G7).

Contract: enter the invoice's lines, what the ledger knows of jobs at that provider, and the period. Each invoice line,
and each charged line of the period, stands in exactly one `Finding`, so that the findings' amounts add up to the
invoice and to the ledger, to the last decimal. A line finds its job by the vendor's own name of the task, by the job's
id, else by device, time and shots where exactly one job fits; where several do it is `ambiguous`, but for a line that
bills more than any of them: that is a sum, and is held against all jobs of its device and time that no line names.

Two amounts are one where they differ by no more than rounding: half a unit of the rate card's precision a line, on
either side. Any other tolerance is an argument, and none by default. Pure: no clock, randomness, socket or database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal, localcontext
from typing import Final, get_args

from msgspec.structs import replace

from finops import money
from finops.findings import By, ChargedLine, Class, Finding, KnownJob, Reconciliation, Sum, Tolerances, alone
from finops.invoices.lines import Invoice, InvoiceLine
from finops.matching import MOST_CANDIDATES, Jobs
from finops.money import ZERO

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELED", "DENIED"})
_WIDE: Final = Context(prec=80)


def months_of(invoice: Invoice) -> tuple[str, ...]:
    """The UTC months in which the invoice's lines of usage begin, in order; empty where no line has a time.

    A credit for an older month doesn't make the invoice one of that month; where nothing else has a time it does.
    """
    timed = [line for line in invoice.lines if line.start is not None]
    used = [line for line in timed if line.kind == "usage"]
    return tuple(sorted({f"{line.start:%Y-%m}" for line in used or timed}))


def reconcile(
    invoice: Invoice, jobs: Sequence[KnownJob], months: Sequence[str], tolerances: Tolerances | None = None
) -> Reconciliation:
    """Compare the invoice of these months with all jobs that the ledger knows at its provider."""
    allowed = tolerances or Tolerances()
    index = Jobs(jobs, allowed.time)
    findings: list[Finding] = []
    billed: defaultdict[tuple[str, str | None], list[InvoiceLine]] = defaultdict(list)
    by: dict[int, By] = {}
    unnamed: list[tuple[InvoiceLine, Finding]] = []
    for line in invoice.lines:
        found = _told(line) if line.kind != "usage" else index.find(line)
        if isinstance(found, Finding):
            unnamed.append((line, found))
        else:
            billed[found[0], line.meter].append(line)
            by[line.line] = found[1]
    for (job_id, meter), lines in billed.items():
        findings += _compared(index.jobs[job_id], meter, lines, months, allowed.amount, billed.keys())
    taken: set[tuple[str, str | None]] = set(billed)
    alike = _alike(unnamed)
    sums = {_time_of(lines[0]) for lines, _ in alike if index.summed(lines[0], taken)}
    for lines, otherwise in alike:
        # Where a device's time has a sum of one meter, its other meters are sums too.
        together = index.summed(lines[0], taken, told=_time_of(lines[0]) in sums)
        if together is None:
            findings += otherwise
            continue
        findings += _summed([index.jobs[name] for name in together], together, lines, months, allowed.amount)
        by |= {line.line: "device_and_time" for line in lines}
        taken |= {(name, one.meter) for name, ours in together.items() for one in ours}
    findings = [replace(one, found_by=by.get(one.lines[0])) for one in sorted(findings, key=lambda one: one.lines)]
    findings += _missing(jobs, taken, months, invoice.currency)
    return Reconciliation(
        tuple(months),
        invoice.currency,
        tuple(findings),
        tuple(_sum(kind, findings) for kind in get_args(Class) if any(one.kind == kind for one in findings)),
        money.total(one.invoiced for one in findings),
        _by_currency(findings),
    )


def _told(line: InvoiceLine) -> Finding:
    match line.kind:
        case "credit":
            return alone(line, "credit", "the provider credits it")
        case "refund":
            return alone(line, "refund", "the provider pays it back")
        case "discount":
            return alone(line, "discount", "the provider takes it off")
        case "tax":
            return alone(line, "tax", "a tax on what is billed")
        case _:
            return alone(line, "unrelated", "no usage of a quantum service, by the mapping")


def _compared(
    job: KnownJob,
    meter: str | None,
    lines: list[InvoiceLine],
    months: Sequence[str],
    tolerance: Decimal,
    billed: Iterable[tuple[str, str | None]],
) -> list[Finding]:
    """What there is to say of the lines that bill one meter of one job, or all of it."""
    ours = _ours(job, meter, billed)
    if not job.lines:
        if job.state not in ENDED:
            open_yet = f"it is {job.state} here, and charged nothing so far"
            return [_against(job, meter, lines, (), "open_job", open_yet)]
        gave = f"it ended {job.state} here, and was charged nothing"
        return [_against(job, meter, lines, (), "failed_job" if job.state != "COMPLETED" else "price", gave)]
    if lines[0].currency != job.currency:
        told = f"billed in {lines[0].currency}, charged in {job.currency}"
        return [_against(job, meter, lines, ours, "currency", told)]
    return _weighed(job, meter, lines, ours, months, tolerance)


def _time_of(line: InvoiceLine) -> tuple[object, ...]:
    return line.device, line.start, line.end


def _alike(unnamed: Iterable[tuple[InvoiceLine, Finding]]) -> list[tuple[list[InvoiceLine], list[Finding]]]:
    """Lines of one kind, device, meter and time, with what there is to say of each by itself."""
    found: defaultdict[object, tuple[list[InvoiceLine], list[Finding]]] = defaultdict(lambda: ([], []))
    for line, said in unnamed:
        whose = line.line if line.vendor_id or line.job_id or line.kind != "usage" else None
        lines, findings = found[whose, line.meter, _time_of(line)]
        lines.append(line)
        findings.append(said)
    return list(found.values())


def _summed(
    jobs: Sequence[KnownJob],
    charged: Mapping[str, tuple[ChargedLine, ...]],
    lines: list[InvoiceLine],
    months: Sequence[str],
    tolerance: Decimal,
) -> list[Finding]:
    """What there is to say of lines that bill several jobs as one sum: no job's alone."""
    month = next((job.month for job in jobs if job.month in months), jobs[0].month)
    ours = tuple(one for mine in charged.values() for one in mine)
    whole = replace(jobs[0], month=month, lines=ours)
    few = tuple(sorted(charged)[:MOST_CANDIDATES])
    if len(jobs) == 1:
        return _weighed(whole, lines[0].meter, lines, ours, months, tolerance)
    return [
        replace(one, job_id=None, candidates=few, detail=f"{len(jobs)} jobs together{one.detail and f': {one.detail}'}")
        for one in _weighed(whole, lines[0].meter, lines, ours, months, tolerance)
    ]


def _weighed(
    job: KnownJob,
    meter: str | None,
    lines: list[InvoiceLine],
    ours: tuple[ChargedLine, ...],
    months: Sequence[str],
    tolerance: Decimal,
) -> list[Finding]:
    """The lines beside what was charged, and those among them that bill it again."""
    kept, again = _once(lines, ours, tolerance)
    found = [_judged(job, meter, kept, ours, months, tolerance)]
    return [
        *found,
        *(_against(job, meter, [line], (), "duplicate", "billed before, on another line") for line in again),
    ]


def _ours(job: KnownJob, meter: str | None, billed: Iterable[tuple[str, str | None]]) -> tuple[ChargedLine, ...]:
    """The charged lines that an invoice's lines of this meter stand for; without a meter all that none else names."""
    if meter is not None:
        return tuple(line for line in job.lines if line.meter == meter)
    elsewhere = {name for job_id, name in billed if job_id == job.job_id and name is not None}
    return tuple(line for line in job.lines if line.meter not in elsewhere)


def _once(
    lines: list[InvoiceLine], ours: tuple[ChargedLine, ...], tolerance: Decimal
) -> tuple[list[InvoiceLine], list[InvoiceLine]]:
    """The lines that bill the work, which may be several, and those that bill it again."""
    if len(lines) == 1 or _same(lines, ours, tolerance):
        return lines, []
    # Parts of the work, and then parts again.
    if part := next((size for size in range(1, len(lines)) if _same(lines[:size], ours, tolerance)), None):
        return lines[:part], lines[part:]
    seen: set[object] = set()
    kept: list[InvoiceLine] = []
    again: list[InvoiceLine] = []
    for line in lines:
        said = (line.vendor_id, line.quantity, line.amount, line.start, line.end)
        (again if said in seen else kept).append(line)
        seen.add(said)
    if len(kept) > 1 and not _same(kept, ours, tolerance):
        whole = next((line for line in kept if _same([line], ours, tolerance)), None)
        if whole is not None:
            return [whole], [line for line in lines if line is not whole]
    return kept, again


def _same(lines: Sequence[InvoiceLine], ours: Sequence[ChargedLine], tolerance: Decimal) -> bool:
    quantity, charged = _quantities(lines, ours)
    if quantity is not None and charged is not None and quantity != charged:
        return False
    return abs(_difference(lines, ours)) <= _rounding(lines, ours, tolerance)


def _judged(
    job: KnownJob,
    meter: str | None,
    lines: Sequence[InvoiceLine],
    ours: tuple[ChargedLine, ...],
    months: Sequence[str],
    tolerance: Decimal,
) -> Finding:
    difference = _difference(lines, ours)
    quantity, charged = _quantities(lines, ours)
    if not ours:
        return _against(job, meter, lines, ours, "price", "the job was charged nothing for this meter")
    if quantity is not None and charged is not None and quantity != charged:
        units = f"billed {money.text(quantity)}, charged {money.text(charged)}"
        return _against(job, meter, lines, ours, "quantity", units)
    if abs(difference) > _rounding(lines, ours, tolerance):
        return _against(job, meter, lines, ours, "price", _rates(lines, ours))
    if months and job.month not in months:
        return _against(job, meter, lines, ours, "period", f"charged in {job.month}")
    if difference == 0:
        return _against(job, meter, lines, ours, "matched", "")
    return _against(job, meter, lines, ours, "rounding", "within what the rate card rounds, or the tolerance given")


def _against(
    job: KnownJob,
    meter: str | None,
    lines: Sequence[InvoiceLine],
    ours: Sequence[ChargedLine],
    kind: Class,
    detail: str,
) -> Finding:
    first = lines[0]
    quantity, charged = _quantities(lines, ours)
    one_currency = first.currency == job.currency or not ours
    return Finding(
        kind=kind,
        lines=tuple(line.line for line in lines),
        job_id=job.job_id,
        vendor_id=first.vendor_id,
        meter=meter,
        invoiced=money.total(line.amount for line in lines),
        charged=money.total(line.amount for line in ours),
        currency=first.currency,
        charged_currency=job.currency if ours else first.currency,
        difference=_difference(lines, ours) if one_currency else None,
        invoiced_quantity=quantity,
        charged_quantity=charged,
        device=first.device,
        at=first.start,
        user=first.user,
        detail=detail,
    )


def _difference(lines: Sequence[InvoiceLine], ours: Sequence[ChargedLine]) -> Decimal:
    return money.total([*(line.amount for line in lines), *(-line.amount for line in ours)])


def _quantities(lines: Sequence[InvoiceLine], ours: Sequence[ChargedLine]) -> tuple[Decimal | None, Decimal | None]:
    """How much was billed and charged, where both sides count one meter."""
    told = [line.quantity for line in lines if line.quantity is not None]
    billed = money.total(told) if len(told) == len(lines) and lines[0].meter is not None else None
    ran = [line.quantity for line in ours if line.quantity is not None]
    counted = len({line.meter for line in ours}) == 1 and len(ran) == len(ours)
    return billed, money.total(ran) if counted else None


def _rounding(lines: Sequence[InvoiceLine], ours: Sequence[ChargedLine], tolerance: Decimal) -> Decimal:
    precision = max((line.precision for line in ours), default=ZERO)
    with money.exact():
        return precision * (len(lines) + len(ours)) / 2 + tolerance


def _rates(lines: Sequence[InvoiceLine], ours: Sequence[ChargedLine]) -> str:
    quantity, _ = _quantities(lines, ours)
    if not quantity or len(ours) != 1 or ours[0].rate is None:
        return "another price"
    with localcontext(_WIDE):
        billed = (money.total(line.amount for line in lines) / quantity).quantize(Decimal("0.00000001"))
    return f"billed at {money.text(billed)} each, charged at {money.text(ours[0].rate)}"


def _missing(
    jobs: Sequence[KnownJob], billed: Iterable[tuple[str, str | None]], months: Sequence[str], currency: str
) -> list[Finding]:
    """Charged lines of the period that no line of the invoice stands for."""
    named = set(billed)
    found: list[Finding] = []
    for job in sorted(jobs, key=lambda one: one.job_id):
        if job.month not in months or (job.job_id, None) in named:
            continue
        for line in job.lines:
            if (job.job_id, line.meter) in named or line.amount == 0:
                continue
            found.append(
                Finding(
                    kind="missing_on_invoice",
                    job_id=job.job_id,
                    vendor_id=min(job.vendor_ids, default=None),
                    meter=line.meter,
                    charged=line.amount,
                    currency=currency,
                    charged_currency=job.currency,
                    difference=-line.amount if job.currency == currency else None,
                    charged_quantity=line.quantity,
                    device=min(job.devices, default=None),
                    at=job.started_at,
                    detail="charged, and not billed",
                )
            )
    return found


def _sum(kind: Class, findings: Sequence[Finding]) -> Sum:
    mine = [one for one in findings if one.kind == kind]
    return Sum(kind, len(mine), money.total(one.invoiced for one in mine), _by_currency(mine))


def _by_currency(findings: Sequence[Finding]) -> dict[str, Decimal]:
    amounts: defaultdict[str, list[Decimal]] = defaultdict(list)
    for one in findings:
        amounts[one.charged_currency].append(one.charged)
    return {currency: money.total(amounts[currency]) for currency in sorted(amounts)}
