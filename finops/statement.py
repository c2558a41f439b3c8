# SPDX-License-Identifier: Apache-2.0
"""A month's statement: what its charged lines come to, by whom it is borne, and the one form of the lines (G7).

Contract: `Month` is given the lines of a month, in any order but for `lines`, and tells their sums: by currency and
category, project, provider and cost centre, after the shared costs are split. Every division sums to the month's net
to the last decimal. The same lines and the same method give the same content, so whoever has the lines can compute a
statement again. `line_bytes` is a line as the statement's lines file has it; the file's SHA-256 is over those of all
lines, in the order of their moments, then entries, then numbers.

A credit, a correction or a refund is an amount below zero where it gives back. Not here: signatures, the database.
Pure: no clock, randomness, socket or database.
"""

import hashlib
import re
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from finops import money
from finops.allocation import Allocation, CostCenter, Usage, borne_by, ordered, split
from finops.charges import CATEGORIES, FIELDS, Charged, document
from finops.errors import MonthInvalid

NO_POOL: Final = "other"  # of a shared charge without a purpose
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)


class Lines(Struct, frozen=True):
    """How many lines there are, and the hash of their file."""

    count: int
    sha256: str


class Month:
    """The sums of a month's lines."""

    def __init__(self, allocation: Allocation | None) -> None:
        """`allocation` is the method in force; None leaves every pool, and what names no cost centre, unallocated."""
        self._allocation = allocation
        self._hash = hashlib.sha256()
        self._count = 0
        self._categories: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._projects: dict[tuple[str, str | None], Decimal] = defaultdict(Decimal)
        self._providers: dict[tuple[str, str | None], Decimal] = defaultdict(Decimal)
        self._direct: dict[tuple[str, CostCenter, str], Decimal] = defaultdict(Decimal)
        self._pools: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._usage: dict[str, dict[CostCenter, Usage]] = defaultdict(lambda: defaultdict(Usage))
        self._cards: set[str] = set()

    def add(self, row: Charged) -> bytes:
        """Count a line; its bytes in the lines file."""
        written = line_bytes(row)
        self._hash.update(written)
        self._count += 1
        currency, category, amount = row.currency, row.category, row.amount
        borne = borne_by(self._allocation, row.cost_center, row.project)
        with money.exact():
            self._categories[currency, category] += amount
            self._projects[currency, row.project] += amount
            self._providers[currency, row.provider] += amount
            if category == "shared":
                self._pools[currency, row.purpose or NO_POOL] += amount
                return written
            self._direct[currency, borne, category] += amount
            if category == "usage":
                used = self._usage[currency][borne]
                used.spend += amount
                used.jobs += row.line == 0  # the first line of its job's end
                if row.meter == "shots" and row.quantity is not None:
                    used.shots += row.quantity
        if row.rate_card is not None:
            self._cards.add(row.rate_card)
        return written

    def lines(self) -> Lines:
        """Of the lines added so far, in their order."""
        return Lines(self._count, "sha256:" + self._hash.hexdigest())

    def content(self) -> dict[str, Any]:
        """The statement's members that follow from the lines and the method alone, as JSON values."""
        pools = self._split()
        return {
            "lines": msgspec.to_builtins(self.lines()),
            "totals": self._totals(),
            "projects": _spent(self._projects),
            "providers": _spent(self._providers),
            "cost_centers": self._borne(pools),
            "pools": pools,
            "rate_cards": sorted(self._cards),
        }

    def _split(self) -> list[dict[str, Any]]:
        pools = []
        for currency, pool in sorted(self._pools):
            amount = self._pools[currency, pool]
            parts = split(self._allocation, pool, amount, self._usage.get(currency, {}))
            rule = None if self._allocation is None else self._allocation.rule(pool)
            shares = [
                {"cost_center": p.cost_center, "weight": money.text(p.weight), "amount": money.text(p.amount)}
                for p in parts
            ]
            by = None if rule is None else rule.by
            pools.append({"pool": pool, "currency": currency, "by": by, "amount": money.text(amount), "shares": shares})
        return pools

    def _totals(self) -> list[dict[str, str]]:
        return [
            {"currency": currency, **_columns({c: self._categories.get((currency, c), money.ZERO) for c in CATEGORIES})}
            for currency in sorted({currency for currency, _ in self._categories})
        ]

    def _borne(self, pools: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: dict[tuple[str, CostCenter], dict[str, Decimal]] = {}
        for (currency, name, category), amount in self._direct.items():
            found.setdefault((currency, name), dict.fromkeys(CATEGORIES, money.ZERO))[category] = amount
        for pool in pools:
            for share in pool["shares"]:
                row = found.setdefault((pool["currency"], share["cost_center"]), dict.fromkeys(CATEGORIES, money.ZERO))
                row["shared"] = money.total((row["shared"], Decimal(share["amount"])))
        return [
            {"cost_center": name, "currency": currency, **_columns(found[currency, name])}
            for currency in sorted({currency for currency, _ in found})
            for name in ordered(name for where, name in found if where == currency)
        ]


def line_bytes(row: Charged) -> bytes:
    """The line as the lines file has it: canonical JSON, and a line feed."""
    return _encode(dict(zip(FIELDS, document(row), strict=True))) + b"\n"


def place(row: Charged) -> tuple[datetime, str, int]:
    """Where a line stands in the file: after all lines of a lesser place."""
    return row.charged_at, row.entry_id, row.line


def read_line(data: bytes) -> Charged:
    """The line of such bytes; MonthInvalid for any other bytes."""
    try:
        row = msgspec.json.decode(data, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MonthInvalid(f"not a line of a statement: {error}", field="lines") from error
    found = Charged(**{name: getattr(row, name) for name in FIELDS})
    if line_bytes(found) != data:
        raise MonthInvalid("a line in another form than a statement has", field="lines")
    return found


def month_span(month: str) -> tuple[datetime, datetime]:
    """Its first moment and the first after it, UTC; MonthInvalid unless it is written YYYY-MM."""
    if not _MONTH.fullmatch(month) or month < "0001":
        raise MonthInvalid("want a month, YYYY-MM", field="month")
    year, number = int(month[:4]), int(month[5:])
    if not 1970 <= year <= 9998:  # what a plane can have charged in, and whose end is a time
        raise MonthInvalid("want a month, YYYY-MM", field="month")
    after = (year, number + 1) if number < 12 else (year + 1, 1)
    return datetime(year, number, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC)


def sums_agree(content: dict[str, Any]) -> str:
    """That every division of a statement sums to its totals; raises MonthInvalid naming the first that doesn't."""
    nets = {one["currency"]: one for one in content["totals"]}
    if len(nets) != len(content["totals"]):
        raise MonthInvalid("a currency twice", field="totals")
    for one in content["totals"] + content["cost_centers"]:
        if money.total(Decimal(one[name]) for name in CATEGORIES) != Decimal(one["net"]):
            raise MonthInvalid(f"{one['currency']}: the categories are not the net", field="net")
    for member, column in (("projects", "amount"), ("providers", "amount"), ("cost_centers", "net")):
        _agree(member, nets, "net", [(one["currency"], one[column]) for one in content[member]])
    for category in CATEGORIES:
        borne = [(one["currency"], one[category]) for one in content["cost_centers"]]
        _agree(f"cost_centers.{category}", nets, category, borne)
    _agree("pools", nets, "shared", [(one["currency"], one["amount"]) for one in content["pools"]])
    for pool in content["pools"]:
        if money.total(Decimal(share["amount"]) for share in pool["shares"]) != Decimal(pool["amount"]):
            raise MonthInvalid(f"pool {pool['pool']}: its shares are not its amount", field="pools")
    return ", ".join(f"{money.text(Decimal(one['net']))} {name}" for name, one in sorted(nets.items())) or "nothing"


def _agree(member: str, nets: dict[str, Any], column: str, parts: list[tuple[str, str]]) -> None:
    sums: dict[str, Decimal] = dict.fromkeys(nets, money.ZERO)
    for currency, amount in parts:
        if currency not in sums:
            raise MonthInvalid(f"{currency}, which is in no total", field=member)
        sums[currency] = money.total((sums[currency], Decimal(amount)))
    for currency, summed in sums.items():
        if summed != Decimal(nets[currency][column]):
            said = f"sums to {money.text(summed)} {currency}, the total is {nets[currency][column]}"
            raise MonthInvalid(said, field=member)


def _columns(amounts: dict[str, Decimal]) -> dict[str, str]:
    return {
        **{name: money.text(amounts[name]) for name in CATEGORIES},
        "net": money.text(money.total(amounts.values())),
    }


def _spent(amounts: dict[tuple[str, str | None], Decimal]) -> list[dict[str, Any]]:
    return [
        {"name": name, "currency": currency, "amount": money.text(amounts[currency, name])}
        for currency in sorted({currency for currency, _ in amounts})
        for name in ordered(name for where, name in amounts if where == currency)
    ]


class _Line(Charged, frozen=True, forbid_unknown_fields=True):
    """A line of a file: each member once, and no other."""


_encode = msgspec.json.Encoder(order="sorted").encode
