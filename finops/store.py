# SPDX-License-Identifier: Apache-2.0
"""Budgets and holds in PostgreSQL (I3); other SQL of this package is in the `_store.py` files beside it.

Contract: every function takes a connection whose transaction its caller owns, and whose tenant is set:
row-level security shows that tenant's rows only. `hold`, `rehold`, `settle` and `refund` lock the budgets they touch,
in id order, until that transaction ends: MUST come late in it, and two holds in one transaction can deadlock.
Results are values; their `body()` is the section that the caller MUST write, afterwards, into the ledger
entry of the same transaction, so that `books.fold` of the entries in their order equals these rows (I6).

Not here: who may set a budget (the access rules), the entries (the ledger).
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from finops import charge_store, money, month_store
from finops.books import QUOTED, Books, BudgetSet, Hold, Share
from finops.budget import (
    Balance,
    BudgetView,
    Settlement,
    nameable,
    parse_mode,
    parse_period,
    parse_scope,
    parse_thresholds,
    parse_unit,
    windows,
)
from finops.errors import (
    AmountInvalid,
    BudgetInvalid,
    CurrencyMismatch,
    FinopsError,
    HoldClosed,
    HoldExists,
    HoldOpen,
    HoldUnknown,
)
from finops.holds import (
    Exceeded,
    Held,
    HoldResult,
    Missing,
    Parked,
    Refunded,
    Settled,
)

Row: TypeAlias = Mapping[str, Any] | RowMapping

__all__ = [
    "Exceeded",
    "Held",
    "HoldResult",
    "Missing",
    "Parked",
    "Refunded",
    "Settled",
    "applicable",
    "books",
    "exceeded",
    "hold",
    "named",
    "park",
    "placing",
    "refund",
    "rehold",
    "release",
    "set_budget",
    "settle",
    "settling",
    "show",
    "tenants",
    "views",
]


async def set_budget(
    conn: AsyncConnection,
    tenant: str,
    scope: str,
    period: str,
    amount: Decimal,
    unit: str,
    *,
    mode: str | None = None,
    thresholds: Iterable[int] | None = None,
    notify: Iterable[str] | UnsetType | None = UNSET,
) -> BudgetSet:
    """Create a budget or change its limit, mode, thresholds and whom it alerts; the result is the body of `budget:set`.

    `unit` is a currency, `shots` or `jobs`. What isn't given stays as it is; a new budget is hard, with thresholds at
    80 and 100 %, and alerts whom the plane's tables say, as one with `notify` None does. A limit below what is spent is
    allowed and stops new holds. The currency of a budget never changes: CurrencyMismatch.
    """
    parsed = parse_scope(scope)
    if not nameable(parsed):
        wanted = "NAME or NAME@DOMAIN" if parsed.kind == "user" else "letters, digits and . _ : @ / -"
        raise BudgetInvalid(f"no job can name it: want {wanted}", field="scope")
    if parsed.kind == "tenant" and parsed.name != tenant:
        raise BudgetInvalid("a tenant's budget is its own", field="scope")
    read = parse_period(period)
    values = {
        "tenant": tenant,
        "budget_id": str(uuid.uuid4()),
        "scope": scope,
        "period": str(read),
        "amount": money.check(amount, "amount"),
        "unit": parse_unit(unit, read, amount),
        "mode": None if mode is None else parse_mode(mode),
        "thresholds": None if thresholds is None else list(parse_thresholds(thresholds)),
        "told": notify is not UNSET,
        "notify": list(notify) if isinstance(notify, Iterable) else None,
    }
    row = (await conn.execute(_SET_BUDGET, values)).mappings().one_or_none()
    if row is None:
        has = (await conn.execute(_UNIT, values)).scalar_one()
        raise CurrencyMismatch(f"the budget is in {has}, which never changes, not in {unit}", field="currency")
    return _budget_set(row)


def applicable(
    tenant: str,
    *,
    project: str,
    cost_center: str | None,
    user: str | None,
    provider: str | None,
    at: datetime,
    workflow: str | None = None,
    session: str | None = None,
) -> tuple[str, dict[str, object]]:
    """The query for the budgets that a job with these names touches, as they stand now; its rows are for `views`.

    `user` is NAME@DOMAIN, and touches budgets of NAME too.
    """
    named = (
        *(("project", project), ("cost_center", cost_center)),
        *(("user", name) for name in sorted({user, user.partition("@")[0]} if user else ())),
        *(("workflow", workflow), ("session", session), ("provider", provider)),
    )
    scopes = [f"tenant:{tenant}"] + [f"{kind}:{name}" for kind, name in named if name]
    return _STANDING, _standing(tenant, scopes, at)


def named(tenant: str, budget_ids: Sequence[str], at: datetime) -> tuple[str, dict[str, object]]:
    """The query for these budgets as they stand in their windows of a moment; its rows are for `views`."""
    return _NAMED, _standing(tenant, list(budget_ids), at)


def views(rows: Iterable[Row]) -> list[BudgetView]:
    """The budgets of `applicable`'s rows."""
    return [_view(row) for row in rows]


