# SPDX-License-Identifier: Apache-2.0
"""The books: one tenant's budgets, balances and holds, as a fold over the bodies of its ledger entries (I6).

Contract: the fold reads these sections of a body, and nothing else:

- kind `budget:set`: the whole body, `BudgetSet`;
- `hold` in the body of any entry: `HoldRecord`;
- `rehold` in the body of any entry: `HoldRecord`, in place of the one before;
- `settle` in the body of any entry: `SettleRecord`, or `ParkRecord` where the outcome isn't known yet;
- `charge` and `charges` in the body of any entry: `charges.Section`, whose rows are kept by entry;
- `refund` in the body of any entry: `RefundRecord`;
- `freeze` and `close` in the body of any entry: a month to which nothing is charged any more, and its statement;
- `allocation` in the body of any entry: the hash of the method that is in force from then on;

each as the result of the `store` call makes it with `body()`.

The same entries in the same order give the same books, which `differences` compares with the rows. An entry
that can't follow those before it raises; no balance is guessed. Pure: no clock, randomness, socket or
database.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from finops import charges, money
from finops.budget import QUOTAS, THRESHOLDS, Balance, Mode, Settlement, counts, settlement
from finops.budget import share as budget_share
from finops.charges import Charged
from finops.errors import BooksInconsistent
from finops.money import ZERO

HoldState: TypeAlias = Literal["held", "parked", "settled"]
QUOTED: Final = ("shots", "used_shots", "used_jobs", "refunded")  # of a hold; what is zero isn't written


class Share(Struct, frozen=True, forbid_unknown_fields=True):
    """One budget that a hold counts in, and the window of it."""

    id: str
    window: str


class BudgetSet(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of `budget:set`; `currency` is the unit: a currency, `shots` or `jobs`. Older ones lack the last
    three; without `notify` whoever the plane's tables say is alerted.
    """

    budget_id: str
    scope: str
    period: str
    limit: str
    currency: str
    mode: Mode = "hard"
    thresholds: tuple[int, ...] = THRESHOLDS
    notify: tuple[str, ...] | None = None

    def body(self) -> dict[str, Any]:
        """The body of the entry."""
        told = msgspec.structs.asdict(self) | {"thresholds": list(self.thresholds)}
        return told | {"notify": list(self.notify)} if self.notify is not None else _without(told, "notify")


def _without(told: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != name}


class HoldRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Section `hold`: what is reserved for a job, in each budget what it counts; section `rehold`: from now on."""

    job_id: str
    amount: str
    currency: str
    budgets: tuple[Share, ...]
    shots: str = "0"


class RefundRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Section `refund`: money given back of what a settled hold captured."""

    job_id: str
    amount: str
    currency: str
    budgets: tuple[Share, ...]


class SettleRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Section `settle`: how a job's hold ended; `budgets` are those of the hold."""

    job_id: str
    capture: str
    release: str
    overrun: str
    currency: str
    budgets: tuple[Share, ...]
    shots: str = "0"
    jobs: str = "0"


class ParkRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Section `settle` of a job whose outcome isn't known: the whole hold is kept, `parked` is its amount."""

    job_id: str
    parked: str
    currency: str
    budgets: tuple[Share, ...]


class Hold(Struct, frozen=True):
    """A job's hold as the books have it; `amount` is what was reserved, settled or not."""

    amount: Decimal
    currency: str
    budgets: tuple[Share, ...]
    state: HoldState = "held"
    settlement: Settlement | None = None
    shots: Decimal = ZERO
    used_shots: Decimal = ZERO
    used_jobs: Decimal = ZERO
    refunded: Decimal = ZERO


class MonthRecord(Struct, frozen=True):
    """A month that is closing: the entry that froze it; once it is closed, that entry and its statement's id."""

    frozen: str
    closed: str | None = None
    bundle_id: str | None = None
    statement: str | None = None


class FreezeRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Section `freeze`: what is charged from now on counts in another month."""

    month: str


class CloseRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Section `close`: the statement of a frozen month, by its hashes."""

    month: str
    frozen: str
    bundle_id: str
    lines: str
    count: int
    statement: str
    previous: str | None
    allocation: str | None


