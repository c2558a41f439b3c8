# SPDX-License-Identifier: Apache-2.0
"""A FOCUS file held against evidence: each line made again, column by column, and what is unlike named (G7, G3).

Contract: enter the lines of a file (`reading`) and what valid evidence gives of them (`due`), by job or by entry. The
whole line is made by `shape`, as the export makes it. Leaves a finding for each line that isn't the same: differs (both
amounts, and the columns), missing (evidence has it, the file doesn't), extra (the file has it, evidence doesn't) or
unproven, with the reason.

What evidence doesn't give isn't held: of a line that counts in a later month than its entry's, because that one was
closed, the month (whoever has the plane's own lines holds it against those: `places`); of one without a valid bundle of
its job, the bundle and the wait; and a line may be older than the index of its entry. Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, get_args

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from finops import money
from finops.charges import month_of
from finops.errors import FinopsError
from finops.focus import shape
from finops.focus.due import Due, Place, Proven, Told, due_of_entry, due_of_job
from finops.focus.shape import RAW_SCHEMA, Parties

State: TypeAlias = Literal["same", "differs", "missing", "extra", "unproven"]
STATES: Final[tuple[str, ...]] = get_args(State)
HELD_WHOLE: Final = (
    *("x_LedgerEntryId", "x_LedgerLine", "x_JobId", "x_Category", "x_ChargedAt"),
    *("BilledCost", "BillingCurrency", "BillingPeriodStart"),
)


class Finding(Struct, frozen=True):
    """What became of one line; amounts are texts in `currency`."""

    state: State
    job_id: str
    line: int | None
    got: str | None
    want: str | None
    currency: str
    detail: str = ""


class FileLine(Struct, frozen=True):
    """A line of a file: its number (1 is the first after the heading) and its cells by column."""

    number: int
    cells: Mapping[str, Any]

    @property
    def place(self) -> Place:
        """Which entry tells of it, and where."""
        return self.cells["x_LedgerEntryId"], self.cells["x_LedgerLine"]


class Usage(Struct, frozen=True):
    """What evidence gives of jobs' usage, and by job why it gives nothing."""

    due: Mapping[Place, Due]
    why: Mapping[str, str]


class Evidence(Struct, frozen=True):
    """What is proven by job and by entry, and by the id of either why nothing is."""

    known: Mapping[str, Proven]
    why: Mapping[str, str]
    told: Mapping[str, Told]


def batches(table: pa.Table, jobs: int) -> Iterator[tuple[list[str], list[FileLine]]]:
    """The lines of a file, those of some jobs at once; lines of no job come last, as many at once."""
    order = pc.sort_indices(table, [("x_JobId", "ascending")])
    runs = pc.run_end_encode(shape.one(table["x_JobId"]).take(order))
    ends, begin = [0, *runs.run_ends.to_pylist()], 0
    names = runs.values.to_pylist()
    while begin < len(names) and names[begin] is not None:
        end = min(begin + jobs, len(names) - (names[-1] is None))
        yield names[begin:end], _lines(table, order.slice(ends[begin], ends[end] - ends[begin]))
        begin = end
    for place in range(ends[begin], table.num_rows, jobs):
        yield [], _lines(table, order.slice(place, jobs))


def _lines(table: pa.Table, order: pa.Array) -> list[FileLine]:
    rows = table.take(order).to_pylist()
    return [FileLine(place + 1, cells) for place, cells in zip(order.to_pylist(), rows, strict=True)]


def usage(lines: Iterable[FileLine], known: Mapping[str, Proven]) -> Usage:
    """What is due of the jobs whose usage the lines are: each charge made again, once."""
    due: dict[Place, Due] = {}
    why: dict[str, str] = {}
    used = {line.cells["x_JobId"] for line in lines if line.cells["x_Category"] == "usage"}
    for job_id in used & known.keys():
        try:
            due |= due_of_job(known[job_id])
        except FinopsError as error:
            why[job_id] = str(error)
    return Usage(due, why)


def entries(lines: Iterable[FileLine], used: Usage) -> set[str]:
    """The entries that must be asked for: of lines that no job's evidence gives."""
    return {line.cells["x_LedgerEntryId"] for line in lines if line.place not in used.due}


