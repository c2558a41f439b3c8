# SPDX-License-Identifier: Apache-2.0
"""A cost statement judged offline: `ledger.cost_verify` with the sums computed again, from lines if given.

Bytes in, a report out; no socket. Here, because the ledger knows no prices and `finops` no signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from finops.allocation import Allocation, parse_method
from finops.errors import FinopsError
from finops.statement import Month, place, read_line, sums_agree
from ledger import cost_verify
from ledger.cost_statement import StatementFile
from ledger.errors import EvidenceInvalid
from ledger.verify import Report

_COMPARED = ("totals", "projects", "providers", "cost_centers", "pools", "rate_cards")


def judge(
    data: bytes,
    trust: bytes,
    now: datetime,
    *,
    lines: Iterable[bytes] | None = None,
    max_age: timedelta | None = None,
) -> Report:
    """Judge a statement file; `lines` are those of its lines file, with their line feeds."""

    def recount(file: StatementFile) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "sums", lambda: _said(lambda: sums_agree(_content(file)))
        if lines is not None:
            yield "lines", lambda: _said(lambda: _recomputed(file, lines))

    return cost_verify.verify(data, trust, now, recount=recount, max_age=max_age)


def _recomputed(file: StatementFile, lines: Iterable[bytes]) -> str:
    """The lines are those that were signed for, and every sum follows from them."""
    summed = Month(_allocation(file))
    before: tuple[datetime, str, int] | None = None
    for number, line in enumerate(lines, start=1):
        try:
            row = read_line(line)
        except FinopsError as error:
            raise EvidenceInvalid(f"line {number}: {error.detail}") from error
        if row.month != file.month:
            raise EvidenceInvalid(f"line {number}: of {row.month}")
        if before is not None and place(row) <= before:
            raise EvidenceInvalid(f"line {number}: twice, or before the line that it follows")
        before = place(row)
        summed.add(row)
    counted, signed = summed.lines(), file.lines
    if (counted.count, counted.sha256) != (signed.count, signed.sha256):
        raise EvidenceInvalid(f"{counted.count} lines, {counted.sha256}: not the lines that were signed for")
    made, said = summed.content(), _content(file)
    for member in _COMPARED:
        if made[member] != said[member]:
            raise EvidenceInvalid(f"{member}: not what the lines come to")
    return f"{counted.count} lines give every sum again"


def _allocation(file: StatementFile) -> Allocation | None:
    return None if file.method is None else parse_method(file.method)


def _content(file: StatementFile) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(file.record()))
    return content


def _said(check: Callable[[], str]) -> str:
    try:
        return check()
    except FinopsError as error:
        raise EvidenceInvalid(str(error)) from error