class Books(Struct):
    """One tenant's budgets, balances by (budget, window), holds by job, charged lines by entry, closed months."""

    budgets: dict[str, BudgetSet] = {}
    balances: dict[tuple[str, str], Balance] = {}
    holds: dict[str, Hold] = {}
    charges: dict[str, tuple[Charged, ...]] = {}
    months: dict[str, MonthRecord] = {}
    methods: list[str] = []


class Named(Struct, frozen=True):
    """An entry's own id and time, which its charges have."""

    entry_id: str
    at: datetime


def fold(books: Books, kind: str, body: dict[str, Any], entry: Named | None = None) -> Books:
    """Apply one entry of the tenant to its books and return them; raises BooksInconsistent.

    The books given are updated in place: a copy an entry would make replaying a log quadratic.
    """
    try:
        if kind == "budget:set":
            change = msgspec.convert(body, BudgetSet)
            money.parse(change.limit, "limit")
            books.budgets[change.budget_id] = change
        if "hold" in body:
            _fold_hold(books, msgspec.convert(body["hold"], HoldRecord))
        if "rehold" in body:
            _fold_rehold(books, msgspec.convert(body["rehold"], HoldRecord))
        if "settle" in body:
            section = body["settle"]
            if isinstance(section, dict) and "parked" in section:
                _fold_park(books, msgspec.convert(section, ParkRecord))
            else:
                _fold_settle(books, msgspec.convert(section, SettleRecord))
        if "charge" in body or "charges" in body:
            _fold_charges(books, body, entry)
        if "refund" in body:
            _fold_refund(books, msgspec.convert(body["refund"], RefundRecord))
        if entry is not None and "freeze" in body:
            _fold_freeze(books, msgspec.convert(body["freeze"], FreezeRecord), entry)
        if entry is not None and "close" in body:
            _fold_close(books, msgspec.convert(body["close"], CloseRecord), entry)
        if kind == "costs:allocation_set":
            books.methods.append(str(body["allocation"]["hash"]))
    except msgspec.ValidationError as error:
        raise BooksInconsistent(str(error), field=kind) from error
    return books


def document(kept: Books) -> dict[str, Any]:
    """The books as plain values, in one order and with amounts as they are: `restored` gives the same books."""
    return {
        "budgets": [msgspec.to_builtins(kept.budgets[name]) for name in sorted(kept.budgets)],
        "balances": [
            [*key, format(kept.balances[key].held, "f"), format(kept.balances[key].captured, "f")]
            for key in sorted(kept.balances)
        ],
        "holds": [_written(job_id, kept.holds[job_id]) for job_id in sorted(kept.holds)],
        # Left out where there are none, so that what was kept before there were any still has its hash.
        **({"charges": _listed(kept.charges)} if kept.charges else {}),
        **({"months": msgspec.to_builtins(kept.months)} if kept.months else {}),
        **({"methods": kept.methods} if kept.methods else {}),
    }


def restored(document: dict[str, Any]) -> Books:
    """The books of such a document."""
    return Books(
        {told["budget_id"]: msgspec.convert(told, BudgetSet) for told in document["budgets"]},
        {
            (budget, window): Balance(Decimal(held), Decimal(captured))
            for budget, window, held, captured in document["balances"]
        },
        {told["job_id"]: _read(told) for told in document["holds"]},
        _by_entry(charges.restored(told) for told in document.get("charges", ())),
        msgspec.convert(document.get("months", {}), dict[str, MonthRecord]),
        list(document.get("methods", ())),
    )


def _listed(kept: dict[str, tuple[Charged, ...]]) -> list[list[Any]]:
    return [charges.document(row) for entry_id in sorted(kept) for row in kept[entry_id]]


def _by_entry(rows: Iterable[Charged]) -> dict[str, tuple[Charged, ...]]:
    return {entry_id: tuple(own) for entry_id, own in groupby(rows, lambda row: row.entry_id)}


