# SPDX-License-Identifier: Apache-2.0
"""Alerts of budgets: each crossing once, with the change that crossed or not at all, told until somebody heard (G7)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import finops.store
from control_plane import seed
from control_plane.db import engine as make_engine
from control_plane.db import transaction
from control_plane.notices import alerts, store
from control_plane.notices.courier import Courier
from control_plane.notices.targets import NotifyFacts
from control_plane.sealing import utc_now
from finops import alert_store
from finops.errors import BudgetInvalid
from tests.control_plane.jobs.conftest import desk, driver, pdp
from tests.control_plane.jobs.desk import Desk, bell
from tests.control_plane.test_notices import SECRET, Receiver, receiver, soon
from tests.fakes import FakeDriver

__all__ = ["desk", "driver", "pdp", "receiver"]

D = Decimal
PROJECT = "project:demo"


async def limit(desk: Desk, amount: str, scope: str = PROJECT, **more: Any) -> str:
    """Set a budget, told by an entry as the API tells it; its id."""
    period = more.pop("period", "monthly")
    async with desk.plane.transaction("demo") as conn:
        unit = more.pop("unit", "USD")
        changed = await finops.store.set_budget(conn, "demo", scope, period, D(amount), unit, **more)
        await seed._tell(conn, "demo", "budget:set", changed.body())
    return changed.budget_id


async def spend(desk: Desk, job: str, held: str, captured: str, budget: str, at: dt.datetime | None = None) -> None:
    """One job's hold and end, without a job."""
    async with desk.plane.transaction("demo") as conn:
        await finops.store.hold(conn, "demo", job, await both(desk, budget), D(held), "USD", at or utc_now())
    async with desk.plane.transaction("demo") as conn:
        await finops.store.settle(conn, "demo", job, D(captured))


async def both(desk: Desk, budget: str) -> list[str]:
    """The budget, and the project's, without which nothing is held."""
    (project,) = desk.sql("SELECT budget_id FROM finops.budget WHERE tenant = 'demo' AND scope = 'project:demo'")[0]
    return sorted({budget or project, project})


def raised(desk: Desk, scope: str = PROJECT) -> list[tuple[str, int, str, str]]:
    """(kind, threshold, captured, window) of the alerts of a budget, in their order."""
    rows = desk.sql(
        "SELECT kind, threshold, trim_scale(captured)::text, window_key FROM finops.alert WHERE scope = %s"
        " ORDER BY at, kind, threshold",
        scope,
    )
    return [(str(kind), int(threshold), str(captured), str(window)) for kind, threshold, captured, window in rows]


def kinds(desk: Desk, scope: str = PROJECT) -> list[tuple[str, int]]:
    return [(kind, threshold) for kind, threshold, _, _ in raised(desk, scope)]


@contextlib.asynccontextmanager
async def telling(desk: Desk, receiver: Receiver, folder: Path, **more: Any) -> AsyncIterator[Courier]:
    """The desk's plane with one table that hears of budgets, and its courier."""
    (folder / "secret").write_bytes(SECRET)
    facts = NotifyFacts("finance", receiver.url, str(folder / "secret"), **{"tries": 3, "budgets": True} | more)
    desk.plane = dataclasses.replace(desk.plane, settings=replace(desk.plane.settings, notify=(facts,)))
    made = Courier(desk.plane)
    try:
        yield made
    finally:
        await made.close()


async def test_each_threshold_alerts_once_a_window(desk: Desk) -> None:
    """Found in the transaction that crosses: nothing below, each threshold at its amount, none twice."""
    budget = await limit(desk, "100", "cost_center:cc", mode="soft", thresholds=(50, 80))
    await spend(desk, "a", "50", "49.99", budget)
    assert kinds(desk, "cost_center:cc") == []
    await spend(desk, "b", "0.01", "0.01", budget)
    assert raised(desk, "cost_center:cc")[0][:3] == ("spent", 50, "50")
    await spend(desk, "c", "1", "1", budget)
    await spend(desk, "d", "40", "40", budget)
    await spend(desk, "e", "20", "20", budget)
    await spend(desk, "f", "20", "20", budget)
    assert kinds(desk, "cost_center:cc") == [("spent", 50), ("spent", 80), ("exceeded", 100)]


