# SPDX-License-Identifier: Apache-2.0
"""Whatever is asked of holds in whatever order: never oversold, never negative, nothing lost, exact (I3, I6, G7).

One machine, run twice: over the books alone, and over a real PostgreSQL whose rows are compared with them after every
step. The model is written without either: what it expects is worked out from the list of holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from control_plane.db import transaction
from finops import money, store
from finops.books import Books, BudgetSet, Share, differences, fold
from finops.budget import settlement, windows
from finops.errors import FinopsError
from finops.holds import Held, Parked, Refunded, Settled
from tests.postgres import TestDatabase

T = TypeVar("T")
D = Decimal
KINDS = (
    ("project:p", "monthly", "USD"),
    ("project:p", "rolling:2", "USD"),
    ("tenant:t", "quarterly", "USD"),
    ("user:u", "total", "USD"),
    ("provider:a", "monthly", "USD"),
    ("provider:b", "monthly", "USD"),
    ("project:p", "monthly", "shots"),
    ("user:u", "concurrent", "jobs"),
)
START = datetime(2028, 2, 28, 20, tzinfo=UTC)  # a leap day, and then the end of a month, within three days
AMOUNTS = st.one_of(
    st.sampled_from([D("0.3"), D("0.5"), D("0.999999999999"), D(1), D("1.000000000001"), D("2.5")]),
    st.decimals(min_value=0, max_value=3, places=12, allow_nan=False),
)
MOMENTS = st.integers(0, 80).map(lambda hours: START + timedelta(hours=hours))
CHOSEN = st.sets(st.integers(1, len(KINDS) - 1), max_size=5).map(lambda found: sorted(found | {0}))
JOBS = st.integers(0, 7).map("j{}".format)
SHOTS = D(100)


class Job:
    """A hold as the model has it: nothing but what was asked and how it ended."""

    def __init__(self, amount: Decimal, places: dict[int, str]) -> None:
        self.amount, self.places = amount, places
        self.state = "held"
        self.captured = self.refunded = D(0)

    def counted(self, kind: int) -> tuple[Decimal, Decimal]:
        """(held, captured) of it in one budget."""
        unit, period = KINDS[kind][2], KINDS[kind][1]
        whole = {"shots": SHOTS, "jobs": D(1)}.get(unit, self.amount)
        if self.state != "settled":
            return whole, D(0)
        if unit == "USD":
            return D(0), self.captured - self.refunded
        return D(0), D(0) if period == "concurrent" else whole


class Machine(RuleBasedStateMachine):
    """Over the books alone: what the store would decide is decided by the model, and the fold has to agree."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: dict[int, Decimal] = {}
        self.modes: dict[int, str] = {}
        self.jobs: dict[str, Job] = {}
        self.books = Books()

    @initialize(limits=st.lists(AMOUNTS, min_size=len(KINDS), max_size=len(KINDS)))
    def every_budget(self, limits: list[Decimal]) -> None:
        """All are there; any of them may be far too small."""
        for kind, limit in enumerate(limits):
            self.set(kind, limit + 1, "hard")

    @rule(
        kind=st.integers(0, len(KINDS) - 1), limit=AMOUNTS, mode=st.sampled_from(("hard", "hard", "soft", "advisory"))
    )
    def set(self, kind: int, limit: Decimal, mode: str) -> None:
        """Raise, lower, also below what is spent, or change what it stops."""
        unit = KINDS[kind][2]
        limit = {"shots": SHOTS * int(limit), "jobs": D(int(limit))}.get(unit, limit)
        mode = "hard" if kind == 0 else mode
        self.limits[kind], self.modes[kind] = limit, mode
        self.tell("budget:set", self.did_set(kind, limit, mode).body())

    @rule(job=JOBS, amount=AMOUNTS, kinds=CHOSEN, at=MOMENTS)
    def hold(self, job: str, amount: Decimal, kinds: list[int], at: datetime) -> None:
        """In all of them, or in none."""
        if job in self.jobs:
            return
        places = {kind: windows(at).of(KINDS[kind][1]) for kind in kinds}
        wanted = Job(amount, places)
        fits = all(self.room(kind, wanted.counted(kind)[0], places[kind]) for kind in kinds)
        held = self.did_hold(job, wanted, at)
        assert (held is not None) == fits
        if held is not None:
            self.jobs[job] = wanted
            self.tell("job:admission:allowed", {"hold": held.body()})

    @rule(job=JOBS, amount=AMOUNTS, kinds=CHOSEN)
    def rehold(self, job: str, amount: Decimal, kinds: list[int]) -> None:
        """Larger, smaller, elsewhere: in the windows that it has, and those of its moment."""
        had = self.jobs.get(job)
        if had is None or had.state != "held":
            return
        places = {kind: had.places.get(kind, self.window(kind)) for kind in kinds}
        wanted = Job(amount, places)
        fits = True
        for kind in kinds:
            new = wanted.counted(kind)[0]
            old = had.counted(kind)[0] if kind in had.places else None
            if old is None or new > old:
                fits = fits and self.room(kind, new - (old or 0), places[kind])
        made = self.did_rehold(job, wanted)
        assert (made is not None) == fits
        if made is not None:
            self.jobs[job] = wanted
            self.tell("job:dispatch:intended", {"rehold": made.body()})

    @rule(job=JOBS, cost=AMOUNTS)
    def settle(self, job: str, cost: Decimal) -> None:
        """Also late, after it was parked, and above what was held."""
        mine = self.jobs.get(job)
        if mine is None or mine.state == "settled":
            return
        mine.state, mine.captured = "settled", cost
        ended = self.did_settle(job, mine)
        assert ended.captured + ended.released - ended.overrun == mine.amount
        self.tell("job:outcome", {"settle": ended.body()})

    @rule(job=JOBS)
    def park(self, job: str) -> None:
        """Its outcome isn't known: it goes on counting."""
        mine = self.jobs.get(job)
        if mine is None or mine.state != "held":
            return
        mine.state = "parked"
        self.did_park(job)
        body = Parked(job, mine.amount, "USD", self.shares(mine)).body()
        self.tell("job:outcome", {"settle": body})

    @rule(job=JOBS, back=AMOUNTS)
    def refund(self, job: str, back: Decimal) -> None:
        """A negative charge, never more than was captured."""
        mine = self.jobs.get(job)
        if mine is None or mine.state != "settled" or back > mine.captured - mine.refunded:
            return
        mine.refunded += back
        self.did_refund(job, back)
        self.tell("job:refund", {"refund": Refunded(job, back, mine.refunded, "USD", self.shares(mine)).body()})

    @precondition(lambda self: bool(self.jobs))
    @rule(currency=st.sampled_from(("EUR", "XAU")), amount=AMOUNTS)
    def mix(self, currency: str, amount: Decimal) -> None:
        """Money of another currency is refused and nothing moves."""
        self.did_mix(currency, amount)

    @invariant()
    def exact(self) -> None:
        """Each balance is the sum over the holds, to the last decimal, and none is negative."""
        for kind, name in self.names().items():
            sums: dict[str, list[Decimal]] = {}
            for job in self.jobs.values():
                if kind in job.places:
                    figures = sums.setdefault(job.places[kind], [D(0), D(0)])
                    held, captured = job.counted(kind)
                    figures[0] += held
                    figures[1] += captured
            found = {window: one for (id_, window), one in self.books.balances.items() if id_ == name}
            for window, balance in found.items():
                held, captured = sums.pop(window, [D(0), D(0)])
                assert (balance.held, balance.captured) == (held, captured)
                assert balance.held >= 0
                assert balance.captured >= 0
            assert not any(held or captured for held, captured in sums.values())

    def room(self, kind: int, more: Decimal, window: str) -> bool:
        """Whether so much more fits, worked out from the holds."""
        if self.modes[kind] != "hard":
            return True
        rolling = KINDS[kind][1].startswith("rolling")
        used = D(0)
        for job in self.jobs.values():
            if kind not in job.places:
                continue
            held, captured = job.counted(kind)
            if rolling:
                since = datetime.fromisoformat(window) - timedelta(days=1)
                used += held + (captured if datetime.fromisoformat(job.places[kind]) >= since else 0)
            elif job.places[kind] == window:
                used += held + captured
        return used + more <= self.limits[kind]

    def window(self, kind: int) -> str:
        """Of the moment at which holds are made anew."""
        return windows(START).of(KINDS[kind][1])

    def names(self) -> dict[int, str]:
        """Kind → budget id."""
        by = {(one.scope, one.period, one.currency): one.budget_id for one in self.books.budgets.values()}
        return {kind: by[key] for kind, key in enumerate(KINDS)}

    def shares(self, job: Job) -> tuple[Share, ...]:
        """As entries have them."""
        names = self.names()
        return tuple(
            sorted((Share(names[kind], window) for kind, window in job.places.items()), key=lambda one: one.id)
        )

    def tell(self, kind: str, body: dict[str, Any]) -> None:
        """The entry that its caller would write."""
        fold(self.books, kind, body)

    def did_set(self, kind: int, limit: Decimal, mode: str) -> BudgetSet:
        """A body made by hand."""
        scope, period, unit = KINDS[kind]
        return BudgetSet(f"b{kind}", scope, period, money.text(limit), unit, mode)  # type: ignore[arg-type]

    def did_hold(self, job: str, wanted: Job, at: datetime) -> Held | None:
        """Granted exactly where the model has room."""
        del at
        fits = all(self.room(kind, wanted.counted(kind)[0], window) for kind, window in wanted.places.items())
        return Held(job, wanted.amount, "USD", self.shares(wanted), SHOTS) if fits else None

    def did_rehold(self, job: str, wanted: Job) -> Held | None:
        """As the model says."""
        had = self.jobs[job]
        for kind, window in wanted.places.items():
            new, old = wanted.counted(kind)[0], had.counted(kind)[0] if kind in had.places else None
            if (old is None or new > old) and not self.room(kind, new - (old or 0), window):
                return None
        return Held(job, wanted.amount, "USD", self.shares(wanted), SHOTS)

    def did_settle(self, job: str, mine: Job) -> Settled:
        """By the algebra alone."""
        ended = settlement(mine.amount, mine.captured)
        shares = self.shares(mine)
        return Settled(job, ended.captured, ended.released, ended.overrun, "USD", shares, SHOTS, D(1))

    def did_park(self, job: str) -> None:
        """Nothing but the entry."""

    def did_refund(self, job: str, back: Decimal) -> None:
        """Nothing but the entry."""

    def did_mix(self, currency: str, amount: Decimal) -> None:
        """The fold refuses such a hold, and changes nothing."""
        before = dict(self.books.balances)
        body = Held("mixed", amount, currency, (Share(self.names()[0], "2028-02"),)).body()
        with pytest.raises(FinopsError):
            fold(self.books, "job:admission:allowed", {"hold": body})
        assert self.books.balances == before