def _written(job_id: str, hold: Hold) -> dict[str, Any]:
    ended = hold.settlement
    return {
        "job_id": job_id,
        "amount": format(hold.amount, "f"),
        "currency": hold.currency,
        "budgets": [[share.id, share.window] for share in hold.budgets],
        "state": hold.state,
        "settlement": None
        if ended is None
        else [format(amount, "f") for amount in (ended.captured, ended.released, ended.overrun)],
    } | {name: format(amount, "f") for name in QUOTED if (amount := getattr(hold, name))}


def _read(told: dict[str, Any]) -> Hold:
    ended = told["settlement"]
    return Hold(
        Decimal(told["amount"]),
        told["currency"],
        tuple(Share(*pair) for pair in told["budgets"]),
        told["state"],
        None if ended is None else Settlement(*map(Decimal, ended)),
        **{name: Decimal(told[name]) for name in QUOTED if name in told},
    )


def differences(rows: Books, folded: Books) -> list[str]:
    """What the rows and the fold disagree about, one line each; an empty list is agreement (I6)."""
    found: list[str] = []
    parts: tuple[tuple[str, dict[Any, Any], dict[Any, Any]], ...] = (
        ("budget", rows.budgets, folded.budgets),
        ("balance", _touched(rows), _touched(folded)),
        ("hold", rows.holds, folded.holds),
        ("month", rows.months, folded.months),
        ("method", dict(enumerate(rows.methods)), dict(enumerate(folded.methods))),
    )
    for name, stored, rebuilt in parts:
        for key in sorted(stored.keys() | rebuilt.keys()):
            row, entry = stored.get(key), rebuilt.get(key)
            found += [] if row == entry else [f"{name} {key}: row {row}, ledger {entry}"]
    return found + charges.differences(rows.charges, folded.charges)


def _touched(books: Books) -> dict[tuple[str, str], Balance]:
    # A window that nothing was ever held in may have a row or none: both say zero.
    return {key: balance for key, balance in books.balances.items() if balance != Balance()}


def _fold_hold(books: Books, record: HoldRecord) -> None:
    if record.job_id in books.holds:
        raise BooksInconsistent("a second hold", field=record.job_id)
    _known(books, record)
    amount, shots = money.parse(record.amount, "amount"), money.parse(record.shots, "shots")
    books.holds[record.job_id] = hold = Hold(amount, record.currency, record.budgets, shots=shots)
    _reserve(books, hold)


def _fold_rehold(books: Books, record: HoldRecord) -> None:
    hold = _open_hold(books, record.job_id, record.currency)
    _known(books, record)
    had = {share.id: share for share in hold.budgets}
    if hold.state != "held" or any(had.get(share.id, share) != share for share in record.budgets):
        raise BooksInconsistent("a parked hold, or one in other windows", field=record.job_id)
    amount, shots = money.parse(record.amount, "amount"), money.parse(record.shots, "shots")
    made = msgspec.structs.replace(hold, amount=amount, budgets=record.budgets, shots=shots)
    books.holds[record.job_id] = made
    for share in hold.budgets:
        key = (share.id, share.window)
        books.balances[key] = books.balances[key].settle(_counted(books, share, hold), ZERO)
    _reserve(books, made)


def _fold_park(books: Books, record: ParkRecord) -> None:
    hold = _open_hold(books, record.job_id, record.currency)
    if (record.parked, record.budgets) != (money.text(hold.amount), hold.budgets):
        raise BooksInconsistent("what is parked is not the hold", field=record.job_id)
    books.holds[record.job_id] = msgspec.structs.replace(hold, state="parked")


def _fold_settle(books: Books, record: SettleRecord) -> None:
    hold = _open_hold(books, record.job_id, record.currency)
    ended = settlement(hold.amount, money.parse(record.capture, "capture"))
    said = (money.parse(record.release, "release"), money.parse(record.overrun, "overrun"))
    if said != (ended.released, ended.overrun) or record.budgets != hold.budgets:
        raise BooksInconsistent("settlement doesn't add up to its hold", field=record.job_id)
    shots, jobs = money.parse(record.shots, "shots"), money.parse(record.jobs, "jobs")
    books.holds[record.job_id] = msgspec.structs.replace(
        hold, state="settled", settlement=ended, used_shots=shots, used_jobs=jobs
    )
    for share in hold.budgets:
        budget, key = books.budgets[share.id], (share.id, share.window)
        used = ZERO
        if budget.period != "concurrent":
            used = budget_share(budget.currency, ended.captured, shots, jobs)
        books.balances[key] = books.balances[key].settle(_counted(books, share, hold), used)