async def test_a_hard_budget_alerts_when_it_is_committed_too(desk: Desk) -> None:
    """Held and captured is what stops the next job: it is told before it is spent."""
    await limit(desk, "1", thresholds=(40, 100))
    await desk.admitted()  # holds 0.52
    assert raised(desk)[0][:3] == ("committed", 40, "0")
    assert kinds(desk) == [("committed", 40)]
    budget = (await both(desk, ""))[0]
    await spend(desk, "a", "0.1", "0.1", budget)  # what is captured is told as that alone
    await limit(desk, "0.2", thresholds=(30,))
    assert ("spent", 30) in kinds(desk)
    assert ("committed", 30) not in kinds(desk)


async def test_an_alert_is_undone_with_its_transaction(desk: Desk) -> None:
    """Never told of what didn't happen."""
    budget = await limit(desk, "10", "cost_center:cc", mode="advisory")
    ids = await both(desk, budget)
    with contextlib.suppress(RuntimeError):
        async with desk.plane.transaction("demo") as conn:
            await finops.store.hold(conn, "demo", "a", ids, D(9), "USD", utc_now())
            await finops.store.settle(conn, "demo", "a", D(9))
            raise RuntimeError
    assert kinds(desk, "cost_center:cc") == []
    await spend(desk, "a", "9", "9", budget)
    assert kinds(desk, "cost_center:cc") == [("spent", 80)]


async def test_at_any_concurrency_each_threshold_alerts_once(desk: Desk) -> None:
    """Twenty jobs end at once: one alert a threshold, and the sum that it names reached it."""
    budget = await limit(desk, "10", "cost_center:cc", mode="soft", thresholds=(25, 50, 100))
    await asyncio.gather(*(spend(desk, f"j{number}", "0.5", "0.5", budget) for number in range(20)))
    found = raised(desk, "cost_center:cc")
    assert sorted((kind, threshold) for kind, threshold, *_ in found) == [("spent", 25), ("spent", 50), ("spent", 100)]
    assert all(D(captured) * 100 >= 10 * threshold for _, threshold, captured, _ in found)


async def test_a_raised_limit_arms_again_and_a_lowered_one_alerts(desk: Desk) -> None:
    """What is out of reach again may fire again; a limit below what is spent is told at once."""
    budget = await limit(desk, "10", "cost_center:cc", mode="soft", thresholds=(80,))
    await spend(desk, "a", "8", "8", budget)
    assert kinds(desk, "cost_center:cc") == [("spent", 80)]
    await limit(desk, "20", "cost_center:cc")
    await spend(desk, "b", "7", "7", budget)
    assert kinds(desk, "cost_center:cc") == [("spent", 80)]
    await spend(desk, "c", "1", "1", budget)
    assert kinds(desk, "cost_center:cc") == [("spent", 80)] * 2
    await limit(desk, "15", "cost_center:cc")
    assert kinds(desk, "cost_center:cc")[2:] == [("lowered", 100)]
    await spend(desk, "d", "1", "1", budget)
    assert len(kinds(desk, "cost_center:cc")) == 3


