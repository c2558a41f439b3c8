# SPDX-License-Identifier: Apache-2.0
"""N5, N6, N7, I8: every run ends right, on a fallback where it must, or fails naming fragment and cause."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hal_drivers.p2p.asking import Limits, node_token
from hal_drivers.p2p.errors import Unreachable
from hal_drivers.p2p.faults import FAULT_NAMES, Fault
from hal_drivers.p2p.ir import Program
from hal_drivers.p2p.reservation import MOVES
from hal_drivers.p2p.run_state import Closed, Progress, Reserved, Started
from hal_drivers.p2p.wire import Answer, Cancel, Commit, Execute, Request, Reserve
from tests.hal_drivers.p2p.nodes import Direct, Node, config, identity
from tests.hal_drivers.p2p.runs import FED, GOOD, PAIR, PAIRS, Crash, Ran, over

PERFECT = 1.0


def _right(ran: Ran) -> None:
    """Bits of a pair agree, and a fed bit is its giver's: in every shot, as all nodes are perfect."""
    assert ran.progress is not None
    assert ran.progress.view().state == "finished"
    for row in ran.rows():
        bits = [row >> place & 1 for place in range(ran.program.bits)]
        if ran.program is not FED:
            assert bits[0::2] == bits[1::2]
        else:
            assert bits[0] == bits[1] == bits[2]


@pytest.mark.parametrize("given_program", [PAIRS, FED, PAIR])
def test_a_plan_is_run_and_joined_shot_by_shot(tmp_path: Path, given_program: Program) -> None:
    ran = Ran(given_program)

    async def story(link: Direct) -> None:
        await ran.go(link)
        _right(ran)
        assert all(one.status == "completed" and len(one.attempts) == 1 for one in ran.fragments.values())
        assert {row & 1 for row in ran.rows()} == {0, 1}

    over(tmp_path, [config(PERFECT)] * 3, story)


def test_nodes_see_neither_the_job_nor_its_id(tmp_path: Path) -> None:
    ran = Ran(PAIRS)

    async def story(link: Direct) -> None:
        await ran.go(link)
        said = [request for node in link.nodes.values() for request in node.got]
        assert {request.token for request in said} == {node_token("run-1")}  # type: ignore[union-attr]

    over(tmp_path, [config(PERFECT)] * 3, story)


def test_windows_are_asked_for_in_node_id_order_and_nothing_runs_before_all_are_got(tmp_path: Path) -> None:
    ran, order = Ran(PAIRS), list[tuple[type[Request], str]]()

    async def watch(node: Node, request: Request) -> None:
        await trio.lowlevel.checkpoint()
        order.append((type(request), node.id))

    async def story(link: Direct) -> None:
        link.before = watch
        await ran.go(link)
        reserves = [node for kind, node in order if kind is Reserve]
        assert reserves == sorted(reserves)
        kinds = [kind for kind, _ in order]
        assert kinds == [Reserve] * 3 + [Commit] * 3 + [Execute] * 3

    over(tmp_path, [config(PERFECT)] * 3, story)


def test_a_window_that_is_the_only_one_is_reserved_and_committed_in_one_request(tmp_path: Path) -> None:
    ran, order = Ran(PAIR), list[Request]()

    async def watch(node: Node, request: Request) -> None:
        del node
        await trio.lowlevel.checkpoint()
        order.append(request)

    async def story(link: Direct) -> None:
        link.before = watch
        await ran.go(link)
        _right(ran)
        assert [type(request) for request in order] == [Reserve, Execute]
        assert all(request.alone for request in order if isinstance(request, Reserve))
        moves = [event.moved.state for event in ran.events if isinstance(event, Reserved)]
        assert moves == ["REQUESTED", "PREPARED", "COMMITTED", "EXECUTED"]

    over(tmp_path, [config(PERFECT)] * 2, story)


def _turn(node: Node) -> None:
    desk = node.desk
    assert desk is not None
    reserve = desk._reserve

    def turned(request: Reserve, request_sha256: str) -> Answer:
        return reserve(replace(request, alone=not request.alone), request_sha256)

    desk._reserve = turned  # type: ignore[method-assign]


