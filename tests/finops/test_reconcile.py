# SPDX-License-Identifier: Apache-2.0
"""Every line of an invoice is explained, and the sums are those of invoice and ledger, to the last decimal (G7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from finops import money
from finops.findings import ChargedLine, Finding, KnownJob, Reconciliation, Tolerances
from finops.invoices.lines import Invoice, InvoiceLine
from finops.matching import Jobs
from finops.reconcile import months_of, reconcile

START = datetime(2026, 10, 3, 10, tzinfo=UTC)
MONTH = ("2026-10",)


@dataclass(frozen=True)
class Billed:
    """A line of an invoice, told by what matters."""

    line: int = 2
    amount: str = "1.45"
    quantity: str | None = "1000"
    meter: str | None = "shots"
    vendor_id: str | None = "arn:task/1"
    kind: str = "usage"
    currency: str = "USD"
    device: str | None = "garnet"
    start: datetime | None = START
    end: datetime | None = START + timedelta(minutes=5)
    job_id: str | None = None

    def read(self) -> InvoiceLine:
        return InvoiceLine(
            line=self.line,
            amount=Decimal(self.amount),
            currency=self.currency,
            kind=self.kind,  # type: ignore[arg-type]
            vendor_id=self.vendor_id,
            job_id=self.job_id,
            device=self.device,
            meter=self.meter,
            quantity=None if self.quantity is None else Decimal(self.quantity),
            start=self.start,
            end=self.end,
            user="ann",
        )


SHOTS = ChargedLine("shots", Decimal(1000), Decimal("0.00145"), Decimal("1.45"))
TASK = ChargedLine("tasks", Decimal(1), Decimal("0.30"), Decimal("0.30"))


def job(
    name: str = "job-1",
    vendor: tuple[str, ...] = ("arn:task/1",),
    lines: tuple[ChargedLine, ...] = (SHOTS,),
    *,
    state: str = "COMPLETED",
    currency: str = "USD",
    month: str | None = "2026-10",
    start: datetime = START,
) -> KnownJob:
    return KnownJob(
        job_id=name,
        state=state,
        currency=currency,
        devices=frozenset({"garnet", "arn:aws:braket:::device/garnet"}),
        vendor_ids=frozenset(vendor),
        started_at=start,
        ended_at=start + timedelta(seconds=30),
        shots=Decimal(1000),
        month=month,
        lines=lines,
    )


def found(*billed: Billed, jobs: tuple[KnownJob, ...] = (), tolerances: Tolerances | None = None) -> Reconciliation:
    lines = tuple(one.read() for one in billed)
    return reconcile(Invoice(lines, lines[0].currency), jobs, MONTH, tolerances)


def only(answer: Reconciliation) -> Finding:
    (one,) = answer.findings
    return one


def test_what_was_billed_as_it_was_charged_is_matched() -> None:
    answer = found(Billed(), jobs=(job(),))
    one = only(answer)
    assert (one.kind, one.job_id, one.found_by, one.difference) == ("matched", "job-1", "vendor_id", Decimal(0))
    assert answer.agrees


def test_the_kinds_of_variance_each_have_their_name() -> None:
    """G7: price, quantity, rounding, failed job, currency, period."""
    assert only(found(Billed(amount="1.46"), jobs=(job(),))).kind == "rounding"
    price = only(found(Billed(amount="2.90"), jobs=(job(),)))
    assert (price.kind, price.difference) == ("price", Decimal("1.45"))
    assert price.detail == "billed at 0.0029 each, charged at 0.00145"
    quantity = only(found(Billed(quantity="2000", amount="2.90"), jobs=(job(),)))
    assert (quantity.kind, quantity.detail) == ("quantity", "billed 2000, charged 1000")
    failed = only(found(Billed(), jobs=(job(lines=(), state="FAILED", month=None),)))
    assert (failed.kind, failed.difference) == ("failed_job", Decimal("1.45"))
    currency = only(found(Billed(), jobs=(job(currency="EUR"),)))
    assert (currency.kind, currency.difference, currency.charged_currency) == ("currency", None, "EUR")
    period = only(found(Billed(), jobs=(job(month="2026-09"),)))
    assert (period.kind, period.detail) == ("period", "charged in 2026-09")


def test_a_credit_a_refund_and_another_service_stand_for_themselves() -> None:
    billed = [Billed(2, "-1", kind="credit"), Billed(3, "-2", kind="refund"), Billed(4, "7", kind="other")]
    assert [one.kind for one in found(*billed).findings] == ["credit", "refund", "unrelated"]


def test_a_job_that_never_passed_through_the_plane_is_found_with_what_is_known_of_it() -> None:
    """G7: a bypass is listed with its device, its time and its user."""
    one = only(
        found(Billed(vendor_id="arn:task/secret", start=START + timedelta(days=1), end=START + timedelta(days=1)))
    )
    assert (one.kind, one.device, one.at, one.user) == ("unknown_job", "garnet", START + timedelta(days=1), "ann")
    beside = found(Billed(vendor_id="arn:task/secret"), jobs=(job(),))
    assert [one.kind for one in beside.findings] == ["unknown_job", "missing_on_invoice"], (
        "a task whose vendor's name we know isn't another one that ran there then"
    )


def test_what_was_charged_and_not_billed_is_found() -> None:
    one = found(Billed(), jobs=(job(lines=(SHOTS, TASK)),)).findings[1]
    assert (one.kind, one.meter, one.charged, one.difference) == (
        "missing_on_invoice",
        "tasks",
        Decimal("0.30"),
        Decimal("-0.30"),
    )


def test_a_job_without_the_vendors_name_is_found_by_device_and_time_if_it_is_the_only_one() -> None:
    one = only(found(Billed(vendor_id=None), jobs=(job(vendor=()),)))
    assert (one.kind, one.found_by) == ("matched", "device_and_time")
    two = found(Billed(vendor_id=None), jobs=(job("a", ()), job("b", ())))
    assert two.findings[0].kind == "ambiguous"
    assert two.findings[0].candidates == ("a", "b"), "several fit: none is guessed"
    late = Billed(vendor_id=None, start=START + timedelta(minutes=10), end=START + timedelta(minutes=11))
    assert found(late, jobs=(job(vendor=()),)).findings[0].kind == "unknown_job"
    patient = Tolerances(time=timedelta(minutes=10))
    assert only(found(late, jobs=(job(vendor=()),), tolerances=patient)).kind == "matched"


def test_a_tolerance_is_told_and_not_assumed() -> None:
    assert only(found(Billed(amount="1.50"), jobs=(job(),))).kind == "price"
    assert only(found(Billed(amount="1.50"), jobs=(job(),), tolerances=Tolerances(Decimal("0.05")))).kind == "rounding"


def test_what_is_billed_twice_is_found_and_what_is_billed_in_parts_is_not() -> None:
    twice = found(Billed(2), Billed(3), jobs=(job(),))
    assert [(one.kind, one.lines) for one in twice.findings] == [("matched", (2,)), ("duplicate", (3,))]
    parts = found(Billed(2, "0.45", "300"), Billed(3, "1.00", "700"), jobs=(job(),))
    assert [(one.kind, one.lines) for one in parts.findings] == [("matched", (2, 3))]
    thrice = found(*(Billed(n, "0.725", "500") for n in (2, 3, 4)), jobs=(job(),))
    assert [(one.kind, one.lines) for one in thrice.findings] == [("matched", (2, 3)), ("duplicate", (4,))]
    again = found(Billed(2), Billed(3, start=START + timedelta(days=2), end=START + timedelta(days=2)), jobs=(job(),))
    assert [(one.kind, one.lines) for one in again.findings] == [("matched", (2,)), ("duplicate", (3,))]


def test_a_programs_tasks_are_one_job() -> None:
    tasks = job(vendor=("t1", "t2"), lines=(ChargedLine("shots", Decimal(2000), Decimal("0.001"), Decimal(2)),))
    one = only(found(Billed(2, "1", vendor_id="t1"), Billed(3, "1", vendor_id="t2"), jobs=(tasks,)))
    assert (one.kind, one.lines) == ("matched", (2, 3))


def test_a_line_without_a_meter_stands_for_all_that_was_charged_for_the_job() -> None:
    assert (
        only(found(Billed(amount="1.75", meter=None, quantity=None), jobs=(job(lines=(SHOTS, TASK)),))).kind
        == "matched"
    )


def test_the_months_are_those_in_which_lines_begin() -> None:
    lines = (Billed().read(), Billed(start=START + timedelta(days=30)).read(), Billed(start=None).read())
    assert months_of(Invoice(lines, "USD")) == ("2026-10", "2026-11")


def test_a_credit_for_an_older_month_does_not_ask_for_that_month() -> None:
    older = Billed(kind="credit", start=START - timedelta(days=40)).read()
    assert months_of(Invoice((Billed().read(), older), "USD")) == ("2026-10",)
    assert months_of(Invoice((older,), "USD")) == ("2026-08",)


def test_a_job_that_has_not_ended_here_is_no_bypass() -> None:
    """Billed at month end while it runs, or while nobody knows how it ended: a class of its own."""
    for state in ("EXECUTING", "UNCERTAIN"):
        one = only(found(Billed(), jobs=(job(lines=(), state=state, month=None),)))
        assert (one.kind, one.job_id, one.difference) == ("open_job", "job-1", Decimal("1.45"))
        assert one.detail == f"it is {state} here, and charged nothing so far"


def test_discounts_and_taxes_are_told_apart_and_a_tax_leaves_nothing_to_explain() -> None:
    answer = found(Billed(), Billed(3, "-0.10", kind="discount"), Billed(4, "0.30", kind="tax"), jobs=(job(),))
    assert [one.kind for one in answer.findings] == ["matched", "discount", "tax"]
    assert answer.invoiced == Decimal("1.65")
    assert not answer.agrees
    assert found(Billed(), Billed(4, "0.30", kind="tax"), jobs=(job(),)).agrees


MIDNIGHT = START.replace(hour=0)


def day(number: int = 2, amount: str = "4.35", quantity: str | None = "3000", meter: str | None = "shots") -> Billed:
    """What a device did in a day, in one line that names no task."""
    end = MIDNIGHT + timedelta(days=1)
    return Billed(number, amount, quantity, meter, None, start=MIDNIGHT, end=end)


def spread(count: int) -> tuple[KnownJob, ...]:
    return tuple(job(f"j{n:02}", (), (SHOTS, TASK), start=START + timedelta(minutes=n)) for n in range(count))


def test_a_days_sum_is_held_against_all_jobs_of_the_day() -> None:
    """Providers sum up: three jobs in a line are matched as three, and no charge of theirs is said to be missing."""
    answer = found(day(), day(3, "0.90", "3", "tasks"), jobs=spread(3))
    assert [(one.kind, one.lines, one.charged) for one in answer.findings] == [
        ("matched", (2,), Decimal("4.35")),
        ("matched", (3,), Decimal("0.90")),
    ]
    assert answer.findings[0].candidates == ("j00", "j01", "j02")
    assert answer.findings[0].detail == "3 jobs together"
    whole = found(day(amount="5.25", quantity=None, meter=None), jobs=spread(3))
    assert only(whole).kind == "matched", "and one line for all meters"


def test_a_days_sum_that_holds_a_bypass_is_more_than_the_plane_charged() -> None:
    more = found(day(2, "1.20", "4", "tasks"), jobs=spread(3))
    assert (more.findings[0].kind, more.findings[0].difference) == ("quantity", Decimal("0.30"))
    assert more.findings[0].detail == "3 jobs together: billed 4, charged 3"
    dearer = found(day(amount="8.70"), jobs=spread(3)).findings[0]
    assert (dearer.kind, dearer.difference) == ("price", Decimal("4.35"))
    beside = found(day(), Billed(3, "1.45", job_id="j03", vendor_id=None), jobs=spread(4))
    assert [one.kind for one in beside.findings[:2]] == ["matched", "matched"], (
        "what has a line of its own is not in it"
    )


def test_where_one_meter_of_a_day_is_a_sum_the_others_are_too() -> None:
    """Two of three jobs billed: their shots may look like one job's, and are not."""
    two = found(day(2, "0.60", "2", "tasks"), day(3, "1.45", "1000"), jobs=spread(3))
    assert [(one.kind, one.difference) for one in two.findings] == [
        ("quantity", Decimal("-0.30")),
        ("quantity", Decimal("-2.90")),
    ]
    single = found(day(), jobs=spread(1)).findings[0]
    assert (single.kind, single.job_id, single.detail) == ("quantity", "j00", "billed 3000, charged 1000")