def _fold_refund(books: Books, record: RefundRecord) -> None:
    hold, amount = books.holds.get(record.job_id), money.parse(record.amount, "amount")
    if hold is None or hold.settlement is None or (record.currency, record.budgets) != (hold.currency, hold.budgets):
        raise BooksInconsistent("no settled hold", field=record.job_id)
    refunded = money.total((hold.refunded, amount))
    if refunded > hold.settlement.captured:
        raise BooksInconsistent("more is given back than was captured", field=record.job_id)
    books.holds[record.job_id] = msgspec.structs.replace(hold, refunded=refunded)
    for share in hold.budgets:
        if counts(books.budgets[share.id].currency) == "money":
            key = (share.id, share.window)
            books.balances[key] = books.balances[key].settle(ZERO, -amount)


def _known(books: Books, record: HoldRecord) -> None:
    """Raise BooksInconsistent unless each budget was set, and those in money in the hold's currency."""
    for share in record.budgets:
        budget = books.budgets.get(share.id)
        if budget is None or budget.currency not in (record.currency, *QUOTAS):
            raise BooksInconsistent(f"no budget {share.id} in {record.currency}", field=record.job_id)


def _counted(books: Books, share: Share, hold: Hold) -> Decimal:
    return budget_share(books.budgets[share.id].currency, hold.amount, hold.shots)


def _reserve(books: Books, hold: Hold) -> None:
    for share in hold.budgets:
        key = (share.id, share.window)
        books.balances[key] = books.balances.get(key, Balance()).hold(_counted(books, share, hold))


def _fold_charges(books: Books, body: dict[str, Any], entry: Named | None) -> None:
    if entry is None or entry.entry_id in books.charges:
        raise BooksInconsistent("charges of no entry, or of one that charged before", field="charge")
    told = charges.sections(body)
    rows = charges.rows(entry.entry_id, entry.at.astimezone(UTC), told, books.months)
    captured = body.get("settle", {}).get("capture")
    if captured is not None and money.total(row.amount for row in rows) != money.parse(captured, "capture"):
        raise BooksInconsistent("the charges are not what was captured", field="charge")
    if rows:
        books.charges[entry.entry_id] = rows


def _fold_freeze(books: Books, record: FreezeRecord, entry: Named) -> None:
    if record.month in books.months or record.month >= charges.month_of(entry.at):
        raise BooksInconsistent("frozen twice, or before it was over", field=record.month)
    books.months[record.month] = MonthRecord(entry.entry_id)


def _fold_close(books: Books, record: CloseRecord, entry: Named) -> None:
    month = books.months.get(record.month)
    if month is None or month.closed is not None or month.frozen != record.frozen:
        raise BooksInconsistent("closed twice, or never frozen", field=record.month)
    before = max((name for name in books.months if name < record.month), default=None)
    if record.previous != (None if before is None else books.months[before].statement):
        raise BooksInconsistent("doesn't follow the statement before it", field=record.month)
    lines = sum(row.month == record.month for own in books.charges.values() for row in own)
    if record.count != lines:
        raise BooksInconsistent(f"{record.count} lines where {lines} were charged", field=record.month)
    if record.allocation is not None and record.allocation not in books.methods:
        raise BooksInconsistent("a method that was never in force", field=record.month)
    books.months[record.month] = MonthRecord(month.frozen, entry.entry_id, record.bundle_id, record.statement)


def _open_hold(books: Books, job_id: str, currency: str) -> Hold:
    hold = books.holds.get(job_id)
    if hold is None or hold.state == "settled" or currency != hold.currency:
        raise BooksInconsistent("no open hold", field=job_id)
    return hold