@pytest.mark.parametrize("given_program", [PAIRS, PAIR])
def test_a_window_that_was_not_taken_as_it_was_asked_for_is_given_back(tmp_path: Path, given_program: Program) -> None:
    """A node that commits what others are waited for, or keeps uncommitted what it was to take."""
    ran = Ran(given_program, limits=Limits(rounds=2), fallbacks=0)

    async def story(link: Direct) -> None:
        for node in link.nodes.values():
            _turn(node)
        await ran.go(link)
        assert ran.progress is not None
        assert (ran.progress.view().state, ran.progress.view().code) == ("failed", "answer")
        for node in link.nodes.values():
            assert not any(isinstance(request, Execute) for request in node.got)
            reserved = {request.epoch for request in node.got if isinstance(request, Reserve)}
            assert {request.epoch for request in node.got if isinstance(request, Cancel)} == reserved

    over(tmp_path, [config(PERFECT)] * 3, story)


def test_where_one_window_cannot_be_had_the_others_are_given_back(tmp_path: Path) -> None:
    """Three groups on three nodes, no fallback; the last node rejects always: nothing runs, nothing stays taken."""
    ran = Ran(PAIRS, limits=Limits(rounds=3), fallbacks=0)
    last = max(range(3), key=lambda number: identity(number).peer_id)
    configs = [config(PERFECT, Fault("refuse", on="reserve")) if n == last else config(PERFECT) for n in range(3)]

    async def story(link: Direct) -> None:
        await ran.go(link)
        assert ran.progress is not None
        view = ran.progress.view()
        assert (view.state, view.code) == ("failed", "busy")
        assert (view.detail or "").startswith("fragment f")
        for node in link.nodes.values():
            assert not any(isinstance(request, Execute) for request in node.got)
            if node.number != last:
                reserved = {request.epoch for request in node.got if isinstance(request, Reserve)}
                assert reserved == {1, 2, 3}
                assert {request.epoch for request in node.got if isinstance(request, Cancel)} == reserved

    over(tmp_path, configs, story)


HARMFUL = [name for name in FAULT_NAMES if name not in ("crash", "overstate", "twice", "slow")]


@pytest.mark.parametrize("name", HARMFUL)
def test_a_node_that_misbehaves_is_replaced_by_a_fallback(tmp_path: Path, name: str) -> None:
    """Whatever it does, the answer is right, and the attempt says what was wrong."""
    ran = Ran(FED)
    value = {"spike": 0.6, "late": 3_600.0}.get(name)

    async def story(link: Direct) -> None:
        await ran.go(link)
        _right(ran)
        bad = [one for one in ran.attempts if one.status not in ("accepted", "canceled")]
        assert bad or name in ("drop", "late", "slow")
        assert all(one.code and one.detail for one in bad)

    over(tmp_path, [config(PERFECT, Fault(name, value=value)), config(PERFECT), config(PERFECT)], story)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("wrong_shots", "shots"),
        ("wrong_width", "rows"),
        ("stray_bits", "rows"),
        ("wrong_signature", "signature"),
        ("other_request", "request"),
        ("other_epoch", "epoch"),
        ("spike", "fidelity"),
        ("garbage", "unreachable"),
        ("deaf", "late"),
        ("refuse", "busy"),
    ],
)
def test_without_a_fallback_a_run_fails_naming_fragment_and_cause(tmp_path: Path, name: str, code: str) -> None:
    ran = Ran(FED)

    async def story(link: Direct) -> None:
        await ran.go(link)
        assert ran.progress is not None
        view = ran.progress.view()
        assert (view.state, view.code) == ("failed", code)
        assert view.detail is not None
        assert view.detail.startswith("fragment f1: ")
        assert ran.fragments["f1"].status == "failed"
        assert ran.fragments["f2"].status == "canceled"
        assert not ran.progress.done

    over(tmp_path, [config(PERFECT, Fault(name))], story)  # type: ignore[arg-type]