def test_lines_that_ask_the_same_are_looked_up_once() -> None:
    """An invoice of ten thousand lines that are each of a whole month took minutes."""
    index = Jobs(spread(50), timedelta(0))
    month = day(quantity="1000", amount="1.45").read()
    said = [index.find(replace(month, line=number, amount=Decimal(number))) for number in range(2, 1000)]
    assert {one.kind for one in said if isinstance(one, Finding)} == {"ambiguous"}
    assert len(index.looked) == 1


def test_a_line_that_may_be_of_one_job_is_no_sum() -> None:
    assert found(day(quantity="1000", amount="1.45"), jobs=spread(2)).findings[0].kind == "ambiguous"
    short = Billed(2, "4.35", "3000", vendor_id=None)
    assert found(short, jobs=spread(3)).findings[0].kind == "unknown_job"
    other = day()
    assert found(Billed(**(vars(other) | {"device": "aria"})), jobs=spread(3)).findings[0].kind == "unknown_job"


def test_the_same_invoice_and_the_same_jobs_say_the_same() -> None:
    jobs = (job("a", ()), job("b", ()), job())
    assert found(Billed(), Billed(3), jobs=jobs) == found(Billed(), Billed(3), jobs=tuple(reversed(jobs)))


_amounts = st.decimals(0, 10**9, places=12, allow_nan=False)
_meters = st.sampled_from(["shots", "tasks", "qpu_seconds"])
_vendors = st.sampled_from(["t1", "t2", "t3", "t4"])
_moments = st.integers(0, 60).map(lambda days: START - timedelta(days=30) + timedelta(days=days))
_charged = st.builds(ChargedLine, _meters, _amounts, _amounts, _amounts)
_jobs = st.lists(
    st.builds(
        KnownJob,
        job_id=st.sampled_from(["a", "b", "c", "d"]),
        state=st.sampled_from(["COMPLETED", "FAILED", "UNCERTAIN", "EXECUTING"]),
        currency=st.sampled_from(["USD", "EUR"]),
        devices=st.just(frozenset({"garnet"})),
        vendor_ids=st.frozensets(_vendors, max_size=2),
        started_at=_moments,
        ended_at=st.none(),
        shots=_amounts,
        month=st.sampled_from(["2026-09", "2026-10", None]),
        lines=st.lists(_charged, max_size=3, unique_by=lambda one: one.meter).map(tuple),
    ),
    unique_by=lambda one: one.job_id,
    max_size=4,
).map(
    lambda jobs: [
        KnownJob(**{n: getattr(one, n) for n in one.__struct_fields__} | {"ended_at": one.started_at}) for one in jobs
    ]
)
_invoices = st.lists(
    st.builds(
        Billed,
        amount=_amounts.map(str),
        quantity=st.none() | _amounts.map(str),
        meter=st.none() | _meters,
        vendor_id=st.none() | _vendors,
        kind=st.sampled_from(["usage", "usage", "usage", "credit", "tax", "other"]),
        start=_moments,
        end=st.none() | st.just(START),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda lines: [
        Billed(
            *(number, one.amount, one.quantity, one.meter, one.vendor_id, one.kind),
            start=one.start,
            end=one.start if one.end is None or one.start is None else one.start + timedelta(days=40),
        )
        for number, one in enumerate(lines, 2)
    ]
)


@settings(max_examples=100, deadline=None)
@given(_invoices, _jobs)
def test_the_findings_add_up_to_the_invoice_and_to_the_ledger(billed: list[Billed], jobs: list[KnownJob]) -> None:
    """G7: each line stands in one finding, so Σ invoice = Σ matched + Σ variances, to the last decimal."""
    answer = found(*billed, jobs=tuple(jobs))
    lines = [line for one in answer.findings for line in one.lines]
    assert sorted(lines) == [one.line for one in billed]
    assert answer.invoiced == money.total(Decimal(one.amount) for one in billed)
    assert answer.invoiced == money.total(one.invoiced for one in answer.sums)
    for currency in ("USD", "EUR"):
        mine = [one for one in answer.findings if one.charged_currency == currency]
        assert answer.charged.get(currency, 0) == money.total(one.charged for one in mine)
        assert answer.charged.get(currency, 0) == money.total(s.charged.get(currency, Decimal(0)) for s in answer.sums)
        due = [one for one in jobs if one.month == "2026-10" and one.currency == currency]
        least = money.total(line.amount for one in due for line in one.lines)
        others = [one for one in jobs if one.month != "2026-10" and one.currency == currency]
        most = money.total([least, *(line.amount for one in others for line in one.lines)])
        assert least <= answer.charged.get(currency, Decimal(0)) <= most
    for one in answer.findings:
        if one.difference is not None:
            assert one.difference == money.total((one.invoiced, -one.charged))


@settings(max_examples=25, deadline=None)
@given(_jobs.filter(lambda jobs: any(one.lines for one in jobs)))
def test_an_invoice_made_of_the_ledger_agrees_with_it(jobs: list[KnownJob]) -> None:
    mine = [
        KnownJob(**{n: getattr(one, n) for n in one.__struct_fields__} | {"currency": "USD", "month": "2026-10"})
        for one in jobs
    ]
    lines = [
        InvoiceLine(
            line=0, amount=line.amount, currency="USD", job_id=one.job_id, meter=line.meter, quantity=line.quantity
        )
        for one in mine
        for line in one.lines
    ]
    numbered = tuple(
        InvoiceLine(**{n: getattr(one, n) for n in one.__struct_fields__} | {"line": number})
        for number, one in enumerate(lines, 2)
    )
    assert reconcile(Invoice(numbered, "USD"), mine, MONTH).agrees
