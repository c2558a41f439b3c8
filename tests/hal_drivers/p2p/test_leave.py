# SPDX-License-Identifier: Apache-2.0
"""N18: leave to send is given in large amounts, and no sender ever lacks what it needs."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal_drivers.p2p.leave import LEAST, MOST_STREAMS, Leave

HEADER = struct.Struct("!BBHII")


def _frame(kind: int, stream: int, number: int, flags: int = 0) -> bytes:
    return HEADER.pack(0, kind, flags, stream, number)


@given(st.lists(st.tuples(st.integers(1, 2 * MOST_STREAMS), st.integers(1, 2 * LEAST))))
def test_no_stream_lacks_a_quarter_of_its_window(given_leave: list[tuple[int, int]]) -> None:
    leave, owed = Leave(), Counter[int]()
    for stream, number in given_leave:
        owed[stream] += number
        if (sent := leave.judged(_frame(1, stream, number))) is not None:
            version, kind, flags, whose, much = HEADER.unpack(sent)
            assert (version, kind, flags) == (0, 1, 0)
            owed[whose] -= much
        assert all(0 <= lacks < LEAST for lacks in owed.values())
        assert sum(lacks > 0 for lacks in owed.values()) <= MOST_STREAMS


@pytest.mark.parametrize(
    "data",
    [
        b"\x13/multistream/1.0.0\n",
        b"\x0b12 letters\n",
        _frame(0, 1, 5) + b"bytes",
        _frame(1, 1, 0, flags=1),
        _frame(1, 1, 0, flags=4),
        _frame(1, 1, 0, flags=8),
        _frame(2, 0, 7),
        _frame(3, 0, 0),
    ],
)
def test_whatever_else_is_written_is_written_as_it_is(data: bytes) -> None:
    assert Leave().judged(data) == data


def test_a_stream_that_has_ended_is_forgotten() -> None:
    leave = Leave()
    assert leave.judged(_frame(1, 1, LEAST - 1)) is None
    assert leave.judged(_frame(1, 1, 0, flags=4)) is not None
    assert leave.judged(_frame(1, 1, 1)) is None
