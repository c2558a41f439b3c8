# SPDX-License-Identifier: Apache-2.0
"""N5, N6: a fabric's work as the plane asks for it, over restarts of the fabric, and words that nobody waits for."""

from __future__ import annotations

import errno
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from hal_drivers.p2p import run_file
from hal_drivers.p2p.asking import Limits
from hal_drivers.p2p.faults import Fault
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.office import (
    AskReservation,
    AskResult,
    CancelReservation,
    CancelRun,
    Done,
    Find,
    ForgetRun,
    Poll,
    Probe,
    Probed,
    Refusal,
    ReservationIs,
    ReserveWindow,
    RunIs,
    RunResult,
    Submit,
)
from hal_drivers.p2p.run_file import RunFile, Spares
from hal_drivers.p2p.run_state import RunEvent
from hal_drivers.p2p.runs import Runs
from hal_drivers.p2p.wire import Execute, Request, Signed
from tests.hal_drivers.p2p.nodes import BELL, Direct, Node, config, network
from tests.hal_drivers.p2p.runs import FED, PAIR, PAIRS, Ran

PERFECT = 1.0
PATIENT = Limits(reserve_s=60, commit_s=60, cancel_s=60, default_execute_s=60, hold_s=60, reask_s=60)
"""No machine is too slow."""


class Fabric:
    """Runs over a network in this process, with what they told the journal."""

    def __init__(self, home: Path, link: Direct) -> None:
        self.folder, self.link, self.ran = home / "runs", link, Ran(PAIRS)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.attempts: list[tuple[str, bool]] = []
        self.expired = trio.Event()

    def tell(self, kind: str, **fields: Any) -> None:
        self.told.append((kind, fields))
        if kind == "reservation:expired":
            self.expired.set()

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    async def open(self, nursery: trio.Nursery) -> Runs:
        runs = Runs(
            self.folder,
            self.link,
            lambda: self.ran.snapshot(self.link),
            self.tell,
            nursery,
            PATIENT,
            lambda: datetime.now(UTC).isoformat(),
            lambda node, well: self.attempts.append((node, well)),
        )
        await runs.go_on()
        return runs

    def submit(self, token: str = "job-1", deadline_ms: int = 60_000) -> Submit:
        order = self.ran.order(self.link)
        return Submit(token, order.program, order.plan, order.config, order.shots, order.seed, deadline_ms)


def _over(
    home: Path, story: Callable[[Fabric, Runs], Awaitable[None]], *faults: Fault, clock: MockClock | None = None
) -> None:
    async def go() -> None:
        with trio.fail_after(150):
            async with network(home, *[config(PERFECT, *faults)] * 3) as link:
                fabric = Fabric(home, link)
                async with trio.open_nursery() as nursery:
                    await story(fabric, await fabric.open(nursery))
                    nursery.cancel_scope.cancel()

    trio.run(go, clock=clock)


async def _ended(runs: Runs, token: str = "job-1") -> RunIs:
    found = await runs.answer(Poll(token, 30_000))
    assert isinstance(found, RunIs)
    return found