def held(
    version: str,
    lines: list[FileLine],
    used: Usage,
    evidence: Evidence,
    file: pa.Array,
    elsewhere: Collection[int] = frozenset(),
) -> list[Finding]:
    """What isn't the same of some jobs' lines, `used` their `usage`; those `elsewhere` the plane has in another month.

    `file` has the places of all of its lines: one that stands under another job is told of there, and isn't missing.
    """
    due, why = dict(used.due), {**evidence.why, **used.why}
    jobs = {job_id for line in lines if (job_id := line.cells["x_JobId"]) is not None}
    claimed = {line.place: line for line in lines}
    for entry in {line.cells["x_LedgerEntryId"] for line in lines} & evidence.told.keys():
        for place, one in due_of_entry(evidence.told[entry], evidence.known).items():
            of, is_usage = one.row["job_id"], one.row["category"] == "usage"
            if is_usage and of in why and (place not in claimed or claimed[place].cells["x_JobId"] == of):
                continue  # what isn't valid proves nothing, whatever its entry says
            if place in claimed or (is_usage and of in jobs and of not in evidence.known):
                due.setdefault(place, one)
    spoken: list[FileLine] = []
    found: list[Finding] = []
    for line in lines:
        job_id, entry = line.cells["x_JobId"], line.cells["x_LedgerEntryId"]
        is_usage = line.cells["x_Category"] == "usage"
        if line.place in due or (
            not (is_usage and job_id in why) and (entry in evidence.told or job_id in evidence.known)
        ):
            spoken.append(line)
        else:
            reason = why.get(job_id if is_usage and job_id in why else entry, "its ledger entry isn't there")
            found.append(_alone("unproven", line, reason))
    unlike, left = compare(version, spoken, due, elsewhere)
    if left := [one for one in left if one.row["category"] == "usage"]:
        there = pc.is_in(pa.array(["{entry_id}/{line}".format_map(one.row) for one in left]), file).to_pylist()
        left = [one for one, elsewhere_told in zip(left, there, strict=True) if not elsewhere_told]
    return found + unlike + [_missing(one) for one in left]


def unnamed(table: pa.Table, jobs: Iterable[Proven], months: Collection[str]) -> list[Finding]:
    """What jobs were charged in these months, of which the file has no line at all."""
    there = set(pc.unique(table["x_JobId"]).to_pylist())
    due = [one for job in jobs if job.job_id not in there for one in due_of_entry(job.told, {}).values()]
    return [_missing(one) for one in due if month_of(one.row["charged_at"]) in months]


def compare(
    version: str, lines: Iterable[FileLine], due: Mapping[Place, Due], elsewhere: Collection[int] = frozenset()
) -> tuple[list[Finding], list[Due]]:
    """What isn't the same of lines that evidence speaks of, and what is due and isn't among them."""
    pairs, extra, left = _paired(lines, due)
    found = [_unlike(line, one, want, line.number in elsewhere) for line, one, want in _made(version, pairs)]
    found += [_alone("extra", line, "no evidence gives it, or it is there already") for line in extra]
    return [one for one in found if one is not None], left


def places(table: pa.Table) -> pa.Array:
    """Entry and line of each row, as one text."""
    line = pc.cast(table["x_LedgerLine"], pa.string())
    return shape.one(pc.binary_join_element_wise(shape.plain(table["x_LedgerEntryId"]), line, "/"))


def lacking(table: pa.Table, whole: pa.Table) -> list[Finding]:
    """What of the whole months the file lacks: entries, and lines that are no usage; of a job's `compare` tells."""
    entry = pc.is_in(whole["x_LedgerEntryId"], shape.one(table["x_LedgerEntryId"]))
    place = pc.is_in(places(whole), places(table))
    used = shape.one(pc.equal(shape.plain(whole["x_Category"]), "usage"))
    gone = pc.or_(pc.invert(shape.one(entry)), pc.and_(pc.invert(used), pc.invert(place)))
    names = ("x_JobId", "BilledCost", "BillingCurrency", "x_Category", "x_LedgerEntryId")
    return [
        Finding(
            "missing",
            row["x_JobId"] or "",
            None,
            None,
            money.text(row["BilledCost"]),
            row["BillingCurrency"],
            f"{row['x_Category']}, entry {row['x_LedgerEntryId']}",
        )
        for row in whole.select(names).filter(gone).to_pylist()
    ]


