# SPDX-License-Identifier: Apache-2.0
"""N5, N6: what a service node does with each request, and what it never does twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from hal_drivers.p2p.faults import FAULT_NAMES, Fault, FaultFile, parse_fault, write_faults
from hal_drivers.p2p.identity import verify
from hal_drivers.p2p.ir import SERVICES, canonical
from hal_drivers.p2p.wire import (
    Answer,
    Cancel,
    Canceled,
    Executed,
    ExecutionFailed,
    Ping,
    Pong,
    Prepared,
    Rejected,
    Reserve,
    Signed,
    request_digest,
)
from tests.hal_drivers.p2p.nodes import LONG_US, Node, config, execute

Claim = Callable[[Node], Awaitable[None]]


def _with(home: Path, claim: Claim, *faults: Fault) -> Node:
    node = Node(0, home, config(0.99, *faults))

    async def go() -> None:
        with trio.fail_after(10_000):
            async with node.open():
                await claim(node)

    trio.run(go, clock=MockClock(autojump_threshold=0))  # no machine is too slow for a window
    return node


def _rejected(answer: Answer) -> str:
    assert isinstance(answer, Rejected), answer
    return answer.code


def test_an_answer_names_its_request_and_is_signed_by_the_node(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        assert node.desk is not None
        frame = canonical(Ping(5))
        signed = msgspec.json.decode(await node.desk.answer(frame), type=Signed)
        verify(signed)
        answer = msgspec.json.decode(signed.body, type=Answer)
        assert answer == Pong(node.id, request_digest(frame), 0)

    _with(tmp_path, claim)


@pytest.mark.parametrize("frame", [b"", b"{", b'{"type":"ping"}', b'{"type":"open","nonce":1}', b"[" * 100_000])
def test_what_is_no_request_is_rejected_and_nothing_else_happens(tmp_path: Path, frame: bytes) -> None:
    async def claim(node: Node) -> None:
        assert node.desk is not None
        signed = msgspec.json.decode(await node.desk.answer(frame), type=Signed)
        assert _rejected(msgspec.json.decode(signed.body, type=Answer)) == "invalid"

    _with(tmp_path, claim)


def test_the_same_execute_again_gets_the_same_bytes_and_runs_once(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        assert node.desk is not None
        frame = canonical(execute(await node.window()))
        first = await node.desk.answer(frame)
        assert await node.desk.answer(frame) == first
        assert node.simulator.ran == 1

    _with(tmp_path, claim)


def test_the_same_execute_while_it_runs_waits_for_the_same_run(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        assert node.desk is not None
        node.simulator.gate = trio.Event()
        frame, answers = canonical(execute(await node.window())), []

        async def ask() -> None:
            assert node.desk is not None
            answers.append(await node.desk.answer(frame))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            node.simulator.gate.set()
        assert answers[0] == answers[1]
        assert node.simulator.ran == 1

    _with(tmp_path, claim)


def test_a_restarted_node_says_the_same_again(tmp_path: Path) -> None:
    frames: list[bytes] = []

    async def first(node: Node) -> None:
        assert node.desk is not None
        frames.append(canonical(execute(await node.window())))
        frames.append(await node.desk.answer(frames[0]))

    async def second(node: Node) -> None:
        assert node.desk is not None
        assert await node.desk.answer(frames[0]) == frames[1]
        assert node.simulator.ran == 0

    _with(tmp_path, first)
    _with(tmp_path, second)


def test_a_node_that_was_killed_at_work_says_that_it_has_forgotten(tmp_path: Path) -> None:
    begun: list[bytes] = []

    async def first(node: Node) -> None:
        begun.append(canonical(execute(await node.window())))
        request = msgspec.json.decode(begun[0], type=dict)
        # What a kill leaves: the mark that it began.
        kept = {"token": request["token"], "fragment_id": request["fragment_id"], "epoch": 1, "answer": None}
        assert node.desk is not None
        await node.desk.answer(begun[0])
        (path,) = (tmp_path / "answers").glob("*.json")
        path.write_bytes(msgspec.json.encode(kept))

    async def second(node: Node) -> None:
        assert _rejected(await node.ask(Reserve("job", "f0", 1, (), 2, LONG_US, LONG_US))) == "fenced"
        answer = await node.ask(execute(Prepared(node.id, "", 1, 0, 0)))
        assert isinstance(answer, ExecutionFailed)
        assert answer.code == "forgotten"
        assert node.simulator.ran == 0

    _with(tmp_path, first)
    _with(tmp_path, second)


def test_fences_rise_over_a_restart(tmp_path: Path) -> None:
    fences: list[int] = []

    async def claim(node: Node) -> None:
        fences.extend([(await node.window(epoch=len(fences) + 1)).fence])

    _with(tmp_path, claim)
    _with(tmp_path, claim)
    assert fences == sorted(set(fences))


def test_an_older_epoch_is_refused_and_a_newer_one_ends_its_run(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        node.simulator.gate = trio.Event()
        old = await node.window(epoch=1)
        ended: list[Answer] = []

        async def run_old() -> None:
            ended.append(await node.ask(execute(old)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_old)
            await trio.testing.wait_all_tasks_blocked()
            new = await node.window(epoch=2)
        assert isinstance(ended[0], ExecutionFailed)
        assert ended[0].code == "canceled"
        node.simulator.gate.set()
        assert isinstance(await node.ask(execute(new, epoch=2)), Executed)
        assert _rejected(await node.ask(execute(old))) == "fenced"

    _with(tmp_path, claim)


def test_after_a_cancel_nothing_of_it_runs_nor_begins(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        prepared = await node.window()
        assert isinstance(await node.ask(Cancel("job", "f0", 1)), Canceled)
        assert _rejected(await node.ask(execute(prepared))) == "unknown_window"
        assert _rejected(await node.ask(Reserve("job", "f0", 1, (), 2, LONG_US, LONG_US))) == "fenced"
        assert node.simulator.ran == 0

    _with(tmp_path, claim)


def test_nothing_runs_without_its_window(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        prepared = await node.ask(Reserve("job", "f0", 1, (), 2, LONG_US, LONG_US))
        assert _rejected(await node.ask(execute(prepared))) == "unknown_window"  # type: ignore[arg-type]

    _with(tmp_path, claim)


def test_work_that_outlives_its_window_has_failed(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        answer = await node.ask(execute(await node.window(duration_us=50_000)))
        assert isinstance(answer, ExecutionFailed)
        assert answer.code == "over_time"
        assert node.simulator.ran == 0

    _with(tmp_path, claim, Fault("slow", value=3_600))


def test_a_service_that_it_lacks_is_rejected(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        many = Reserve("job", "f0", 1, (), 21, LONG_US, LONG_US)
        assert _rejected(await node.ask(many)) == "qubits"

    _with(tmp_path, claim)


def test_one_advert_a_service_and_serials_rise_over_restarts(tmp_path: Path) -> None:
    serials: list[int] = []

    async def claim(node: Node) -> None:
        assert node.desk is not None
        adverts = node.desk.adverts()
        assert [advert.service_type for advert in adverts] == list(SERVICES)
        serials.extend(advert.serial for advert in adverts)

    _with(tmp_path, claim)
    _with(tmp_path, claim)
    assert serials == sorted(set(serials))


def test_a_fault_strikes_as_often_as_it_was_told(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        assert node.desk is not None
        frames = [await node.desk.answer(canonical(Ping(number))) for number in range(4)]
        assert [frame == b"" for frame in frames] == [False, True, True, False]

    _with(tmp_path, claim, Fault("drop", on="ping", times=2, after=1))


def test_an_overstating_node_reports_what_it_does_not_have(tmp_path: Path) -> None:
    async def claim(node: Node) -> None:
        answer = await node.ask(execute(await node.window(), shots=2_000))
        assert isinstance(answer, Executed)
        assert answer.fidelities["bell_pair"] == 0.99
        assert sum(row in (1, 2) for row in answer.rows) > 400

    _with(tmp_path, claim, Fault("overstate", value=0.5))


def test_faults_are_switched_while_a_node_runs(tmp_path: Path) -> None:
    faults = FaultFile(tmp_path / "faults.json")
    assert faults.now().strike("execute") == {}
    write_faults(tmp_path / "faults.json", (Fault("drop"),))
    assert set(faults.now().strike("execute")) == {"drop"}
    write_faults(tmp_path / "faults.json", ())
    assert faults.now().strike("execute") == {}


@pytest.mark.parametrize(
    ("flag", "fault"),
    [
        ("drop", Fault("drop")),
        ("late:0.5@execute*1", Fault("late", value=0.5, times=1)),
        ("deaf@any", Fault("deaf", on="any")),
        ("spike:0.6*3", Fault("spike", value=0.6, times=3)),
    ],
)
def test_faults_are_given_by_flag(flag: str, fault: Fault) -> None:
    assert parse_fault(flag) == fault


@pytest.mark.parametrize("flag", ["", "explode", "drop@never", "late:-1", "late:0.5@executex1"])
def test_a_flag_that_is_no_fault_is_refused(flag: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        parse_fault(flag)


def test_every_fault_is_in_the_table_of_the_docs() -> None:
    import hal_drivers.p2p.faults as module

    assert module.__doc__ is not None
    assert all(f"\n{name} " in module.__doc__ for name in FAULT_NAMES)