async def show(conn: AsyncConnection, tenant: str, at: datetime) -> list[BudgetView]:
    """All budgets of the tenant, by scope and period."""
    rows = await conn.exec_driver_sql(_SHOWN, _standing(tenant, None, at))
    return sorted(views(rows.mappings()), key=lambda view: (view.scope, view.period))


def placing(held: Held, at: datetime) -> dict[str, Any]:
    """The hold as `jobs.admit` places it, or `jobs.advance` makes it anew: in these budgets and windows, or not at all
    (I3); `at` is when the job was admitted.
    """
    moment = windows(at)
    return {
        "amount": money.text(money.check(held.amount, "amount")),
        "currency": money.currency(held.currency),
        "shots": money.text(held.shots),
        "budgets": [share.id for share in held.budgets],
        "windows": [share.window for share in held.budgets],
        "month": moment.monthly,
        "quarter": moment.quarterly,
        "day": moment.rolling,
    }


def settling(settled: Settled) -> dict[str, Any]:
    """The end of a hold as `jobs.advance` writes it, exactly so or not at all."""
    return {
        "capture": money.text(money.check(settled.captured, "capture")),
        "released": money.text(settled.released),
        "overrun": money.text(settled.overrun),
        "shots": money.text(settled.shots),
        "jobs": money.text(settled.jobs),
        "budgets": [share.id for share in settled.budgets],
        "windows": [share.window for share in settled.budgets],
    }


async def hold(
    conn: AsyncConnection,
    tenant: str,
    job_id: str,
    budget_ids: Sequence[str],
    amount: Decimal,
    currency: str,
    at: datetime,
    shots: Decimal = money.ZERO,
) -> HoldResult:
    """Reserve an amount, shots and a job in every one of the budgets that counts them, or in none (I3); one round trip.

    Raises HoldExists where the job held before, CurrencyMismatch where a budget has another currency.
    """
    values = _asking(tenant, job_id, budget_ids, amount, currency, at) | {"shots": money.check(shots, "shots")}
    rows = (await conn.execute(_HOLD, values)).mappings().all()
    return _result(rows, job_id, amount, currency, shots)


async def rehold(
    conn: AsyncConnection,
    tenant: str,
    job_id: str,
    budget_ids: Sequence[str],
    amount: Decimal,
    currency: str,
    at: datetime,
    shots: Decimal = money.ZERO,
) -> HoldResult:
    """Make a job's hold one of this amount in these budgets, or leave it as it is (I3); one round trip.

    `at` is when the job was admitted: budgets that are new to it count it in their window of that moment. Where its
    share of a budget doesn't grow there is always room. Raises HoldUnknown, HoldClosed (settled or parked) or
    CurrencyMismatch.
    """
    values = _asking(tenant, job_id, budget_ids, amount, currency, at) | {"shots": money.check(shots, "shots")}
    rows = (await conn.execute(_REHOLD, values)).mappings().all()
    return _result(rows, job_id, amount, currency, shots)


def _result(rows: Sequence[RowMapping], job_id: str, amount: Decimal, currency: str, shots: Decimal) -> HoldResult:
    match rows[0]["outcome"]:
        case "held":
            return Held(job_id, amount, currency, _shares_of(rows), shots)
        case "exceeded":
            return exceeded(rows)
        case "missing":
            return Missing()
        case outcome:
            raise _refusal(outcome, job_id, rows[0]["unit"], currency)


def exceeded(rows: Iterable[Row]) -> Exceeded:
    """The refusal of a hold, by the rows that tell of it."""
    return Exceeded(tuple(_view(row) for row in rows))


async def settle(
    conn: AsyncConnection,
    tenant: str,
    job_id: str,
    capture: Decimal,
    currency: str | None = None,
    *,
    shots: Decimal = money.ZERO,
    jobs: Decimal = money.ZERO,
) -> Settled:
    """Capture what a job used and release the rest of its hold, once; a parked hold can be settled.

    A capture above the hold is counted in full and told as `overrun`. Without a currency the hold's own is
    meant. Raises HoldUnknown, HoldClosed or CurrencyMismatch.
    """
    values = {
        "tenant": tenant,
        "job": job_id,
        "capture": money.check(capture, "capture"),
        "currency": currency,
        "shots": money.check(shots, "shots"),
        "jobs": money.check(jobs, "jobs"),
    }
    row = (await conn.execute(_SETTLE, values)).mappings().one()
    if row["outcome"] != "settled":
        raise _refusal(row["outcome"], job_id, row["currency"], currency or "")
    shares = _pairs(row["budgets"], row["windows"])
    ended = row["captured"], row["released"], row["overrun"]
    return Settled(job_id, *ended, row["currency"], shares, row["shots"], row["jobs"])


