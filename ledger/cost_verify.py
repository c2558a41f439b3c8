# SPDX-License-Identifier: Apache-2.0
"""The verdict on a cost statement: bytes of it and of a trust file in, the report of `ledger.verify` out (G7).

As there every check is run and named, no socket is opened, `invalid` means that something is wrong, `unanchored` that
the trust file knows no key of it. What the sums say is computed again by checks that the caller gives: this package
knows no prices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from ledger import cost_statement
from ledger.anchor import CLOCK_TOLERANCE, Anchored
from ledger.canonical import parse_time, sha256
from ledger.cost_statement import StatementFile
from ledger.errors import EvidenceInvalid, NotCanonical
from ledger.trust import parse_trust
from ledger.verify import Check, Checks, Report, report, trust_current

Recount = Callable[[StatementFile], Iterable[tuple[str, Callable[[], str]]]]
"""Named checks of what a statement says; each returns a detail or raises a LedgerError."""


def verify(data: bytes, trust: bytes, now: datetime, *, recount: Recount, max_age: timedelta | None = None) -> Report:
    """Judge a statement file by a trust file at the time `now` (aware); UsageError where either is no such file."""
    trusted = parse_trust(trust)
    checks = Checks()
    try:
        file = cost_statement.parse_file(data)
    except (NotCanonical, EvidenceInvalid) as error:
        checks.wrong = True
        name = "file_canonical" if isinstance(error, NotCanonical) else "statement_closed"
        checks.done.append(Check(name, False, str(error)))
        return report(checks, trusted, None)
    checks.done.append(Check("file_canonical", True, f"{len(data)} bytes"))
    checks.done.append(Check("statement_closed", True, f"version {file.version}"))
    checks.run("trust_current", lambda: trust_current(trusted, now, max_age))
    for name, check in recount(file):
        checks.run(name, check)
    anchor = Anchored(file, cost_statement.statement_bytes(file.record()), trusted)
    checks.run("method", lambda: _method(file))
    checks.run("statement_commitment", anchor.commitment)
    checks.run("leaf", lambda: _leaf(anchor, file))
    checks.run("inclusion", anchor.inclusion)
    checks.run("checkpoint_signatures", anchor.checkpoint)
    checks.run("cosignatures", anchor.cosignatures)
    checks.run("qcos_signature", anchor.qcos_signature)
    checks.run("ecdsa_signature", anchor.ecdsa_signature)
    checks.run("timestamps", anchor.timestamps)
    checks.run("trust_scope", anchor.scope)
    checks.run("key_validity", anchor.key_validity)
    checks.run("time_order", lambda: _time_order(anchor, file, now))
    return report(checks, trusted, anchor)


def _method(file: StatementFile) -> str:
    """The document that the file carries is the one that was signed for, or neither is there."""
    if (file.method is None) != (file.allocation is None):
        raise EvidenceInvalid("a method that the statement doesn't name, or none where it names one")
    if file.method is None or file.allocation is None:
        return "none: nothing was split"
    if sha256(file.method) != file.allocation.sha256:
        raise EvidenceInvalid("not the method that the statement names")
    return f"{file.allocation.name}, revision {file.allocation.revision}"


def _leaf(anchor: Anchored, file: StatementFile) -> str:
    """The entry tells of this statement, of this month, of these lines."""
    said = anchor.leaf()
    entry = anchor.entry()
    if entry.kind != cost_statement.CLOSED:
        raise EvidenceInvalid("an entry of another kind")
    told = entry.body.get("close")
    if not isinstance(told, dict) or (told.get("month"), told.get("lines")) != (file.month, file.lines.sha256):
        raise EvidenceInvalid("the entry closes another month, or with other lines")
    if entry.index < file.ledger.size:
        raise EvidenceInvalid("the entry lies before what the statement rests on")
    return said


def _time_order(anchor: Anchored, file: StatementFile, now: datetime) -> str:
    """The month ended, was frozen, closed, recorded, stamped, read: none before the one it follows."""
    if file.frozen_at[:7] <= file.month:
        raise EvidenceInvalid("the month was frozen before it was over")
    if file.previous is not None and file.previous.month >= file.month:
        raise EvidenceInvalid("the statement before it is of a later month")
    if parse_time(file.closed_at) > anchor.entry().time + CLOCK_TOLERANCE:
        raise EvidenceInvalid("recorded lies before closed")
    anchor.rising([("frozen", parse_time(file.frozen_at)), ("closed", parse_time(file.closed_at))], now)
    return "frozen, closed, recorded, stamped"
