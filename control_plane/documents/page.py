# SPDX-License-Identifier: Apache-2.0
"""What a page of evidence is made of: sections of facts, tables, bars and sentences; and small ways to write them.

Values only, as text that nothing has made safe yet: whoever draws them treats every string as hostile. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from ledger.canonical import parse_time

Vouched = Literal["asserted", "observed", "recomputed"]
Tint = Literal["good", "bad", "unclear", "quiet"]


class Fact(Struct, frozen=True):
    """A label and what is known; `vouched` says who stands for it, `mono` that it is an identifier or hash."""

    label: str
    value: str
    vouched: Vouched | None = None
    mono: bool = False


class Table(Struct, frozen=True):
    """Columns (heading, share of the width, right-aligned or not) and rows; `mono` columns by number."""

    columns: tuple[tuple[str, float, bool], ...]
    rows: tuple[tuple[str, ...], ...]
    mono: frozenset[int] = frozenset()


class Bars(Struct, frozen=True):
    """A picture of counts: (label, count), what it leaves out, and what all of them add up to."""

    title: str
    bars: tuple[tuple[str, int], ...]
    rest: tuple[tuple[str, int], ...]
    total: int


class Text(Struct, frozen=True):
    """A paragraph; `mono` for a command to be typed, `strong` for what must not be overlooked."""

    text: str
    mono: bool = False
    strong: bool = False


Part: TypeAlias = Fact | Table | Bars | Text


class Section(Struct, frozen=True):
    """A heading and what stands under it."""

    title: str
    parts: tuple[Part, ...]


class Page(Struct, frozen=True):
    """The whole document."""

    title: str
    subject: str
    badge: tuple[str, Tint]
    lead: str
    key: str  # what the marks beside the facts mean
    sections: tuple[Section, ...]
    foot: str
    written: str  # the time that the document's own metadata tells


def when(time: str) -> str:
    """A time of the record as people read it: UTC, to the millisecond."""
    return f"{time[:10]} {time[11:-1]} UTC"


def elapsed(start: str, end: str) -> str:
    """The time between two times of the record."""
    return duration((parse_time(end) - parse_time(start)).total_seconds())


def duration(seconds: float) -> str:
    """Seconds in the largest units that say something."""
    if seconds < 120:
        return f"{seconds:.3f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def size(octets: int) -> str:
    """A length in bytes."""
    return f"{count(octets)} bytes"


def listed(words: Sequence[str]) -> str:
    """Words in a row; what there is to say where there are none."""
    return ", ".join(words) if words else "none"