def differences(currencies: Iterable[str], found: Iterable[Finding]) -> dict[str, str]:
    """The total difference of each currency: what the file says less what evidence gives."""
    sums = dict.fromkeys(currencies, money.ZERO)
    for one in found:
        if one.state != "unproven":
            difference = Decimal(one.got or 0) - Decimal(one.want or 0)
            sums[one.currency] = money.total((sums.get(one.currency, money.ZERO), difference))
    return {currency: money.text(amount) for currency, amount in sorted(sums.items())}


def _paired(
    lines: Iterable[FileLine], due: Mapping[Place, Due]
) -> tuple[list[tuple[FileLine, Due]], list[FileLine], list[Due]]:
    """Each line with what is due of it: that of its place; else of its job, one with its number or its amount."""
    left = dict(due)
    pairs: list[tuple[FileLine, Due]] = []
    rest: list[FileLine] = []
    for line in sorted(lines, key=lambda line: (line.place in due and not _like(line, due[line.place]), line.number)):
        one = left.pop(line.place, None)
        if one is None:
            rest.append(line)
        else:
            pairs.append((line, one))
    extra: list[FileLine] = []
    for line in sorted(rest, key=lambda line: line.number):
        near = [place for place, one in left.items() if one.row["job_id"] == line.cells["x_JobId"] is not None]
        near = [place for place in near if place[1] == line.place[1] or _like(line, left[place])]
        if near:
            pairs.append((line, left.pop(near[0])))
        else:
            extra.append(line)
    return pairs, extra, list(left.values())


def _like(line: FileLine, due: Due) -> bool:
    return bool(line.cells["BilledCost"] == due.row["amount"] and line.cells["SkuMeter"] == due.row["meter"])


def _made(version: str, pairs: list[tuple[FileLine, Due]]) -> Iterable[tuple[FileLine, Due, Mapping[str, Any]]]:
    """The lines made again, for each plane and tenant at once."""
    of: dict[tuple[str, str], list[tuple[FileLine, Due]]] = {}
    for line, one in pairs:
        of.setdefault((one.tenant, one.plane), []).append((line, one))
    for (tenant, plane), some in of.items():
        rows = [{**one.row, "month": _month(line, one)} for line, one in some]
        raw = pa.Table.from_pylist(rows, schema=RAW_SCHEMA)
        # As of a plane's own batch: words by their numbers in this table.
        made = shape.lines(raw, version, Parties(tenant, plane)).to_pylist()
        yield from ((line, one, want) for (line, one), want in zip(some, made, strict=True))


def _month(line: FileLine, due: Due) -> str:
    """The month in which it counts: that of its entry, or the later one that the file says."""
    own = month_of(due.row["charged_at"])
    begins: datetime = line.cells["BillingPeriodStart"]
    return max(own, f"{begins:%Y-%m}")


def _unlike(line: FileLine, due: Due, want: Mapping[str, Any], elsewhere: bool) -> Finding | None:
    """The columns in which the line says otherwise; None where there is none."""
    cells = line.cells
    wrong = [name for name, value in want.items() if cells[name] != (value if value != "" else None)]
    wrong = [
        name for name in wrong if name not in due.unknown and not (name == "x_LedgerIndex" and cells[name] is None)
    ]
    row = due.row
    if elsewhere and line.place == (row["entry_id"], row["line"]) and "BillingPeriodStart" not in wrong:
        wrong.append("BillingPeriodStart")
    if not wrong:
        return None
    got, owed = money.text(cells["BilledCost"]), money.text(row["amount"])
    return Finding("differs", row["job_id"] or "", line.number, got, owed, row["currency"], ", ".join(wrong))


def _alone(state: State, line: FileLine, detail: str) -> Finding:
    cells = line.cells
    got, currency = money.text(cells["BilledCost"]), cells["BillingCurrency"]
    return Finding(state, cells["x_JobId"] or "", line.number, got, None, currency, detail)


def _missing(due: Due) -> Finding:
    row = due.row
    return Finding(
        "missing",
        row["job_id"] or "",
        None,
        None,
        money.text(row["amount"]),
        row["currency"],
        row["meter"] or row["category"],
    )
