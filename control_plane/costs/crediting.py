# SPDX-License-Identifier: Apache-2.0
"""Credits, refunds, corrections and shared costs: each a line of its own, with the entry that tells why (G7, I3, I6).

Nothing that was charged is ever changed: what gives back is a line below zero in the month that is open now, and says
which entry, of which month, it is about. A refund gives the job's budgets back what it takes off, in the windows in
which the job counted; a credit or correction moves no budget: those are raised or lowered by `budget:set`. A job never
comes to less than nothing, whoever gives back at the same moment.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

import finops.store
from control_plane import administrative
from control_plane.accounts import store as accounts
from control_plane.accounts.projects import CostCenter
from control_plane.administrative import Kind
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.strict import Reason
from finops import charge_store, money, refund_store
from finops.charges import Category, Line, Section
from finops.errors import AmountInvalid, CorrectionInvalid, CurrencyMismatch
from ledger.canonical import parse_time, timestamp

Amount = Annotated[str, Meta(extra_json_schema={"pattern": r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$"})]
Signed = Annotated[str, Meta(extra_json_schema={"pattern": r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$"})]
Currency = Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Z]{3}$"})]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Crediting(Struct, frozen=True, forbid_unknown_fields=True):
    """What a project is given."""

    project: Name
    amount: Amount
    currency: Currency
    reason: Reason
    cost_center: CostCenter | None = None


class Refunding(Struct, frozen=True, forbid_unknown_fields=True):
    """What a job is given back; without an amount all that is left of its charge."""

    job_id: Name
    reason: Reason
    amount: Amount | None = None


class Correcting(Struct, frozen=True, forbid_unknown_fields=True):
    """What was charged too little, or with a minus too much: of a job, or of a project."""

    amount: Signed
    currency: Currency
    reason: Reason
    job_id: Name | None = None
    project: Name | None = None
    cost_center: CostCenter | None = None


class Sharing(Struct, frozen=True, forbid_unknown_fields=True):
    """A cost that no job caused, in the pool by whose rule it is split; with a minus what corrects one."""

    pool: Name
    amount: Signed
    currency: Currency
    reason: Reason
    provider: Name | None = None


crediting = msgspec.json.Decoder(Crediting)
refunding = msgspec.json.Decoder(Refunding)
correcting = msgspec.json.Decoder(Correcting)
sharing = msgspec.json.Decoder(Sharing)


class Corrects(Struct, frozen=True):
    """The entry that a line is about, and the month in which that one counts."""

    entry_id: str
    month: str


class Written(Struct, frozen=True):
    """The line that was written."""

    entry_id: str
    month: str
    category: Category
    amount: str
    currency: str
    project: str | None
    cost_center: str | None
    job_id: str | None
    corrects: Corrects | None


async def credit(plane: Plane, who: Principal, asked: Crediting) -> Written:
    """Give a project an amount, whatever it spent."""
    amount = _some(money.parse(asked.amount, "amount"))
    currency = money.iso_4217(asked.currency)
    section = _section("credit", -amount, currency, project=asked.project, cost_center=asked.cost_center)
    async with plane.transaction(who.tenant) as conn:
        await _project(conn, who.tenant, asked.project)
        return await _write(plane, who, conn, "costs:credited", (section, asked.reason))


async def refund(plane: Plane, who: Principal, asked: Refunding) -> Written:
    """Give back what a job was charged, or some of it, and as much to the budgets in which it counted."""
    tenant = who.tenant
    async with plane.transaction(tenant) as conn:
        used = await refund_store.usage(conn, tenant, asked.job_id)
        await refund_store.lock(conn, tenant, asked.job_id)
        left = await refund_store.left(conn, tenant, asked.job_id)
        if asked.amount is None and not left:
            raise CorrectionInvalid("nothing is left of what was charged: it is given back", field="job_id")
        amount = _some(left if asked.amount is None else money.parse(asked.amount, "amount"))
        if amount > left:
            raise CorrectionInvalid(f"at most {money.text(left)} is left of what was charged", field="amount")
        given = await finops.store.refund(conn, tenant, asked.job_id, amount, used["currency"])
        section = _of_job("refund", -amount, used, asked.job_id)
        more = {"refund": given.body(), "corrects": _corrects(used)}
        return await _write(plane, who, conn, "costs:refunded", (section, asked.reason), more)


async def correct(plane: Plane, who: Principal, asked: Correcting) -> Written:
    """Charge a job or a project what was missing, or take off what was too much."""
    amount, tenant = _some(_signed(asked.amount)), who.tenant
    if (asked.job_id is None) == (asked.project is None):
        raise CorrectionInvalid("a correction is of a job or of a project, and of one of them", field="job_id")
    async with plane.transaction(tenant) as conn:
        if asked.job_id is None:
            assert asked.project is not None  # one of them is there
            await _project(conn, tenant, asked.project)
            currency = money.iso_4217(asked.currency)
            section = _section("correction", amount, currency, project=asked.project, cost_center=asked.cost_center)
            return await _write(plane, who, conn, "costs:corrected", (section, asked.reason))
        used = await refund_store.usage(conn, tenant, asked.job_id)
        if asked.currency != used["currency"]:
            raise CurrencyMismatch(f"the job was charged in {used['currency']}", field="currency")
        await refund_store.lock(conn, tenant, asked.job_id)
        net = await refund_store.net(conn, tenant, asked.job_id)
        if money.total((net, amount)) < 0:
            raise CorrectionInvalid(f"the job comes to {money.text(net)}: no more can be taken off", field="amount")
        section = _of_job("correction", amount, used, asked.job_id)
        more = {"corrects": _corrects(used)}
        return await _write(plane, who, conn, "costs:corrected", (section, asked.reason), more)


async def share(plane: Plane, who: Principal, asked: Sharing) -> Written:
    """Enter a shared cost; the month's method of allocation splits it."""
    amount = _some(_signed(asked.amount))
    section = _section("shared", amount, money.iso_4217(asked.currency), purpose=asked.pool, provider=asked.provider)
    async with plane.transaction(who.tenant) as conn:
        return await _write(plane, who, conn, "costs:shared", (section, asked.reason))