async def test_a_new_window_starts_anew_and_a_late_end_alerts_for_its_own(desk: Desk) -> None:
    """A job counts, and alerts, in the month in which it was admitted; months are UTC's, leap days too."""
    budget = await limit(desk, "10", "cost_center:cc", mode="soft", thresholds=(50,))
    may = dt.datetime(2028, 2, 29, 23, 59, 59, tzinfo=dt.UTC)
    june = may + dt.timedelta(seconds=1)
    ids = await both(desk, budget)
    async with desk.plane.transaction("demo") as conn:
        await finops.store.hold(conn, "demo", "late", ids, D(6), "USD", may)
    await spend(desk, "new", "6", "6", budget, june)
    async with desk.plane.transaction("demo") as conn:
        await finops.store.settle(conn, "demo", "late", D(6))
    windows = [(kind, window) for kind, _, _, window in raised(desk, "cost_center:cc")]
    assert windows == [("spent", "2028-03"), ("spent", "2028-02")]


async def test_a_rolling_budget_alerts_once_in_its_days(desk: Desk) -> None:
    """Its figures are sums over days: tomorrow's job doesn't tell again what today's told."""
    budget = await limit(desk, "10", "cost_center:cc", mode="soft", thresholds=(50,), period="rolling:3")
    start = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
    for day in range(7):
        await spend(desk, f"d{day}", "2", "2", budget, start + dt.timedelta(days=day))
    found = [(kind, captured, window) for kind, _, captured, window in raised(desk, "cost_center:cc")]
    assert found == [("spent", "6", "2026-05-03"), ("spent", "6", "2026-05-06")]


async def test_an_overrun_and_a_refusal_are_told_once(desk: Desk, driver: FakeDriver) -> None:
    """One job more than its hold; one alert a day for the jobs that a budget refused, not one a job."""
    budget = await limit(desk, "10", "cost_center:cc", mode="soft", thresholds=())
    await spend(desk, "a", "1", "2", budget)
    assert raised(desk, "cost_center:cc")[0][:2] == ("overrun", 0)
    await limit(desk, "0.1", thresholds=())
    for _ in range(3):
        denied = await desk.submit()
        assert denied.problem == "budget_exceeded"
    assert [kind for kind, _ in kinds(desk)] == ["overrun", "lowered", "refused"]


async def test_a_quota_of_shots_alerts_in_shots(desk: Desk) -> None:
    await limit(desk, "1500", unit="shots", thresholds=(50,))
    await desk.submit(bell())
    rows = desk.sql("SELECT kind, unit, held::text FROM finops.alert")
    assert rows == [("committed", "shots", "1000")]


async def test_an_alert_is_an_entry_and_a_signed_notice(desk: Desk, receiver: Receiver, tmp_path: Path) -> None:
    """The ledger tells that it fired and that it was heard; the fold isn't confused (I6)."""
    await limit(desk, "1", thresholds=(40,))
    async with telling(desk, receiver, tmp_path) as courier:
        await desk.admitted()
        await courier.step()
        await courier.step()
    ((fields, body),) = receiver.got
    said = json.loads(body)
    assert (said["event"], said["scope"], said["kind"], said["threshold"]) == ("budget:alert", PROJECT, "committed", 40)
    assert (said["limit"], said["held"], said["captured"], said["currency"]) == ("1", "0.52", "0", "USD")
    assert fields["qcos-notice"] == said["notice"]
    assert [kind for kind in desk.kinds() if kind.startswith("budget:alert")] == [alert_store.FIRED, alerts.DELIVERED]
    async with desk.plane.transaction("demo") as conn:
        (alert,) = await alert_store.alerts(conn, "demo")
    assert alert.deliveries["finance"]["state"] == "delivered"
    assert alert.entry_id is not None
    assert (await desk.replayed()).differences == []
    await desk.seal()
    desk.sql("UPDATE finops.alert SET captured = 7")
    (found,) = (await desk.replayed()).differences
    assert found.startswith(f"alert {alert.alert_id} of demo: row")


