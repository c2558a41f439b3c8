# SPDX-License-Identifier: Apache-2.0
"""Allocation: which cost centre bears what of a month, shared costs included (G7).

Contract: a method is a JSON document with a version, a name and a revision; its hash is SHA-256 over its canonical
form, so a statement that names it can be computed again. A charge goes to its own cost centre; without one to the
default that the method has for its project; else it stays unallocated (cost centre null), shown and never hidden.

A shared charge belongs to a pool (its `purpose`). Each pool has one rule, or that of pool "*"; a pool without a rule
stays unallocated. A rule splits in proportion to `spend`, `shots` or `jobs` of the month's usage in the pool's own
currency, by fixed `ratios` which sum to exactly one, or `even`; among the cost centres that it names, else those that
used something. Where there is nothing to go by (no usage at all), the pool stays unallocated.

`split` is exact: whole quanta by weight, the rest by largest remainder, ties by the cost centre's bytes; the parts sum
to the amount, whatever the order of the input. What is unallocated takes its part in proportion, none of `even`.
A quantum is the method's precision, or the amount's own last digit where that is finer. Pure: no clock, randomness,
socket or database.
"""

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from finops import money
from finops.errors import AllocationInvalid, AmountInvalid

MAX_METHOD_BYTES: Final = 40_000  # the entry that tells of it holds all of it
ANY_POOL: Final = "*"
By: TypeAlias = Literal["spend", "shots", "jobs", "fixed", "even"]
CostCenter: TypeAlias = str | None
"""None is what nobody bears yet: unallocated."""

_PRECISIONS: Final = frozenset(money.text(Decimal(1).scaleb(-places)) for places in range(money.DECIMALS + 1))
_Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
_SCALE: Final = 10**money.DECIMALS


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """How one pool is split; `ratios` for `fixed` alone, `among` for any other."""

    pool: _Name
    by: By
    ratios: dict[_Name, str] | None = None
    among: Annotated[tuple[_Name, ...], Meta(min_length=1, max_length=1000)] | None = None


class Method(Struct, frozen=True, forbid_unknown_fields=True):
    """The document, version 1. `defaults` has the cost centre of a project's charges that name none."""

    version: Literal[1]
    name: _Name
    revision: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    rules: Annotated[tuple[Rule, ...], Meta(max_length=100)]
    precision: str = "0.01"
    defaults: dict[_Name, _Name] = {}


class Allocation(Struct, frozen=True):
    """A checked method, the canonical bytes that `hash` covers, and the hash."""

    method: Method
    document: bytes
    hash: str

    def rule(self, pool: str) -> Rule | None:
        """The rule of a pool: its own, else that of "*", else none."""
        rules = {rule.pool: rule for rule in self.method.rules}
        return rules.get(pool) or rules.get(ANY_POOL)


class Usage(Struct):
    """What the usage of one cost centre comes to in one currency."""

    spend: Decimal = money.ZERO
    shots: Decimal = money.ZERO
    jobs: int = 0

    def weight(self, by: By) -> Decimal:
        """What a proportional rule goes by."""
        return {"spend": self.spend, "shots": self.shots, "jobs": Decimal(self.jobs)}[by]


class Part(Struct, frozen=True):
    """What one cost centre bears of a pool: `amount` for `weight` of all weights."""

    cost_center: CostCenter
    weight: Decimal
    amount: Decimal


def parse_method(data: bytes) -> Allocation:
    """Read and check a method; raises AllocationInvalid with the path of the field at fault."""
    if len(data) > MAX_METHOD_BYTES:
        raise AllocationInvalid(f"larger than {MAX_METHOD_BYTES} bytes")
    try:
        method = msgspec.json.decode(data, type=Method)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail, _, path = str(error).partition(" - at ")
        raise AllocationInvalid(detail, field=path.strip("`") or None) from error
    if method.precision not in _PRECISIONS:
        raise AllocationInvalid("want 1, 0.1, … with at most 12 decimals", field="$.precision")
    pools: set[str] = set()
    for number, rule in enumerate(method.rules):
        path = f"$.rules[{number}]"
        if rule.pool in pools:
            raise AllocationInvalid(f"a second rule for pool {rule.pool}", field=path)
        pools.add(rule.pool)
        _check(rule, path)
    document = msgspec.json.encode(method, order="sorted")
    return Allocation(method, document, "sha256:" + hashlib.sha256(document).hexdigest())


