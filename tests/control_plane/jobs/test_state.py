# SPDX-License-Identifier: Apache-2.0
"""The ruleset and the fold: what it doesn't name is refused, and the same entries give the same bytes (S3, S4, I6)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.jobs.state import (
    ACTIVE,
    FINAL,
    MOVES,
    JobState,
    State,
    TransitionRefused,
    apply,
    check_move,
    fold,
    moves,
)
from ledger.canonical import dumps

STATES: tuple[State, ...] = get_args(State)
AT = "2026-11-21T10:00:00.000Z"

states = st.sampled_from(STATES)
sources = st.one_of(st.none(), states)


def legal(source: State | None, targets: tuple[State, ...]) -> bool:
    """Whether each step of the way is one that the ruleset names."""
    way = (source, *targets)
    return all(after in MOVES.get(before, frozenset()) for before, after in pairwise(way))


@st.composite
def stories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Entries of one job, as the plane writes them: moves that the ruleset names, told one or more at a time."""
    bodies: list[dict[str, Any]] = []
    state: State | None = None
    seq = attempt = 0
    while targets := sorted(MOVES.get(state, frozenset())):
        way = [draw(st.sampled_from(targets))]
        while draw(st.booleans()) and (more := sorted(MOVES.get(way[-1], frozenset()))):
            way.append(draw(st.sampled_from(more)))
        attempt += way[0] == "COMPILING"
        body: dict[str, Any] = {
            "job_id": "j",
            "attempt": attempt,
            "events": msgspec.to_builtins(list(moves(state, seq, tuple(way), AT))),
        }
        if state is None:
            body |= {"project": "p", "decision_id": "d"}
        if way[-1] == "SEALING":
            final = draw(st.sampled_from(["COMPLETED", "FAILED", "CANCELED"]))
            body |= {"final": final, "bundle_id": "b", "cost": {"amount": "0.1", "currency": "USD"}}
        bodies.append(body)
        state, seq = way[-1], seq + len(way)
        if len(bodies) > 12:
            break
    return bodies


@given(sources, st.lists(states, min_size=1, max_size=6).map(tuple), st.integers(0, 100))
def test_a_way_is_taken_whole_or_refused(source: State | None, targets: tuple[State, ...], seq: int) -> None:
    """S3: any sequence with one step that the ruleset doesn't name is refused."""
    if legal(source, targets):
        events = moves(source, seq, targets, AT)
        assert [event.state for event in events] == list(targets)
        assert [event.seq for event in events] == list(range(seq + 1, seq + 1 + len(targets)))
    else:
        with pytest.raises(TransitionRefused):
            moves(source, seq, targets, AT)


@given(sources, states)
def test_what_the_ruleset_does_not_name_is_refused(source: State | None, target: State) -> None:
    if target in MOVES.get(source, frozenset()):
        check_move(source, target)
    else:
        with pytest.raises(TransitionRefused):
            check_move(source, target)


@pytest.mark.parametrize("state", sorted(FINAL | {"SEALING"}))
def test_nothing_leaves_an_end(state: State) -> None:
    """N9: an ended job stays ended; also what is being sealed."""
    assert not MOVES.get(state)


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_every_active_state_can_fail_and_be_recovered(state: State) -> None:
    """N9: FAILED from COMPILING, RESERVING and EXECUTING; a lost worker's job can go back."""
    assert {"SEALING", "QUEUED"} <= MOVES[state]


def test_each_state_can_be_reached() -> None:
    """Of the ruleset's, and of those that an outcome entry names."""
    reached = set().union(*MOVES.values()) | {"COMPLETED", "FAILED", "CANCELED", "UNCERTAIN"}
    assert reached == set(STATES)


@given(stories())
def test_the_fold_of_what_was_told_is_what_was_done(bodies: list[dict[str, Any]]) -> None:
    """I6: folding the entries one by one equals applying all their moves at once."""
    jobs: dict[tuple[str, str], JobState] = {}
    for body in bodies:
        fold(jobs, "t", "job:any:thing", body)
    told = jobs["t", "j"]
    events = [event for body in bodies for event in body["events"]]
    assert (told.state, told.seq) == (events[-1]["state"], len(events))
    at_once: dict[str, Any] = {}
    for body in bodies:
        at_once |= body
    assert apply(JobState("t", "j"), at_once | {"events": events}) == told


@given(stories())
def test_the_same_entries_give_the_same_bytes(bodies: list[dict[str, Any]]) -> None:
    """I6: byte for byte, also after the entries went through their canonical form."""
    first: dict[tuple[str, str], JobState] = {}
    second: dict[tuple[str, str], JobState] = {}
    for body in bodies:
        fold(first, "t", "job:any:thing", body)
        fold(second, "t", "job:any:thing", msgspec.json.decode(dumps(body)))
    assert dumps(msgspec.to_builtins(first["t", "j"])) == dumps(msgspec.to_builtins(second["t", "j"]))


@given(stories(), st.data())
def test_an_entry_lost_doubled_or_out_of_turn_is_found(bodies: list[dict[str, Any]], data: st.DataObject) -> None:
    """I4, I6: the numbers of a job's moves leave no gap and repeat none."""
    at = data.draw(st.integers(0, len(bodies) - 1))
    if data.draw(st.booleans()):
        broken = [*bodies[: at + 1], bodies[at], *bodies[at + 1 :]]
    elif at < len(bodies) - 1:
        broken = bodies[:at] + bodies[at + 1 :]
    else:
        broken = [*bodies[:at], {**bodies[at], "events": bodies[at]["events"][1:] + bodies[at]["events"][:1]}]
        if broken == bodies:
            return
    with pytest.raises(TransitionRefused):
        jobs: dict[tuple[str, str], JobState] = {}
        for body in broken:
            fold(jobs, "t", "job:any:thing", body)


@given(stories(), stories())
def test_jobs_of_two_tenants_never_meet(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """I7: one id in two tenants is two jobs; entries that aren't a job's pass by."""
    jobs: dict[tuple[str, str], JobState] = {}
    for tenant, bodies in (("ours", ours), ("theirs", theirs)):
        for body in bodies:
            fold(jobs, tenant, "job:any:thing", body)
            fold(jobs, tenant, "budget:set", {})
    alone: dict[tuple[str, str], JobState] = {}
    for body in ours:
        fold(alone, "ours", "job:any:thing", body)
    assert jobs["ours", "j"] == alone["ours", "j"]