def test_a_node_that_dies_at_work_is_replaced(tmp_path: Path) -> None:
    ran = Ran(PAIRS)

    async def kill(node: Node, request: Request) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(request, Execute) and not any(n.desk is None for n in link_nodes):
            node.desk = None

    link_nodes: list[Node] = []

    async def story(link: Direct) -> None:
        link_nodes.extend(link.nodes.values())
        link.before = kill
        await ran.go(link)
        _right(ran)
        assert [one.code for one in ran.attempts if one.status == "failed"] == ["unreachable"]

    over(tmp_path, [config(PERFECT)] * 4, story)


def test_a_lost_answer_is_asked_for_again_and_nothing_runs_twice(tmp_path: Path) -> None:
    ran = Ran(FED)

    async def story(link: Direct) -> None:
        await ran.go(link)
        _right(ran)
        (node,) = link.nodes.values()
        assert node.simulator.ran == 2
        assert [attempt.status for attempt in ran.attempts] == ["accepted", "accepted"]

    over(tmp_path, [config(PERFECT, Fault("drop", times=1))], story)


def test_no_result_below_the_threshold_is_accepted(tmp_path: Path) -> None:
    """I8: the smaller of reported and verified is judged; a node whose bound fell since the plan gives nothing."""
    ran = Ran(FED)

    async def story(link: Direct) -> None:
        ran.order(link)
        ran.verified = dict.fromkeys(link.nodes, 899_999)
        await ran.go(link)
        assert ran.progress is not None
        assert not ran.progress.done
        assert ran.progress.view().code == "fidelity"
        assert {one.status for one in ran.attempts} <= {"refused", "canceled"}

    over(tmp_path, [config(PERFECT)] * 2, story)


@pytest.mark.parametrize("state", ["revoked", "suspended", "degraded", "stale", "unverified", "unreachable"])
def test_a_node_that_fell_since_the_plan_gets_nothing(tmp_path: Path, state: str) -> None:
    ran = Ran(FED)

    async def story(link: Direct) -> None:
        primary = ran.order(link).plan.assignments[0].primary
        ran.states[primary] = state
        await ran.go(link)
        _right(ran)
        assert link.nodes[primary].got == []

    over(tmp_path, [config(PERFECT)] * 3, story)


def test_a_node_that_is_revoked_while_it_works_is_not_believed(tmp_path: Path) -> None:
    ran = Ran(FED, fallbacks=0)

    async def revoke(node: Node, request: Request) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(request, Execute):
            ran.states[node.id] = "revoked"

    async def story(link: Direct) -> None:
        link.before = revoke
        await ran.go(link)
        assert ran.progress is not None
        assert (ran.progress.view().code, ran.progress.done) == ("not_enrolled", {})

    over(tmp_path, [config(PERFECT)], story)


def test_the_deadline_ends_a_run_naming_the_fragment(tmp_path: Path) -> None:
    ran = Ran(FED)
    ran.deadline_s = 1.0

    async def story(link: Direct) -> None:
        await ran.go(link)
        assert ran.progress is not None
        assert (ran.progress.view().state, ran.progress.view().code) == ("failed", "deadline")
        assert "fragment f1" in (ran.progress.view().detail or "")

    over(tmp_path, [config(PERFECT, Fault("slow", value=3.0))], story)


def test_a_cancelled_run_accepts_nothing_more_and_its_nodes_are_told(tmp_path: Path) -> None:
    ran = Ran(FED)

    async def story(link: Direct) -> None:
        async def stop(_: Node, request: Request) -> None:
            await trio.lowlevel.checkpoint()
            if isinstance(request, Execute):
                scope.cancel()

        link.before = stop
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            nursery.start_soon(ran.go, link)
        assert ran.progress is not None
        assert ran.progress.view().state == "canceled"
        assert not ran.progress.done
        assert isinstance(ran.events[-1], Closed)

    over(tmp_path, [config(PERFECT)] * 2, story)