async def refund(conn: AsyncConnection, tenant: str, job_id: str, amount: Decimal, currency: str) -> Refunded:
    """Give money back to the budgets and windows where a settled job spent it; never more than was captured.

    Raises HoldUnknown, HoldOpen, CurrencyMismatch, or AmountInvalid for more than is left of the capture.
    """
    values = {
        "tenant": tenant,
        "job": job_id,
        "amount": money.check(amount, "amount"),
        "currency": money.currency(currency),
    }
    row = (await conn.execute(_REFUND, values)).mappings().one()
    if row["outcome"] == "more":
        left = money.text(row["captured"] - row["released"])
        raise AmountInvalid(f"at most {left} is left of what was captured", field="amount")
    if row["outcome"] != "refunded":
        raise _refusal(row["outcome"], job_id, row["currency"], currency)
    return Refunded(job_id, amount, row["released"], currency, _pairs(row["budgets"], row["windows"]))


async def release(conn: AsyncConnection, tenant: str, job_id: str) -> Settled:
    """Give back a job's whole hold: it cost nothing."""
    return await settle(conn, tenant, job_id, money.ZERO)


async def park(conn: AsyncConnection, tenant: str, job_id: str) -> Parked:
    """Keep the hold of a job whose outcome isn't known; it outlives the job until it is settled."""
    row = (await conn.execute(_PARK, {"tenant": tenant, "job": job_id})).mappings().one_or_none()
    if row is None:
        raise HoldClosed("no open hold to park", field=job_id)
    return Parked(job_id, row["amount"], row["currency"], _pairs(row["budgets"], row["windows"]))


async def books(conn: AsyncConnection, tenant: str) -> Books:
    """The tenant's rows in the form of the fold (I6): all holds and charges ever made, so not for a request."""
    found = Books()
    values = {"tenant": tenant}
    for row in (await conn.execute(_ALL_BUDGETS, values)).mappings():
        found.budgets[row["budget_id"]] = _budget_set(row)
    for row in (await conn.execute(_ALL_WINDOWS, values)).mappings():
        found.balances[row["budget_id"], row["window_key"]] = Balance(row["held"], row["captured"])
    for row in (await conn.execute(_ALL_HOLDS, values)).mappings():
        ended = None
        if row["state"] == "settled":
            ended = Settlement(row["captured"], row["released"], row["overrun"])
        shares = _pairs(row["budgets"], row["windows"])
        counted = {name: row[name] or money.ZERO for name in QUOTED}
        found.holds[row["job_id"]] = Hold(row["amount"], row["currency"], shares, row["state"], ended, **counted)
    found.charges = await charge_store.every(conn, tenant)
    found.months, found.methods = await month_store.recorded(conn, tenant)
    return found


async def tenants(conn: AsyncConnection) -> list[str]:
    """Every tenant that has a budget or was charged; for the audit role."""
    budgeted = (await conn.execute(_TENANTS)).scalars()
    return sorted({*budgeted, *await charge_store.tenants(conn)})


def _asking(
    tenant: str, job_id: str, budget_ids: Sequence[str], amount: Decimal, currency: str, at: datetime
) -> dict[str, object]:
    moment = windows(at)
    return {
        "tenant": tenant,
        "job": job_id,
        "budgets": list(budget_ids),
        "month": moment.monthly,
        "quarter": moment.quarterly,
        "day": moment.rolling,
        "amount": money.check(amount, "amount"),
        "currency": money.currency(currency),
    }


def _standing(tenant: str, scopes: list[str] | None, at: datetime) -> dict[str, object]:
    moment = windows(at)
    return {
        "tenant": tenant,
        "scopes": scopes,
        "month": moment.monthly,
        "quarter": moment.quarterly,
        "day": moment.rolling,
    }


def _view(row: Row) -> BudgetView:
    # An amount has one form, however many zeros the sum of it gained; as JSON it came as a number's own text.
    limit, held, captured = (Decimal(money.text(Decimal(row[name]))) for name in ("limit_amount", "held", "captured"))
    asked, notify = row.get("asked"), row.get("notify")
    return BudgetView(
        row["budget_id"],
        row["scope"],
        row["period"],
        row["window_key"],
        limit,
        held,
        captured,
        row["unit"],
        row["mode"],
        tuple(row["thresholds"]),
        None if notify is None else tuple(notify),
        None if asked is None else Decimal(money.text(Decimal(asked))),
    )


