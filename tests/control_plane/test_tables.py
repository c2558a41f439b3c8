# SPDX-License-Identifier: Apache-2.0
"""What commands show: columns and pictures on terminals, tabs in pipes, one JSON document in any locale."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane import tables

ROWS = [("materials", "12.50", "80.0 %"), ("chemie-β", "3.125", "20.0 %")]
DRAWN = [tables.bar(12.5, 12.5), tables.bar(12.5, 3.125)]


class Screen(io.TextIOWrapper):
    def __init__(self, encoding: str, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="replace", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def shown(self) -> list[str]:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding).splitlines()


def _table(
    monkeypatch: pytest.MonkeyPatch, columns: int, *, encoding: str = "utf-8", terminal: bool = True
) -> list[str]:
    screen = Screen(encoding, terminal=terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    tables.table(("project", "spend", "share"), ROWS, DRAWN, "█ spent")
    return screen.shown()


def test_a_terminal_has_columns_numbers_to_the_right_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _table(monkeypatch, 80) == [
        "project     spend   share  █ spent",
        "materials  12.50   80.0 %  ████████████████████",
        "chemie-β    3.125  20.0 %  █████",
    ]


@pytest.mark.parametrize(("columns", "encoding"), [(40, "utf-8"), (80, "ascii"), (80, "iso-8859-1")])
def test_where_pictures_have_no_room_or_no_signs_the_columns_stand_alone(
    monkeypatch: pytest.MonkeyPatch, columns: int, encoding: str
) -> None:
    shown = _table(monkeypatch, columns, encoding=encoding)
    assert shown[1] == "materials  12.50   80.0 %"
    assert len(shown) == 3


def test_a_pipe_has_tabs_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _table(monkeypatch, 80, terminal=False) == ["materials\t12.50\t80.0 %", "chemie-β\t3.125\t20.0 %"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso-8859-1"])
def test_a_document_is_the_same_in_every_locale(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    screen = Screen(encoding, terminal=False)
    monkeypatch.setattr(sys, "stdout", screen)
    tables.document({"project": "chemie-β"})
    assert json.loads(screen.shown()[0]) == {"project": "chemie-β"}


@given(st.floats(-10, 1e12), st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=3))
def test_a_bar_is_never_longer_than_its_whole(whole: float, parts: list[float]) -> None:
    drawn = tables.bar(whole, *parts)
    assert len(drawn) <= tables.BAR
    assert (drawn[:1] == "█") or parts[0] <= 0 or whole <= 0 or drawn[:1] in "▒░"


def test_parts_stand_one_after_another() -> None:
    assert tables.bar(20, 10, 5, 5) == "█" * 10 + "▒" * 5 + "░" * 5
    assert tables.bar(20, 30, 5, -15) == "█" * 20
    assert tables.bar(1000, 1, 0, 999) == "█" + "░" * 19
    assert (tables.bar(1000, 1), tables.bar(1000, 0), tables.bar(0, 0)) == ("█", "", "")
