# SPDX-License-Identifier: Apache-2.0
"""N5: a reservation moves as its table says and no other way, whatever events come in whatever number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal_drivers.p2p.reservation import (
    MOVES,
    Book,
    Contradiction,
    Moved,
    Reservation,
    State,
    Wanted,
    apply,
    fold,
    requested,
)

WANTED = Wanted("node-a", "job-1", "f0", 1, ("cnot",), 2, 0, 1_000, 500)
STATES: tuple[State, ...] = tuple(MOVES)


def _walk(states: list[State]) -> Reservation:
    found = apply(None, requested(WANTED, "t0"))
    for number, state in enumerate(states, 1):
        found = apply(found, found.next(state, f"t{number}", fence=number if state == "PREPARED" else None))
    return found


@given(st.lists(st.sampled_from(STATES), max_size=5))
def test_no_move_but_those_of_the_table(states: list[State]) -> None:
    legal, at = True, "REQUESTED"
    for state in states:
        legal = legal and state in MOVES[at]  # type: ignore[index]
        at = state
    if legal:
        assert _walk(states).state == at
    else:
        with pytest.raises(Contradiction):
            _walk(states)


def test_what_ended_never_moves_again() -> None:
    assert {state for state, to in MOVES.items() if not to} == {"EXECUTED", "REJECTED", "EXPIRED", "FAILED", "CANCELED"}


@given(st.data())
def test_events_told_again_change_nothing(data: st.DataObject) -> None:
    found = _walk(["PREPARED", "COMMITTED", "EXECUTED"])
    again = data.draw(st.lists(st.sampled_from(found.history)))
    assert fold([*found.history, *again]) == fold(found.history)


def test_another_event_in_the_same_place_is_a_contradiction() -> None:
    found = _walk(["PREPARED"])
    with pytest.raises(Contradiction):
        apply(found, Moved(found.reservation_id, 1, "REJECTED", "t1"))


def test_a_hole_is_a_contradiction() -> None:
    found = _walk([])
    with pytest.raises(Contradiction):
        apply(found, Moved(found.reservation_id, 2, "CANCELED", "t2"))


def _granted(epoch: int, fence: int) -> list[Moved]:
    wanted = Wanted("node-a", "job-1", "f0", epoch, ("cnot",), 2, 0, 1_000, 500)
    first = apply(None, requested(wanted, "t"))
    return [*first.history, first.next("PREPARED", "t", fence=fence)]


def _rising(pairs: list[tuple[int, int]]) -> bool:
    epochs, fences = [epoch for epoch, _ in pairs], [fence for _, fence in pairs]
    return all(column == sorted(set(column)) for column in (epochs, fences))


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=4, unique_by=lambda pair: pair[0]))
def test_epochs_and_fences_rise_and_nothing_else_is_believed(pairs: list[tuple[int, int]]) -> None:
    events = [event for epoch, fence in pairs for event in _granted(epoch, fence)]
    if _rising(pairs):
        book = fold(events)
        assert book.fences == ({"node-a": pairs[-1][1]} if pairs else {})
    else:
        with pytest.raises(Contradiction):
            fold(events)


def test_an_empty_journal_is_an_empty_book() -> None:
    assert fold([]) == Book()