def _budget_set(row: RowMapping) -> BudgetSet:
    limit = money.text(row["limit_amount"])
    thresholds = tuple(row["thresholds"])
    notify = None if row["notify"] is None else tuple(row["notify"])
    return BudgetSet(row["budget_id"], row["scope"], row["period"], limit, row["unit"], row["mode"], thresholds, notify)


def _pairs(budgets: Sequence[str], keys: Sequence[str]) -> tuple[Share, ...]:
    return tuple(Share(budget, window) for budget, window in zip(budgets, keys, strict=True))


def _shares_of(rows: Sequence[RowMapping]) -> tuple[Share, ...]:
    # RETURNING promises no order; the record has the order of the locks.
    return tuple(sorted((Share(row["budget_id"], row["window_key"]) for row in rows), key=lambda share: share.id))


def _refusal(outcome: str, job_id: str, want: str, got: str) -> FinopsError:
    match outcome:
        case "exists":
            return HoldExists("the job has a hold", field=job_id)
        case "closed":
            return HoldClosed("the job's hold is settled or parked", field=job_id)
        case "open":
            return HoldOpen("the job's hold isn't settled yet", field=job_id)
        case "currency":
            return CurrencyMismatch(f"want {want}, got {got}", field="currency")
        case _:
            return HoldUnknown("the job has no hold", field=job_id)


_SET_BUDGET = text("""
    INSERT INTO finops.budget AS b (tenant, budget_id, scope, period, limit_amount, unit, mode, thresholds, notify)
    VALUES (:tenant, :budget_id, :scope, :period, :amount, :unit, coalesce(:mode, 'hard'),
            coalesce(cast(:thresholds AS smallint[]), '{80,100}'), cast(:notify AS text[]))
    ON CONFLICT (tenant, scope, period, counts) DO UPDATE SET limit_amount = excluded.limit_amount,
            mode = coalesce(:mode, b.mode), thresholds = coalesce(cast(:thresholds AS smallint[]), b.thresholds),
            notify = CASE WHEN :told THEN excluded.notify ELSE b.notify END
        WHERE b.unit = excluded.unit
    RETURNING budget_id, scope, period, limit_amount, unit, mode, thresholds, notify
""")
_UNIT = text("""
    SELECT unit FROM finops.budget
    WHERE tenant = :tenant AND scope = :scope AND period = :period AND counts = 'money'
""")
_STANDING = """
    SELECT s.* FROM (
        SELECT array_agg(budget_id) AS budgets,
               array_agg(CASE period WHEN 'monthly' THEN %(month)s WHEN 'quarterly' THEN %(quarter)s
                                     WHEN 'total' THEN 'all' WHEN 'concurrent' THEN 'now' ELSE %(day)s END)
                   AS windows
        FROM finops.budget
        WHERE tenant = %(tenant)s AND (%(scopes)s::text[] IS NULL OR scope = ANY (%(scopes)s::text[]))
    ) AS wanted, finops.standing(%(tenant)s, wanted.budgets, wanted.windows) AS s
"""
_SHOWN = f"SELECT o.*, b.notify FROM ({_STANDING}) AS o JOIN finops.budget b USING (budget_id)"
_NAMED = _STANDING.replace("scope = ANY", "budget_id = ANY")
_HOLD = text("""
    SELECT * FROM finops.place_hold(
        :tenant, :job, cast(:budgets AS text[]), :month, :quarter, :day, :amount, :currency, :shots
    )
""")
_REHOLD = text("""
    SELECT * FROM finops.rehold(
        :tenant, :job, cast(:budgets AS text[]), :month, :quarter, :day, :amount, :currency, :shots
    )
""")
_SETTLE = text("SELECT * FROM finops.settle_hold(:tenant, :job, :capture, :currency, :shots, :jobs)")
_REFUND = text("SELECT * FROM finops.refund(:tenant, :job, :amount, :currency)")
_PARK = text("""
    UPDATE finops.hold SET state = 'parked' WHERE tenant = :tenant AND job_id = :job AND state <> 'settled'
    RETURNING amount, currency, budgets, windows
""")
_TENANTS = text("SELECT DISTINCT tenant FROM finops.budget")
_ALL_BUDGETS = text("SELECT * FROM finops.budget WHERE tenant = :tenant")
_ALL_WINDOWS = text("SELECT budget_id, window_key, held, captured FROM finops.budget_window WHERE tenant = :tenant")
_ALL_HOLDS = text("SELECT * FROM finops.hold WHERE tenant = :tenant")