async def _write(
    plane: Plane,
    who: Principal,
    conn: AsyncConnection,
    kind: Kind,
    told: tuple[Section, str],
    more: dict[str, Any] | None = None,
) -> Written:
    """The line and the entry that tells of it."""
    section, reason = told
    now = parse_time(timestamp(plane.now()))
    entry = administrative.entry(who, kind, {"charge": section.body()} | (more or {}), reason, now)
    await charge_store.insert(conn, who.tenant, entry.entry_id, now, (section,))
    await administrative.append(conn, entry)
    month = await refund_store.month(conn, who.tenant, entry.entry_id)
    told_of = (more or {}).get("corrects")
    return Written(
        entry_id=entry.entry_id,
        month=month,
        category=section.category,
        amount=section.lines[0].amount,
        currency=section.currency,
        project=section.project,
        cost_center=section.cost_center,
        job_id=section.job_id,
        corrects=None if told_of is None else Corrects(**told_of),
    )


async def _project(conn: AsyncConnection, tenant: str, project: str) -> None:
    if not await accounts.projects(conn, tenant, 1, named=(project,)):
        raise Refused("not_found", f"no project {project}")


def _section(category: Category, amount: Decimal, currency: str, **of: str | None) -> Section:
    return Section(lines=(Line(amount=money.text(amount)),), currency=money.currency(currency), category=category, **of)


def _of_job(category: Category, amount: Decimal, used: Any, job_id: str) -> Section:
    """A line that counts wherever the job's usage counts, and is about the time in which that was used."""
    names = (
        "project",
        "cost_center",
        "team",
        "pseudonym",
        "purpose",
        "classification",
        "provider",
        "backend",
        "region",
    )
    of = {name: used[name] for name in names}
    of |= {name: None if used[name] is None else timestamp(used[name]) for name in ("started_at", "ended_at")}
    return _section(category, amount, used["currency"], job_id=job_id, rate_card=used["rate_card"], **of)


def _corrects(used: Any) -> dict[str, str]:
    return {"entry_id": used["entry_id"], "month": used["month"]}


def _signed(text: str) -> Decimal:
    return -money.parse(text[1:], "amount") if text.startswith("-") else money.parse(text, "amount")


def _some(amount: Decimal) -> Decimal:
    if not amount:
        raise AmountInvalid("is nothing", field="amount")
    return amount
