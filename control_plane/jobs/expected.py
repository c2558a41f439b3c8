# SPDX-License-Identifier: Apache-2.0
"""What a job will probably cost on the backends that may run it, by the tenant's own last jobs (G7, I7).

Enters rows of `store.past` and candidates with their bounds; leaves a `finops.estimate.Estimate`, and how it is
written. It binds nobody: what is held is the bound, what is charged is measured. Jobs that another card billed by other
meters teach nothing of this one's: only pasts of one billing form are put together. Pure but for what it remembers of
pure functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from control_plane.compare.statistics import wilson
from finops import money
from finops.card import JOB, Line
from finops.errors import FinopsError
from finops.estimate import COVERAGE, Estimate, Priced, Prior, Run, Work, best, estimate, learned, over, share
from finops.facts import fact
from finops.rates import RateCard, charge
from finops.reading import COMPILED

Sold: TypeAlias = tuple[str, str, str | None]
"""Provider, device, and what the device is sold as."""

Form: TypeAlias = tuple[Line, ...]
"""The lines of a card whose charge tasks and shots don't tell."""

REMEMBERED = 16_384
_KNOWN = frozenset({JOB, "tasks", "shots", "mitigated_tasks"})
_forms: dict[tuple[object, ...], Form] = {}
_certain: dict[tuple[object, ...], Decimal | None] = {}


class Learned(Struct, frozen=True):
    """What the tenant's jobs say of each backend, and of all of a provider's, billed in this form."""

    backends: Mapping[tuple[str, Form], Prior] = {}
    providers: Mapping[tuple[str, Form], Prior] = {}
    known: dict[tuple[object, ...], Estimate | None] = {}
    """Estimates that were made of it: most jobs are like one before."""

    def prior(self, backend: str, provider: str, form: Form) -> Prior:
        """What a job on this backend is judged by."""
        return best(self.backends.get((backend, form)), self.providers.get((provider, form)))


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


def form(card: RateCard, sold: Sold) -> Form:
    """How the card bills what varies there: the share of a job's room means the same under one form alone.

    Of a single line the rate doesn't matter: the room is in its proportion. Empty where there is no price.
    """
    key = card.hash, sold
    if key not in _forms:
        if len(_forms) >= REMEMBERED:
            _forms.clear()
        try:
            lines = card.lines(*sold)
        except FinopsError:
            lines = ()
        varying = tuple(line for line in lines if not ({one.of for one in line.quantity} or {line.meter}) <= _KNOWN)
        _forms[key] = tuple(replace(line, rate=None) for line in varying) if len(varying) == 1 else varying
    return _forms[key]


def _counted(card: RateCard, sold: Sold) -> list[str]:
    """The meters that compiling tells of any job that the card bounds: those of lines without a cap."""
    uncapped = [line for line in card.price(*sold).lines if not line.cap]
    meters = {of for line in uncapped for of in ({term.of for term in line.quantity} or {line.meter})}
    return sorted((meters & COMPILED) - _KNOWN)


def certain(card: RateCard, sold: Sold, executions: int, tasks: int) -> Decimal | None:
    """The charge of tasks and shots alone, which nothing that happens can change; None where there is no price.

    What compiling will count is nothing at least: a fee or a minimum beside gates is certain.
    """
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
            known += [fact(meter, Decimal(0), "measured", "plane") for meter in _counted(card, sold)]
            _certain[key] = charge(card, provider, known, device, sku, alike=True).amount
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
            prior = learned.prior(name, sold[name][0], form(card, sold[name]))
            learned.known[key] = estimate(prior, price, work) if price is not None else None
        one = learned.known[key]
        if one is not None:
            found[name] = one
    return _outlook(work, cards[first].currency, found, first)


def learn(rows: Iterable[Mapping[str, Any]], sold: Mapping[str, Sold], cards: Mapping[str, RateCard]) -> Learned:
    """What ended jobs teach, newest first; those that have no estimate of their own tell too little."""
    runs: defaultdict[tuple[str, Form], list[Run]] = defaultdict(list)
    wide: defaultdict[tuple[str, Form], list[Run]] = defaultdict(list)
    kept: defaultdict[tuple[str, Form], list[bool]] = defaultdict(list)
    for row in rows:
        told, backend, card = row["estimate"], row["backend"], cards.get(row["rate_card"])
        if told is None or row["cost"] is None or row["bound"] is None or backend not in sold or card is None:
            continue
        billed = form(card, sold[backend])
        if Decimal(told["low"]) < Decimal(told["high"]):
            kept[backend, billed].append(inside(told, row["cost"]))
        work = Work(row["executions"], told["work"]["tasks"], told["work"]["qubits"])
        least = certain(card, sold[backend], work.executions, work.tasks)
        part = share(row["cost"], least, Decimal(row["bound"])) if least is not None else None
        if part is not None:
            run = Run(work, part)
            runs[backend, billed].append(run)
            wide[sold[backend][0], billed].append(run)
    drifted = {of for of, hits in kept.items() if drifts(sum(hits), len(hits))}
    return Learned(
        {of: learned(found, "backend", drift=of in drifted) for of, found in runs.items()},
        {of: learned(found, "provider") for of, found in wide.items()},
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
