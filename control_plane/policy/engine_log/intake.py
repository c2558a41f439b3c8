# SPDX-License-Identifier: Apache-2.0
"""OPA's decision log as it comes in: which rules spoke, by which revision, when - and nothing of who asked (I10).

Pure. The bytes of an upload enter, rows and the number of refused events leave. OPA masks before it sends; an event
that holds an input all the same is refused, and of the others only the members below are kept, each in a closed form:
what a rule may have put into a text of its own stays out. This is a copy for whoever runs OPA: what was decided, and
why, is in the ledger.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct, field

from control_plane.policy.sidecar import NAME

LARGEST = 16 << 20
"""Bytes of an upload, unpacked; OPA sends a few hundred kilobytes."""

_MOST = 20_000
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_GZIP = 31  # zlib's word for "with gzip's header"


class Logged(Struct, frozen=True):
    """One decision of OPA. `failed` are the checks that didn't pass, `codes` those of its reasons."""

    decision_id: str
    decided_at: datetime
    revision: str
    failed: tuple[str, ...]
    codes: tuple[str, ...]


class Taken(Struct, frozen=True):
    """An upload: what is kept, and how many events were refused."""

    rows: tuple[Logged, ...]
    refused: int


def read(content: bytes) -> Taken:
    """The upload's decisions; raises ValueError where it is no decision log, or too large."""
    plain = _unpacked(content) if content[:2] == b"\x1f\x8b" else content
    events = msgspec.json.decode(plain, type=list[msgspec.Raw])
    if len(events) > _MOST:
        raise ValueError(f"more than {_MOST} events")
    rows = [row for row in map(_row, events) if row is not None]
    return Taken(tuple(rows), len(events) - len(rows))


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(content, LARGEST + 1)
    except zlib.error as fault:
        raise ValueError(f"no gzip: {fault}") from fault
    if len(plain) > LARGEST or not unpacker.eof:
        raise ValueError(f"cut off, or more than {LARGEST} bytes unpacked")
    return plain


def _row(raw: msgspec.Raw) -> Logged | None:
    try:
        event = msgspec.json.decode(raw, type=_Event)
        if event.input is not None:
            return None
        return Logged(
            decision_id=str(event.decision_id),
            decided_at=event.timestamp,
            revision=event.bundles[NAME].revision,
            failed=_words(check.name for check in event.result.checks if not check.passed),
            codes=_words(reason.code for reason in event.result.reasons),
        )
    except (ValueError, KeyError):
        return None


def _words(found: Iterable[str]) -> tuple[str, ...]:
    words = tuple(sorted(set(found)))
    if not all(_WORD.fullmatch(word) for word in words):
        raise ValueError("not a word of the policies")
    return words


class _Check(Struct, frozen=True):
    name: str
    passed: bool = field(name="pass")


class _Reason(Struct, frozen=True):
    code: str


class _Result(Struct, frozen=True):
    checks: tuple[_Check, ...]
    reasons: tuple[_Reason, ...]


class _Bundle(Struct, frozen=True):
    revision: Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]


class _Event(Struct, frozen=True):
    decision_id: UUID
    timestamp: Annotated[datetime, Meta(tz=True)]
    bundles: dict[str, _Bundle]
    result: _Result
    input: object = None