async def test_a_receiver_that_is_down_hears_of_it_when_it_is_back(
    desk: Desk, receiver: Receiver, tmp_path: Path
) -> None:
    """Tried again, and told by an entry where it was given up; nobody hears of another tenant's (I7)."""
    await limit(desk, "1", thresholds=(40,))
    receiver.answers = ["503 Down"]
    async with telling(desk, receiver, tmp_path) as courier:
        await desk.admitted()
        await courier.step()
        assert desk.sql("SELECT tries FROM jobs.notice") == [(1,)]
        soon(desk)
        await courier.step()
        assert desk.kinds()[-1] == alerts.DELIVERED
        await limit(desk, "0.6", thresholds=(80,))
        receiver.answers = ["500 No"] * 3
        for _ in range(3):
            await courier.step()
            soon(desk)
    assert desk.kinds()[-1] == alerts.GIVEN_UP
    async with desk.plane.transaction("other") as conn:
        assert await alert_store.alerts(conn, "other") == []


async def test_a_courier_that_dies_after_sending_sends_again(
    desk: Desk, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: the same notice id twice, one entry."""
    await limit(desk, "1", thresholds=(40,))
    async with telling(desk, receiver, tmp_path) as courier:
        await desk.admitted()

        async def dies(*_: object) -> bool:
            raise asyncio.CancelledError

        with monkeypatch.context() as patched:
            patched.setattr(store, "end", dies)
            with pytest.raises(asyncio.CancelledError):
                await courier.step()
        soon(desk)
        other = Courier(desk.plane)
        await asyncio.gather(courier.step(), other.step())
        await other.close()
    assert len({fields["qcos-notice"] for fields, _ in receiver.got}) == 1
    assert len(receiver.got) == 2
    assert desk.kinds().count(alerts.DELIVERED) == 1


async def test_two_couriers_tell_of_an_alert_once(desk: Desk, receiver: Receiver, tmp_path: Path) -> None:
    """Even where the lease of one is over while it works."""
    await limit(desk, "1", thresholds=(40,))
    async with telling(desk, receiver, tmp_path) as courier:
        await desk.admitted()
        (alert,) = desk.sql("SELECT alert_id::text FROM finops.alert")[0]
        channels = desk.plane.settings.channels
        fired = await asyncio.gather(*(alerts.fire(desk.plane, channels, "demo", alert) for _ in range(4)))
        assert sorted(fired) == [False, False, False, True]
        await courier.step()
    assert len(receiver.got) == 1
    assert desk.kinds().count(alert_store.FIRED) == 1


async def test_a_budget_tells_whom_it_names(desk: Desk, receiver: Receiver, tmp_path: Path) -> None:
    """Nobody, where it names nobody; an entry tells all the same. A channel that is gone is given up, and told."""
    await limit(desk, "1", thresholds=(40,), notify=())
    async with telling(desk, receiver, tmp_path) as courier:
        await desk.admitted()
        await courier.step()
        assert desk.kinds()[-1] == alert_store.FIRED
        await limit(desk, "2", thresholds=(20,), notify=("gone",))
        await courier.step()
        assert receiver.got == []
        assert desk.kinds()[-1] == alerts.GIVEN_UP
        await limit(desk, "3", thresholds=(15,), notify=None)  # back to every table
        await courier.step()
    assert len(receiver.got) == 1
    assert (await desk.replayed()).differences == []


async def test_another_tenant_can_read_and_raise_nothing(desk: Desk) -> None:
    """I7: behind the wall, as every table."""
    await limit(desk, "1", thresholds=(40,))
    await desk.admitted()
    engine = make_engine(desk.database.app)
    async with transaction(engine, "other") as conn:
        assert (await conn.exec_driver_sql("SELECT count(*) FROM finops.alert")).scalar_one() == 0
    await engine.dispose()


def test_an_unknown_channel_is_refused() -> None:
    from control_plane.notices import channels

    facts = NotifyFacts("finance", "https://example.org", "/etc/secret")
    assert channels.known((facts,), ("finance", "finance")) == ("finance",)
    with pytest.raises(BudgetInvalid, match=r"no .*table gone"):
        channels.known((facts,), ("gone",))
