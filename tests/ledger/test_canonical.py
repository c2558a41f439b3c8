# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: one value, one byte string (S3, S4, I6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import MAX_INTEGER, dumps, is_hash, loads, parse_time, sha256, timestamp
from ledger.errors import NotCanonical

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_it_is_rfc_8785_on_its_domain(value: object) -> None:
    """I6: against an implementation of others."""
    assert dumps(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert loads(dumps(value), what="value") == value


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        {"é": 1},
        {1: 2},
        "\ud800",
        ["\udfff"],
        b"bytes",
        datetime.now(UTC),
        {1, 2},
    ],
)
def test_what_lies_outside_the_domain_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        dumps(value)


def test_depth_is_bounded_on_both_ways() -> None:
    """A record nested to exhaust the stack is refused, not a crash."""
    deep: list[object] = []
    for _ in range(70):
        deep = [deep]
    with pytest.raises(NotCanonical):
        dumps(deep)
    for data in (b"[" * 70 + b"]" * 70, b"[" * 100_000 + b"]" * 100_000):
        with pytest.raises(NotCanonical):
            loads(data, what="value")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b" {}",
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b"1.0",
        b"1e3",
        b"-0",
        b"9007199254740992",
        b"123456789012345678901234567890",
        b'"\\u0041"',
        b'"\\/"',
        b'"\\u001F"',
        b'"\xff"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        '{"é":1}'.encode(),
        b"NaN",
        b"nul",
        b'{"a":1}{"a":1}',
    ],
)
def test_bytes_that_are_not_the_canonical_form_are_refused(data: bytes) -> None:
    """I4: no second spelling of a sealed value."""
    with pytest.raises(NotCanonical, match="thing"):
        loads(data, what="thing")


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_written_to_the_millisecond_and_read_back(at: datetime) -> None:
    assert parse_time(timestamp(at)) == at.replace(microsecond=at.microsecond // 1000 * 1000)


def test_a_time_is_utc_and_has_one_spelling() -> None:
    at = datetime(2026, 1, 9, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(at) == "2026-01-09T10:00:00.999Z"
    with pytest.raises(NotCanonical):
        timestamp(datetime(2026, 1, 9))  # noqa: DTZ001 - that is the fault
    for text in ("2026-01-09T10:00:00Z", "2026-01-09T10:00:00.999+00:00", "2026-13-09T10:00:00.999Z", ""):
        with pytest.raises(NotCanonical):
            parse_time(text)


def test_a_hash_has_one_spelling() -> None:
    assert sha256(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert is_hash(sha256(b"x"))
    assert not any(map(is_hash, (sha256(b"x").upper(), sha256(b"x") + "\n", "sha256:", None)))