class OnPostgres(Machine):
    """Over the store: each step is a transaction, and the rows are compared with the fold after it."""

    engine: AsyncEngine
    numbers = iter(range(10**6))

    def __init__(self) -> None:
        super().__init__()
        self.tenant = f"t{next(self.numbers)}"
        self.loop = asyncio.new_event_loop()

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        """Until it is done."""
        return self.loop.run_until_complete(doing)

    def teardown(self) -> None:
        """Rows and fold agree to the last hold."""
        self.agree()
        self.loop.close()

    def agree(self) -> None:
        """I6."""

        async def rows() -> Books:
            async with transaction(self.engine, self.tenant) as conn:
                return await store.books(conn, self.tenant)

        assert differences(self.run(rows()), self.books) == []

    def did_set(self, kind: int, limit: Decimal, mode: str) -> BudgetSet:
        """By the store."""
        scope, period, unit = KINDS[kind]
        scope = f"tenant:{self.tenant}" if scope.startswith("tenant") else scope

        async def change() -> BudgetSet:
            async with transaction(self.engine, self.tenant) as conn:
                return await store.set_budget(conn, self.tenant, scope, period, limit, unit, mode=mode)

        return self.run(change())

    def names(self) -> dict[int, str]:
        """The tenant's own scope has its name."""
        by = {
            (one.scope.replace(f"tenant:{self.tenant}", "tenant:t"), one.period, one.currency): one.budget_id
            for one in self.books.budgets.values()
        }
        return {kind: by[key] for kind, key in enumerate(KINDS)}

    def did_hold(self, job: str, wanted: Job, at: datetime) -> Held | None:
        """By the store; the ids in the order that the model names them."""
        names = self.names()

        async def place() -> store.HoldResult:
            async with transaction(self.engine, self.tenant) as conn:
                ids = [names[kind] for kind in wanted.places]
                return await store.hold(conn, self.tenant, job, ids, wanted.amount, "USD", at, SHOTS)

        return self._granted(self.run(place()))

    def did_rehold(self, job: str, wanted: Job) -> Held | None:
        """By the store."""
        names = self.names()

        async def make() -> store.HoldResult:
            async with transaction(self.engine, self.tenant) as conn:
                ids = [names[kind] for kind in wanted.places]
                return await store.rehold(conn, self.tenant, job, ids, wanted.amount, "USD", START, SHOTS)

        return self._granted(self.run(make()))

    def _granted(self, result: store.HoldResult) -> Held | None:
        assert not isinstance(result, store.Missing)
        return result if isinstance(result, Held) else None

    def did_settle(self, job: str, mine: Job) -> Settled:
        """By the store."""

        async def end() -> Settled:
            async with transaction(self.engine, self.tenant) as conn:
                return await store.settle(conn, self.tenant, job, mine.captured, "USD", shots=SHOTS, jobs=D(1))

        return self.run(end())

    def did_park(self, job: str) -> None:
        """By the store."""

        async def keep() -> None:
            async with transaction(self.engine, self.tenant) as conn:
                await store.park(conn, self.tenant, job)

        self.run(keep())

    def did_refund(self, job: str, back: Decimal) -> None:
        """By the store."""

        async def give() -> None:
            async with transaction(self.engine, self.tenant) as conn:
                await store.refund(conn, self.tenant, job, back, "USD")

        self.run(give())

    def did_mix(self, currency: str, amount: Decimal) -> None:
        """By the store."""

        async def ask() -> None:
            async with transaction(self.engine, self.tenant) as conn:
                await store.hold(conn, self.tenant, "mixed", [self.names()[0]], amount, currency, START)

        with pytest.raises(FinopsError):
            self.run(ask())

    @rule()
    def look(self) -> None:
        """Rows and fold agree at any moment."""
        self.agree()


SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


def test_the_books_follow_whatever_holds_do() -> None:
    """I6: the fold alone."""
    run_state_machine_as_test(Machine, settings=settings(SETTINGS, max_examples=80, stateful_step_count=40))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_database_does_what_the_model_says(database: TestDatabase) -> None:
    """I3, I6: every answer as the model has it, and the rows as the fold."""
    engine = create_async_engine(database.app, poolclass=NullPool)

    class Bound(OnPostgres):
        pass

    Bound.engine = engine
    # Not shrunk: on a database that would take longer than a test may, and the steps found say enough.
    found = settings(SETTINGS, max_examples=10, stateful_step_count=30, phases=(Phase.generate,))
    run_state_machine_as_test(Bound, settings=found)
