# SPDX-License-Identifier: Apache-2.0
"""What a job will probably cost on the backends that may run it, by the tenant's own last jobs (G7, I7).

Enters rows of `store.past` and candidates with their bounds; leaves a `finops.estimate.Estimate`, and how it is
written. It binds nobody: what is held is the bound, what is charged is measured. Pure but for what it remembers of
pure functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from msgspec import Struct

from control_plane.compare.statistics import wilson
from finops import money
from finops.errors import FinopsError
from finops.estimate import COVERAGE, Estimate, Priced, Prior, Run, Work, best, estimate, learned, over, share
from finops.facts import fact
from finops.rates import RateCard, charge

Sold: TypeAlias = tuple[str, str, str | None]
"""Provider, device, and what the device is sold as."""

REMEMBERED = 16_384
_certain: dict[tuple[object, ...], Decimal | None] = {}


class Learned(Struct, frozen=True):
    """What the tenant's jobs say of each backend, and of all of a provider's."""

    backends: Mapping[str, Prior] = {}
    providers: Mapping[str, Prior] = {}
    known: dict[tuple[object, ...], Estimate | None] = {}
    """Estimates that were made of it: most jobs are like one before."""

    def prior(self, backend: str, provider: str) -> Prior:
        """What a job on this backend is judged by."""
        return best(self.backends.get(backend), self.providers.get(provider))


class Outlook(Struct, frozen=True):
    """The estimates of one job, by backend; `told` is that over all of them, as it is shown and kept with the job."""

    work: Work
    currency: str
    estimates: Mapping[str, Estimate]
    told: dict[str, Any]

    def within(self, backends: Iterable[str], expected: str | None) -> Outlook | None:
        """What is left of it where only these backends may run the job; None where it tells of none of them."""
        left = {name: self.estimates[name] for name in backends if name in self.estimates}
        return _outlook(self.work, self.currency, left, expected)


def _outlook(work: Work, currency: str, estimates: Mapping[str, Estimate], expected: str | None) -> Outlook | None:
    if expected is None or expected not in estimates:
        return None
    one = over(estimates, expected)
    told = {
        "amount": money.text(one.amount),
        "low": money.text(one.low),
        "high": money.text(one.high),
        "currency": currency,
        "coverage": money.text(one.coverage),
        "basis": {"jobs": one.jobs, "of": one.of, "drift": one.drift},
        "backend": expected,
        "work": {"executions": work.executions, "tasks": work.tasks, "qubits": work.qubits},
    }
    return Outlook(work, currency, estimates, told)


def certain(card: RateCard, sold: Sold, executions: int, tasks: int) -> Decimal | None:
    """The charge of tasks and shots alone, which nothing that happens can change; None where there is no price."""
    key = card.hash, sold, executions, tasks
    if key not in _certain:
        if len(_certain) >= REMEMBERED:
            _certain.clear()
        provider, device, sku = sold
        known = [
            fact("tasks", Decimal(tasks), "measured", "plane"),
            fact("shots", Decimal(executions), "measured", "plane"),
        ]
        try:
            _certain[key] = charge(card, provider, known, device, sku).amount
        except FinopsError:
            _certain[key] = None
    return _certain[key]


def priced(card: RateCard, sold: Sold, work: Work, bound: Decimal) -> Priced | None:
    """The price of such a job there before it runs."""
    least = certain(card, sold, work.executions, work.tasks)
    return None if least is None else Priced(least, bound, Decimal(card.card.precision))


def look_ahead(
    bounds: Mapping[str, Decimal],
    sold: Mapping[str, Sold],
    cards: Mapping[str, RateCard],
    work: Work,
    learned: Learned,
    first: str,
) -> Outlook | None:
    """The outlook of a job that may cost so much at most on each of these backends, each by its card.

    All cards are of one currency; `first` is where the job would go.
    """
    found = {}
    for name, bound in bounds.items():
        card = cards[name]
        key = name, card.hash, bound, work
        if key not in learned.known:
            if len(learned.known) >= REMEMBERED:
                learned.known.clear()
            price = priced(card, sold[name], work, bound)
            prior = learned.prior(name, sold[name][0])
            learned.known[key] = estimate(prior, price, work) if price is not None else None
        one = learned.known[key]
        if one is not None:
            found[name] = one
    return _outlook(work, cards[first].currency, found, first)


def learn(rows: Iterable[Mapping[str, Any]], sold: Mapping[str, Sold], cards: Mapping[str, RateCard]) -> Learned:
    """What ended jobs teach, newest first; those that have no estimate of their own tell too little."""
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    wide: defaultdict[str, list[Run]] = defaultdict(list)
    kept: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        told, backend = row["estimate"], row["backend"]
        if told is None or row["cost"] is None or row["bound"] is None or backend not in sold:
            continue
        if Decimal(told["low"]) < Decimal(told["high"]):
            kept[backend].append(inside(told, row["cost"]))
        work = Work(row["executions"], told["work"]["tasks"], told["work"]["qubits"])
        card = cards.get(row["rate_card"])
        least = certain(card, sold[backend], work.executions, work.tasks) if card is not None else None
        part = share(row["cost"], least, Decimal(row["bound"])) if least is not None else None
        if part is not None:
            run = Run(work, part)
            runs[backend].append(run)
            wide[sold[backend][0]].append(run)
    drifted = {name for name, hits in kept.items() if drifts(sum(hits), len(hits))}
    return Learned(
        {name: learned(found, "backend", drift=name in drifted) for name, found in runs.items()},
        {name: learned(found, "provider") for name, found in wide.items()},
    )


def inside(told: Mapping[str, Any], charged: Decimal) -> bool:
    """Whether the charge fell into the interval that its job was given."""
    return Decimal(told["low"]) <= charged <= Decimal(told["high"])


def drifts(hits: int, jobs: int) -> bool:
    """Whether so few of so many charges fell into their intervals that chance hardly explains it."""
    return wilson(hits, jobs)[1] < COVERAGE


def parties(rows: Iterable[Any]) -> dict[str, Sold]:
    """What each backend of the registry is priced by."""
    return {row["id"]: (row["provider"], row["id"], (row["capability"] or {}).get("sku")) for row in rows}
