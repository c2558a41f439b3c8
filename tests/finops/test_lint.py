# SPDX-License-Identifier: Apache-2.0
"""Every fault of a bad card is named with its file, line and field, and what is bad is never read (G6)."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finops.errors import RateCardInvalid
from finops.lint import lint
from finops.places import NoJson, placed
from finops.rates import parse_card
from tests.vectors.cards import make

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