def test_a_run_is_submitted_polled_read_and_forgotten(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        assert isinstance(await runs.answer(Find("job-1")), Refusal)
        assert isinstance(await runs.answer(fabric.submit()), RunIs)
        early = await runs.answer(AskResult("job-1"))
        assert isinstance(early, Refusal)
        assert early.code == "not_ended"
        assert (await _ended(runs)).state == "finished"
        result = await runs.answer(AskResult("job-1"))
        assert isinstance(result, RunResult)
        assert len(result.rows) == result.shots
        assert result.duration_us > 0
        assert all(one.attempts[0].answers and one.attempts[0].requests for one in result.run.fragments)
        polled = await _ended(runs)
        assert all(not one.attempts[0].answers for one in polled.fragments)
        assert fabric.kinds()[0] == "run:submitted"
        assert fabric.kinds()[-1] == "run:finished"
        assert fabric.kinds().count("attempt:accepted") == 3
        assert {well for _, well in fabric.attempts} == {True}
        assert await runs.answer(ForgetRun("job-1")) == Done()
        assert isinstance(await runs.answer(Find("job-1")), Refusal)

    _over(tmp_path, story)


def test_an_end_is_told_once_it_is_durable_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = RunFile.append

    def slowly(file: RunFile, events: tuple[RunEvent, ...]) -> None:
        time.sleep(0.2)  # a slow disk
        append(file, events)

    async def story(fabric: Fabric, runs: Runs) -> None:
        await runs.answer(fabric.submit())
        monkeypatch.setattr(RunFile, "append", slowly)
        for ask in (Find("job-1"), Poll("job-1", 0)):
            while True:
                found = await runs.answer(ask)
                assert isinstance(found, RunIs)
                if found.state == "finished":
                    break
                await trio.lowlevel.checkpoint()
            kept = RunFile(fabric.folder, "job-1").read()
            assert kept is not None
            assert kept[1].over
            assert fabric.kinds()[-1] == "run:finished"
        assert await runs.answer(ForgetRun("job-1")) == Done()
        assert isinstance(await runs.answer(Find("job-1")), Refusal)

    _over(tmp_path, story)


def test_the_same_token_again_is_the_same_run(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        for _ in range(3):
            await runs.answer(fabric.submit())
        await _ended(runs)
        again = await runs.answer(fabric.submit())
        assert isinstance(again, RunIs)
        assert again.state == "finished"
        executes = [r for node in fabric.link.nodes.values() for r in node.got if isinstance(r, Execute)]
        assert len(executes) == 3

    _over(tmp_path, story)


def test_a_fabric_that_was_restarted_goes_on_with_what_was_not_over(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        async def stop(_: Node, request: Request) -> None:
            await trio.lowlevel.checkpoint()
            if isinstance(request, Execute):
                first.cancel_scope.cancel()

        async with trio.open_nursery() as first:
            dying = await fabric.open(first)
            # A crash: nothing more is written, not even that the run was cancelled.
            await dying.answer(fabric.submit())
            fabric.link.before = stop
            path = next(fabric.folder.glob("*.run"))
            await trio.lowlevel.checkpoint()
            started = path.read_bytes()
        fabric.link.before = None
        path.write_bytes(started + b'[{"type":"started","at')
        async with trio.open_nursery() as second:
            reborn = await fabric.open(second)
            assert (await _ended(reborn)).state == "finished"
            second.cancel_scope.cancel()

    _over(tmp_path, story)


def test_a_run_whose_name_a_crash_took_back_is_the_same_run(tmp_path: Path) -> None:
    """Its words were durable in a spare file, the file's new name was not; another spare's first words were cut."""

    async def story(fabric: Fabric, runs: Runs) -> None:
        await runs.answer(fabric.submit())
        ended = await _ended(runs)
        before = {path.name for path in fabric.folder.glob("*.spare")}
        next(fabric.folder.glob("*.run")).rename(fabric.folder / "0.spare")
        (fabric.folder / min(before)).write_bytes(b'{"order":')
        async with trio.open_nursery() as nursery:
            again = await fabric.open(nursery)
            assert await again.answer(Find("job-1")) == ended
        assert not before & {path.name for path in fabric.folder.glob("*.spare")}

    _over(tmp_path, story)


def test_a_disk_that_has_no_room_for_spare_files_takes_no_fabric_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spares = Spares(tmp_path)
    before = sorted(tmp_path.iterdir())

    def full(path: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left", str(path))

    while not spares.few:
        assert spares.take() is not None
    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", full)
        spares.more()
    assert spares.few
    assert sorted(tmp_path.iterdir()) == before
    spares.more()
    assert not spares.few


def test_a_run_that_finds_no_spare_file_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_file, "_SPARES", 0)

    async def story(fabric: Fabric, runs: Runs) -> None:
        for number in range(3):
            await runs.answer(fabric.submit(f"job-{number}"))
            assert (await _ended(runs, f"job-{number}")).state == "finished"
        assert len([*fabric.folder.glob("*.run")]) == 3

    _over(tmp_path, story)


def test_a_plan_for_another_program_is_refused(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        found = await runs.answer(msgspec.structs.replace(fabric.submit(), program=FED))
        assert isinstance(found, Refusal)
        assert found.code == "invalid"

    _over(tmp_path, story)


def test_a_plan_that_holds_no_assignments_fails_alone(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        good = fabric.submit()
        bad = msgspec.structs.replace(good, token="bad", plan=msgspec.structs.replace(good.plan, assignments=()))
        await runs.answer(bad)
        ended = await _ended(runs, "bad")
        assert (ended.state, ended.code) == ("failed", "broken")
        await runs.answer(good)
        assert (await _ended(runs)).state == "finished"

    _over(tmp_path, story)


def test_a_cancelled_run_is_over_when_the_cancel_is_answered(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        await runs.answer(fabric.submit())
        assert await runs.answer(CancelRun("job-1")) == Done()
        assert (await _ended(runs)).state == "canceled"
        assert await runs.answer(CancelRun("job-1")) == Done()
        assert runs.active() == 0

    _over(tmp_path, story)


def test_late_and_second_answers_are_told_and_change_nothing(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        await runs.answer(fabric.submit())
        await _ended(runs)
        result = await runs.answer(AskResult("job-1"))
        assert isinstance(result, RunResult)
        attempt = result.run.fragments[0].attempts[0]
        runs.stray(attempt.node_id, attempt.answers[-1])
        assert fabric.kinds()[-1] == "answer:late"
        forged = Signed(attempt.node_id, attempt.answers[-1].body, bytes(64))
        told = len(fabric.told)
        runs.stray(attempt.node_id, forged)
        assert len(fabric.told) == told
        assert await runs.answer(AskResult("job-1")) == result

    _over(tmp_path, story)


def test_words_that_come_another_way_are_told_while_the_run_goes_on_and_change_nothing(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        told: list[Signed] = []

        async def again(node: Node, request: Request) -> None:
            await trio.lowlevel.checkpoint()
            if isinstance(request, Execute) and not told:
                assert node.desk is not None
                told.append(msgspec.json.decode(await node.desk.answer(canonical(request)), type=Signed))
                runs.stray(node.id, told[0])
                assert fabric.kinds()[-1] == "answer:late"

        fabric.link.before = again
        await runs.answer(fabric.submit())
        assert (await _ended(runs)).state == "finished"

    _over(tmp_path, story)


def test_a_window_without_a_job_is_got_shown_and_given_back(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        node = min(fabric.link.nodes)
        ask = ReserveWindow("r1", node, ("cnot",), 2, 0, 60_000, 5_000)
        got = await runs.answer(ask)
        assert isinstance(got, ReservationIs)
        assert (got.state, [state for state, _ in got.moves]) == ("COMMITTED", ["REQUESTED", "PREPARED", "COMMITTED"])
        assert await runs.answer(ask) == got
        taken = await runs.answer(msgspec.structs.replace(ask, reservation_id="r2"))
        assert isinstance(taken, ReservationIs)
        assert (taken.state, taken.code) == ("REJECTED", "window_taken")
        assert (taken.next_free_in_ms or 0) > 0
        back = await runs.answer(CancelReservation("r1"))
        assert isinstance(back, ReservationIs)
        assert back.state == "CANCELED"
        free = await runs.answer(msgspec.structs.replace(ask, reservation_id="r3"))
        assert isinstance(free, ReservationIs)
        assert free.state == "COMMITTED"
        assert isinstance(await runs.answer(AskReservation("r9")), Refusal)

    _over(tmp_path, story)


def test_a_window_outlives_the_fabric_that_got_it(tmp_path: Path) -> None:
    """N10: a fabric that knows nothing of it asks again, and its node has it still; or another has it by then."""

    async def story(fabric: Fabric, runs: Runs) -> None:
        node = min(fabric.link.nodes)
        ask = ReserveWindow("r1", node, ("cnot",), 2, 0, 60_000, 5_000)
        got = await runs.answer(ask)
        assert isinstance(got, ReservationIs)
        again = msgspec.structs.replace(ask, duration_ms=50_000, again=True)
        assert await runs.answer(again) == got, "what both know is not told twice"
        runs._windows._kept.clear()  # what a restart of the fabric leaves
        kept = await runs.answer(again)
        assert isinstance(kept, ReservationIs)
        assert (kept.state, kept.fence) == ("COMMITTED", got.fence)
        runs._windows._kept.clear()
        assert isinstance(await runs.answer(CancelReservation("r1", node)), Refusal), "unknown here, given back there"
        other = await runs.answer(msgspec.structs.replace(ask, reservation_id="r2"))
        assert isinstance(other, ReservationIs)
        assert other.state == "COMMITTED"
        lost = await runs.answer(again)
        assert isinstance(lost, ReservationIs)
        assert (lost.state, lost.code) == ("REJECTED", "fenced")

    _over(tmp_path, story)


def test_a_window_that_nobody_uses_has_expired(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        await runs.answer(ReserveWindow("r1", min(fabric.link.nodes), (), 1, 0, 1, 5_000))
        await fabric.expired.wait()
        found = await runs.answer(AskReservation("r1"))
        assert isinstance(found, ReservationIs)
        assert found.state == "EXPIRED"

    _over(tmp_path, story, clock=MockClock(autojump_threshold=0))


def test_a_probe_is_asked_in_the_words_of_a_job(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        fabric.ran = Ran(PAIR)
        node = fabric.link.nodes[min(fabric.link.nodes)]
        found = await runs.answer(Probe("probe-1", node.id, BELL, ("bell_pair",), 200, 3, 5_000))
        assert isinstance(found, Probed)
        assert (found.code, found.shots, len(found.rows), found.reported_ppm) == (None, 200, 200, 1_000_000)
        probed = [type(request) for request in node.got]
        node.got.clear()
        await runs.answer(fabric.submit())
        await _ended(runs)
        jobs = next([type(request) for request in one.got] for one in fabric.link.nodes.values() if one.got)
        assert probed == jobs
        assert all(len(request.token) == 32 for request in node.got)  # type: ignore[union-attr]

    _over(tmp_path, story)


def test_a_probe_that_is_answered_wrong_has_failed(tmp_path: Path) -> None:
    async def story(fabric: Fabric, runs: Runs) -> None:
        found = await runs.answer(Probe("probe-1", min(fabric.link.nodes), BELL, ("bell_pair",), 200, 3, 5_000))
        assert isinstance(found, Probed)
        assert (found.code, found.rows) == ("rows", b"")

    _over(tmp_path, story, Fault("stray_bits"))