def borne_by(allocation: Allocation | None, cost_center: CostCenter, project: str | None) -> CostCenter:
    """The cost centre of a charge: its own, its project's default, or none."""
    if cost_center is not None or allocation is None or project is None:
        return cost_center
    return allocation.method.defaults.get(project)


def split(
    allocation: Allocation | None, pool: str, amount: Decimal, usage: Mapping[CostCenter, Usage]
) -> tuple[Part, ...]:
    """Who bears what of a pool, in the order of their names; the parts sum to the amount exactly.

    `usage` is that of each cost centre in the pool's currency. What can't be split is one part of nobody's.
    """
    rule = None if allocation is None else allocation.rule(pool)
    weights = {} if rule is None else _weights(rule, usage)
    if allocation is None or not any(weights.values()):
        return (Part(None, Decimal(1), amount),)
    return apportion(amount, weights, Decimal(allocation.method.precision))


def apportion(amount: Decimal, weights: Mapping[CostCenter, Decimal], precision: Decimal) -> tuple[Part, ...]:
    """The amount in whole quanta by weight, what is left over by largest remainder, ties by name.

    A negative amount is split as the positive one, with its sign. Weights are never negative, and not all zero.
    """
    exponent = amount.normalize().as_tuple().exponent
    finest = min(-exponent if isinstance(exponent, int) and exponent < 0 else 0, money.DECIMALS)
    quantum = min(precision, Decimal(1).scaleb(-finest))
    names = sorted(weights, key=_order)
    with money.exact():
        whole = {name: int(weights[name] * _SCALE) for name in names}
        quanta, of = int(abs(amount) / quantum), sum(whole.values())
        shares = {name: quanta * whole[name] // of for name in names}
        rest = quanta - sum(shares.values())
        largest = sorted(names, key=lambda name: (-(quanta * whole[name] % of), *_order(name)))
        for name in largest[:rest]:
            shares[name] += 1
        sign = -1 if amount < 0 else 1
        return tuple(Part(name, weights[name], sign * shares[name] * quantum) for name in names)


def _weights(rule: Rule, usage: Mapping[CostCenter, Usage]) -> dict[CostCenter, Decimal]:
    if rule.by == "fixed":
        return {name: Decimal(ratio) for name, ratio in (rule.ratios or {}).items()}
    among: Iterable[CostCenter] = usage if rule.among is None else rule.among
    if rule.by == "even":
        return dict.fromkeys((name for name in among if name is not None), Decimal(1))
    return {name: usage[name].weight(rule.by) if name in usage else money.ZERO for name in among}


def _check(rule: Rule, path: str) -> None:
    if (rule.by == "fixed") != (rule.ratios is not None):
        raise AllocationInvalid("ratios belong to a fixed rule, and it needs them", field=f"{path}.ratios")
    if rule.by == "fixed" and rule.among is not None:
        raise AllocationInvalid("a fixed rule's ratios say among whom", field=f"{path}.among")
    if rule.among is not None and len(set(rule.among)) < len(rule.among):
        raise AllocationInvalid("a cost centre twice", field=f"{path}.among")
    if rule.ratios is None:
        return
    try:
        ratios = [money.parse(ratio, f"{path}.ratios.{name}") for name, ratio in rule.ratios.items()]
    except AmountInvalid as error:
        raise AllocationInvalid(error.detail, field=error.field) from error
    missing = money.total((Decimal(1), *(-ratio for ratio in ratios)))
    if missing:
        side = "short of" if missing > 0 else "above"
        said = f"the ratios sum to {money.text(money.total(ratios))}, {money.text(abs(missing))} {side} one"
        raise AllocationInvalid(said, field=f"{path}.ratios")


def _order(name: CostCenter) -> tuple[bool, bytes]:
    """By bytes, what is nobody's last: one order on every machine."""
    return name is None, (name or "").encode()


def ordered(names: Iterable[CostCenter]) -> list[Any]:
    """Cost centres in the order of every report."""
    return sorted(names, key=_order)
