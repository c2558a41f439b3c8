# SPDX-License-Identifier: Apache-2.0
"""Charged lines in PostgreSQL (G6, G7, I6).

Contract: every function takes a connection whose transaction its caller owns and whose tenant is set. What is inserted
is told by an entry of the same transaction (`charges.sections` of its body), and its month is taken under the tenant's
lock of months: so the entry MUST be appended after the insertion. No row is ever changed.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from finops import charges
from finops.charges import Charged, Section
from finops.dimensions import DIMENSIONS
from finops.spending import Move, Period, Spend

_EVERYTHING: Final[Mapping[str, str]] = {}


def writing(entry_id: str, at: datetime, told: Sequence[Section]) -> list[dict[str, Any]]:
    """The lines as `finops.add_charges` takes them; their month is found where they are written."""
    return [msgspec.to_builtins(row) for row in charges.rows(entry_id, at, told)]


async def insert(conn: AsyncConnection, tenant: str, entry_id: str, at: datetime, told: Sequence[Section]) -> None:
    """Write the lines of an entry; `at` is the entry's time, to the millisecond as the ledger writes it."""
    document = msgspec.json.encode(writing(entry_id, at, told)).decode()
    await conn.execute(_ADD, {"tenant": tenant, "charges": document})


# A dimension's column, and its name in rows: `user` is a word of SQL's own.
_OF: Final = {name: name for name in DIMENSIONS} | {
    "user": "pseudonym",
    "job": "job_id",
    "day": "to_char(charged_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
_AS: Final = {name: f"of_{name}" for name in DIMENSIONS}


async def lines(
    conn: AsyncConnection,
    tenant: str,
    *,
    month: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    job_id: str | None = None,
) -> AsyncIterator[Charged]:
    """The lines of a month, of [since, until), or of a job, in the order of their moments; streamed."""
    values = {"tenant": tenant, "month": month, "since": since, "until": until, "job": job_id}
    wanted = " AND ".join(clause for name, clause in _WANTED.items() if values[name] is not None)
    query = text(f"{_LINES}{' AND ' if wanted else ''}{wanted} ORDER BY charged_at, entry_id, line")
    async with conn.stream(query, values) as found:
        async for row in found.mappings():
            yield Charged(**row)


def spend(
    tenant: str,
    period: Period,
    *,
    by: Sequence[str],
    projects: Sequence[str] | None = None,
    only: Mapping[str, str] = _EVERYTHING,
    limit: int,
    offset: int = 0,
) -> tuple[str, dict[str, object]]:
    """The query for groups of lines by these dimensions and by currency, the dearest first; days and months in order.

    `projects` are those that may be seen (None: all, and what is of no project), `only` has the value wanted of a
    dimension. Rows are for `groups`; `job_id` is one of a person's jobs where it is by user, who is named by pseudonym.
    """
    names = _distinct(by)
    counted = "count(DISTINCT job_id)" if "meter" in names else "count(*)"
    first = "category = 'usage'" if "meter" in names else "category = 'usage' AND line = 0"
    columns = [f"{_OF[name]} AS {_AS[name]}" for name in names]
    columns += ["max(job_id) AS job_id"] if "user" in names else []
    columns += ["sum(quantity) AS quantity", "unit"] if "meter" in names else []
    keys = [*(_OF[name] for name in names), "currency", *(["unit"] if "meter" in names else [])]
    times = [str(number) for number, name in enumerate(names, 1) if name in ("month", "day")]
    rest = [str(number) for number, name in enumerate(names, 1)]
    clauses, values = _narrowed(tenant, period, projects, only)
    statement = f"""
        SELECT {", ".join(columns)}, currency, sum(amount) AS spend,
               coalesce(sum(amount) FILTER (WHERE category IN ('usage', 'shared')), 0) AS gross,
               coalesce(sum(amount) FILTER (WHERE category NOT IN ('usage', 'shared')), 0) AS credits,
               {counted} FILTER (WHERE {first}) AS jobs,
               {counted} FILTER (WHERE {first} AND ended_at IS NOT NULL) AS completed,
               sum(sum(amount)) OVER (PARTITION BY currency) AS whole
        FROM finops.charge WHERE {clauses}
        GROUP BY {", ".join(keys)}
        ORDER BY {", ".join([*times, "spend DESC", *rest, "currency"])} LIMIT %(limit)s OFFSET %(offset)s
    """
    return statement, values | {"limit": limit, "offset": offset}


def moves(
    tenant: str,
    period: Period,
    before: Period,
    *,
    by: Sequence[str],
    projects: Sequence[str] | None = None,
    only: Mapping[str, str] = _EVERYTHING,
    limit: int,
) -> tuple[str, dict[str, object]]:
    """The query for the groups whose spend differs most from the period before, in their currency, most first."""
    names = _distinct(by)
    keys = ", ".join(_AS[name] for name in names)
    now, values = _narrowed(tenant, period, projects, only)
    then, earlier = _narrowed(tenant, before, projects, only, suffix="_before")
    columns = ", ".join([*(f"{_OF[name]} AS {_AS[name]}" for name in names), "currency", "job_id", "amount"])
    one = "max(job_id) AS job_id, " if "user" in names else ""
    statement = f"""
        SELECT {keys}, currency, {one}coalesce(sum(amount) FILTER (WHERE current), 0) AS spend,
               coalesce(sum(amount) FILTER (WHERE NOT current), 0) AS before
        FROM (SELECT {columns}, true AS current FROM finops.charge WHERE {now}
              UNION ALL SELECT {columns}, false FROM finops.charge WHERE {then}) AS lines
        GROUP BY {keys}, currency
        ORDER BY abs(coalesce(sum(amount) FILTER (WHERE current), 0)
                     - coalesce(sum(amount) FILTER (WHERE NOT current), 0)) DESC, {keys}, currency
        LIMIT %(limit)s
    """
    return statement, values | earlier | {"limit": limit}


def groups(rows: Iterable[Mapping[str, Any]], by: Sequence[str]) -> list[Spend]:
    """The groups of `spend`'s rows."""
    return [
        Spend(
            {name: row[_AS[name]] for name in _distinct(by)},
            row["currency"],
            row["spend"],
            row["gross"],
            row["credits"],
            row["jobs"],
            row["completed"],
            row["whole"],
            row.get("quantity"),
            row.get("unit"),
        )
        for row in rows
    ]


def moved(rows: Iterable[Mapping[str, Any]], by: Sequence[str]) -> list[Move]:
    """The moves of `moves`' rows."""
    names = _distinct(by)
    return [
        Move({name: row[_AS[name]] for name in names}, row["currency"], row["spend"], row["before"]) for row in rows
    ]


def _distinct(by: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(by))


def _narrowed(
    tenant: str, period: Period, projects: Sequence[str] | None, only: Mapping[str, str], suffix: str = ""
) -> tuple[str, dict[str, object]]:
    bounds = {
        "first": ("month >= {}", period.first),
        "last": ("month <= {}", period.last),
        "since": ("charged_at >= {}", period.since),
        "until": ("charged_at < {}", period.until),
        "projects": ("project = ANY ({}::text[])", None if projects is None else list(projects)),
    }
    wanted = {name: (clause, value) for name, (clause, value) in bounds.items() if value is not None}
    wanted |= {f"only_{name}": (f"{_OF[name]} = {{}}", value) for name, value in only.items()}
    clauses = ["tenant = %(tenant)s", *(clause.format(f"%({name}{suffix})s") for name, (clause, _) in wanted.items())]
    return " AND ".join(clauses), {"tenant": tenant} | {f"{name}{suffix}": value for name, (_, value) in wanted.items()}


async def telling(conn: AsyncConnection, tenant: str, entries: Sequence[str]) -> frozenset[str]:
    """Those of these entries that tell of a charge."""
    return frozenset((await conn.execute(_TELLING, {"tenant": tenant, "entries": list(entries)})).scalars())


async def every(conn: AsyncConnection, tenant: str) -> dict[str, tuple[Charged, ...]]:
    """All lines that the tenant was ever charged, by entry; for the audit role (I6)."""
    found: dict[str, tuple[Charged, ...]] = {}
    async for row in lines(conn, tenant):
        found[row.entry_id] = (*found.get(row.entry_id, ()), row)
    return found


async def tenants(conn: AsyncConnection) -> list[str]:
    """Every tenant that was charged; for the audit role."""
    return list((await conn.execute(_TENANTS)).scalars())


_ADD = text("SELECT finops.add_charges(:tenant, cast(:charges AS jsonb))")
_COLUMNS = ", ".join("entry_id::text AS entry_id" if name == "entry_id" else name for name in charges.FIELDS)
_LINES = f"SELECT {_COLUMNS} FROM finops.charge WHERE tenant = :tenant"
_WANTED = {
    "month": "month = :month",
    "since": "charged_at >= :since",
    "until": "charged_at < :until",
    "job": "job_id = :job",
}
_TENANTS = text("SELECT DISTINCT tenant FROM finops.charge ORDER BY tenant")
_TELLING = text("""
    SELECT DISTINCT entry_id::text FROM finops.charge
    WHERE tenant = :tenant AND entry_id = ANY (cast(:entries AS uuid[]))""")