def test_an_attempt_is_kept_before_its_node_hears_of_it(tmp_path: Path) -> None:
    ran = Ran(PAIRS)

    async def look(node: Node, request: Request) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(request, Reserve):
            told = {(e.fragment_id, e.node_id, e.epoch) for e in ran.events if isinstance(e, Started)}
            assert (request.fragment_id, node.id, request.epoch) in told

    async def story(link: Direct) -> None:
        link.before = look
        await ran.go(link)
        _right(ran)

    over(tmp_path, [config(PERFECT)] * 3, story)


@given(crash_at=st.integers(1, 40))
@settings(max_examples=25)
def test_after_a_crash_at_any_event_the_run_goes_on_under_higher_epochs(crash_at: int) -> None:
    """What was accepted stays accepted, the rest runs again, and the result is the same, byte for byte."""
    whole, broken = Ran(FED), Ran(FED)
    broken.crash_at = crash_at

    async def story(link: Direct) -> None:
        try:
            await broken.go(link)
        except* Crash:
            pass
        broken.crash_at = None
        kept = dict(Progress("run-1", broken.order(link).plan, broken.events).done)
        await broken.go(link)
        _right(broken)
        assert broken.progress is not None
        assert kept.items() <= broken.progress.done.items()
        for one in broken.fragments.values():
            epochs = [attempt.epoch for attempt in one.attempts]
            assert epochs == sorted(set(epochs))

    async def unbroken(link: Direct) -> None:
        await whole.go(link)
        assert broken.rows() == whole.rows()

    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as other:
        over(Path(home), [config(PERFECT)] * 2, story)
        over(Path(other), [config(PERFECT)] * 2, unbroken)


faults = st.builds(
    Fault,
    name=st.sampled_from([name for name in FAULT_NAMES if name not in ("crash", "overstate")]),
    on=st.sampled_from(["execute", "reserve", "commit", "any"]),
    times=st.one_of(st.none(), st.integers(1, 3)),
    after=st.integers(0, 2),
    value=st.sampled_from([0.1, 0.6, 5.0]),
)


@given(
    given_program=st.sampled_from([PAIRS, FED, PAIR]),
    faulty=st.lists(st.lists(faults, max_size=2), min_size=1, max_size=3),
)
@settings(max_examples=60)
def test_whatever_nodes_do_a_run_ends_right_or_names_fragment_and_cause(
    given_program: Program, faulty: list[list[Fault]]
) -> None:
    ran = Ran(given_program, shots=8)

    async def story(link: Direct) -> None:
        await ran.go(link)
        assert ran.progress is not None
        view = ran.progress.view()
        if view.state == "finished":
            _right(ran)
        else:
            assert view.state == "failed"
            assert view.code
            assert (view.detail or "").startswith("fragment f")
        # No attempt, and no reservation, is left open; every move was legal (the fold would have raised).
        assert not ran.progress.open_attempts()
        assert all(not MOVES[one.state] for one in ran.progress.book.reservations.values())
        assert Progress("run-1", ran.order(link).plan, ran.events).view() == view

    with tempfile.TemporaryDirectory() as home:
        over(Path(home), [config(PERFECT, *some) for some in faulty], story)


def test_reservations_of_a_run_are_events_too(tmp_path: Path) -> None:
    ran = Ran(FED)

    async def story(link: Direct) -> None:
        await ran.go(link)
        moves = [event.moved.state for event in ran.events if isinstance(event, Reserved)]
        assert sorted(moves) == sorted(["REQUESTED", "PREPARED", "COMMITTED", "EXECUTED"] * 2)

    over(tmp_path, [config(GOOD)] * 2, story)


def test_a_broken_connection_is_no_answer(tmp_path: Path) -> None:
    ran = Ran(FED)

    async def cut(node: Node, request: Request) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(request, Commit):
            raise Unreachable("cut")

    async def story(link: Direct) -> None:
        link.before = cut
        await ran.go(link)
        assert ran.progress is not None
        assert ran.progress.view().code == "unreachable"

    over(tmp_path, [config(PERFECT)] * 2, story)
