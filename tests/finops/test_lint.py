# SPDX-License-Identifier: Apache-2.0
"""Every fault of a bad card is named with its file, line and field, and what is bad is never read (G6)."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import finops
from finops.errors import RateCardInvalid
from finops.lint import lint, notes
from finops.places import NoJson, placed
from finops.rates import parse_card
from tests.vectors.cards import make

CARDS = Path(finops.__file__).parent / "cards"
EXPECTED: dict[str, list[dict[str, Any]]] = json.loads((make.HERE / "expected.json").read_text())
NAMES = sorted({path.name.split(".")[0] for path in (make.HERE / "bad").glob("*.json")})


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_card_is_told_with_line_and_field(name: str) -> None:
    assert EXPECTED[name]
    assert make.found(name) == EXPECTED[name]


@pytest.mark.parametrize("name", sorted({*NAMES} - {*make.TOGETHER}))
def test_what_lint_finds_is_refused_when_it_is_read(name: str) -> None:
    (data,) = make.files(name).values()
    with pytest.raises(RateCardInvalid) as caught:
        parse_card(data)
    assert caught.value.field == EXPECTED[name][0]["field"]


def test_two_good_cards_can_be_bad_together() -> None:
    for name in make.TOGETHER:
        files = make.files(name)
        assert len(files) == 2
        assert not [fault for file, data in files.items() for fault in lint({file: data})]


def test_faults_of_several_files_are_told_at_once() -> None:
    files = make.files("negative_rate") | make.files("wrong_currency")
    assert [fault.file for fault in lint(files)] == ["negative_rate.json", "wrong_currency.json"]


def test_who_prices_reserved_time_is_told_what_it_is_not() -> None:
    """No fault: a network's windows can be billed so. Time between a session's jobs can't."""
    card = json.loads((CARDS / "own.json").read_text())
    cap = [{"each": "60", "of": "tasks"}]
    card["prices"][-1]["lines"].append({"meter": "reservation_seconds", "unit": "Seconds", "rate": "0.01", "cap": cap})
    sound = {"own.json": json.dumps(card, indent=1).encode()}
    assert lint(sound) == []
    (note,) = notes(sound)
    assert (note.file, note.field) == ("own.json", "$.prices[4].lines[3]")
    assert sound["own.json"].splitlines()[note.line].strip() == b'"meter": "reservation_seconds",'
    assert notes({"own.json": (CARDS / "own.json").read_bytes(), **make.files("negative_rate")}) == []


def test_who_writes_a_minimum_of_tasks_is_told_that_a_job_fills_it_as_a_whole() -> None:
    """And no more once the line says that it is each task's."""
    card = json.loads((CARDS / "own.json").read_text())
    line = card["prices"][0]["lines"][1]
    line["minimum"] = [{"each": "50", "of": "tasks"}]
    (note,) = notes({"own.json": json.dumps(card, indent=1).encode()})
    assert (note.field, "by task" in note.detail) == ("$.prices[0].lines[1]", True)
    line["by"] = "task"
    assert notes({"own.json": json.dumps(card).encode()}) == []


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(_json, st.sampled_from((None, 1, "\t")))
def test_json_with_its_lines_is_the_json_that_others_read(value: Any, indent: Any) -> None:
    assert placed(json.dumps(value, indent=indent).encode()).value == value


@given(st.text(alphabet='{}[]",:0123456789.eE-+ntf\\u\n ', max_size=30) | st.text(max_size=20))
def test_what_others_take_for_json_is_read_the_same_or_refused(text: str) -> None:
    """Never more than the standard reader takes; less only NaN and what isn't for cards."""
    try:
        found = placed(text.encode()).value
    except NoJson:
        return
    assert found == json.loads(text)


def test_a_member_that_stands_twice_is_placed_and_told() -> None:
    found = placed(b'{\n "a": 1,\n "b": [\n  {"c": 1,\n   "c": 2}]}')
    assert found.twice == ("$.b[0].c",)
    assert (found.line("$.a"), found.line("$.b[0].c"), found.line("$.b[0].d"), found.line("$.x")) == (2, 5, 4, 1)


def test_the_vectors_are_those_that_are_made() -> None:
    assert {path.name.split(".")[0] for path in Path(make.HERE / "bad").glob("*")} == {*EXPECTED}
