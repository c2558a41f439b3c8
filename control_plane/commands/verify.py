# SPDX-License-Identifier: Apache-2.0
"""`qcos verify FILE --trust FILE`: evidence, a proof or a cost statement judged offline, by keys from elsewhere.

Needs the base install alone and opens no socket. Exit 0 means `valid` and nothing else; 1 is `invalid` or
`unanchored`; 2 that one of the files cannot be judged at all. `--attack` then changes the file in every
way that `ledger.attack` knows: 0 there means that the file is valid and that no change to it went unseen.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from ledger.verify import Report

_MAX_LINE_BYTES = 1024 * 1024
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HELP = "judge an evidence bundle, a proof of the log or a cost statement offline: valid, invalid or unanchored"


def register(groups: Any) -> None:
    """Add the command."""
    command = groups.add_parser("verify", help=_HELP, description=f"{_HELP[0].upper()}{_HELP[1:]}.")
    command.add_argument("file", metavar="FILE", help="as `evidence get`, `ledger proof` or `costs statement` wrote it")
    command.add_argument(
        "--trust", metavar="FILE", required=True, help="the trust file, delivered apart from the bundle"
    )
    command.add_argument(
        "--max-trust-age",
        metavar="AGE",
        type=_age,
        help="refuse a trust file that is older: days, or a number with s, m, h or d",
    )
    beside = command.add_mutually_exclusive_group()
    beside.add_argument("--leaf", metavar="FILE", help="the entry that a .tlog-proof is about, where it carries none")
    beside.add_argument("--lines", metavar="FILE", help="a cost statement's lines, from which it is computed again")
    beside.add_argument("--bundle", metavar="FILE", help="the bundle whose entry a .tlog-proof is about")
    command.add_argument("--json", action="store_true", help="the whole report as one document")
    attack = command.add_argument_group("attacking it")
    attack.add_argument(
        "--attack", action="store_true", help="change the bundle or statement in every way known; each must be found"
    )
    attack.add_argument("--other", metavar="FILE", help="a second one, whose parts are put into it")
    attack.add_argument("--seed", type=int, default=1, metavar="N", help="decides the samples (1)")
    attack.add_argument("--copies", type=_count, default=None, metavar="N", help="copies of a class at most (2000)")
    attack.add_argument("--seconds", type=_count, default=30, metavar="N", help="end after so many (30)")
    command.set_defaults(run=_verify)


def _age(text: str) -> timedelta:
    """A duration: 30, 30d, 12h, 15m, 90s."""
    from datetime import timedelta

    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "d")
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r}; wanted: days, or a number with s, m, h or d")
    return timedelta(seconds=int(number) * _UNITS[unit])


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _verify(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime
    from functools import partial

    from ledger import cost_statement, proofs, tlogproof
    from ledger.bundle import MAX_FILE_BYTES
    from ledger.errors import UsageError
    from ledger.proved import prove
    from ledger.trust import MAX_TRUST_BYTES
    from ledger.verify import verify

    age: timedelta | None = arguments.max_trust_age
    file, trust, now = _read(arguments.file, MAX_FILE_BYTES), _read(arguments.trust, MAX_TRUST_BYTES), datetime.now(UTC)
    if arguments.lines is not None and not cost_statement.looks_like_one(file):
        raise UsageError("--lines goes with a cost statement")
    if cost_statement.looks_like_one(file):
        report = _statement(arguments, file, trust, now)
    elif tlogproof.looks_like_one(file) or proofs.looks_like_one(file):
        if arguments.attack:
            raise UsageError("--attack changes bundles and cost statements, and this is a proof")
        if tlogproof.looks_like_one(file):
            report = prove(file, trust, now, leaf=_leaf(arguments), max_age=age)
        else:
            report = prove(_read(arguments.file, proofs.MAX_PROOF_BYTES), trust, now, max_age=age)
    else:
        report = verify(file, trust, now, max_age=age)
    if (arguments.leaf or arguments.bundle) and not tlogproof.looks_like_one(file):
        raise UsageError("--leaf and --bundle go with a .tlog-proof")
    if arguments.attack:
        from control_plane import attacking

        other = None if arguments.other is None else _read(arguments.other, MAX_FILE_BYTES)
        judge = partial(_statement, arguments) if cost_statement.looks_like_one(file) else None
        return attacking.run(arguments, report, bundle=file, trust=trust, other=other, now=now, judge=judge)
    if arguments.json:
        import msgspec

        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        sys.stdout.write(text(report))
    return 0 if report.verdict == "valid" else 1


def _statement(arguments: argparse.Namespace, file: bytes, trust: bytes, now: datetime) -> Report:
    """A cost statement, with its sums computed again from its lines where they are given."""
    from contextlib import ExitStack
    from pathlib import Path

    from control_plane.costs import judging
    from ledger.errors import UsageError

    with ExitStack() as opened:
        try:
            read = None if arguments.lines is None else opened.enter_context(Path(arguments.lines).open("rb"))
        except OSError as error:
            raise UsageError(f"{arguments.lines}: {error.strerror}") from error
        # A longer line comes in parts, none of which is a line.
        lines = None if read is None else iter(lambda: read.readline(_MAX_LINE_BYTES), b"")
        return judging.judge(file, trust, now, lines=lines, max_age=arguments.max_trust_age)


def _leaf(arguments: argparse.Namespace) -> bytes | None:
    """The entry that the proof is held against, where one is given."""
    from ledger.bundle import MAX_FILE_BYTES, parse_bundle
    from ledger.errors import LedgerError, UsageError

    if arguments.bundle is None:
        return None if arguments.leaf is None else _read(arguments.leaf, 1024 * 1024)
    try:
        return parse_bundle(_read(arguments.bundle, MAX_FILE_BYTES)).proof.leaf
    except LedgerError as error:
        raise UsageError(f"{arguments.bundle}: {error}") from error


def _read(name: str, limit: int) -> bytes:
    """At most one byte more than the limit: the parser then refuses the size without the rest being read."""
    from pathlib import Path

    from ledger.errors import UsageError

    try:
        with Path(name).open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error


def text(report: Report) -> str:
    """The verdict, what it rests on, and a line a check; bytes of the file never reach the terminal raw."""
    width = max(len(check.name) for check in report.checks)
    if report.verdict == "valid":
        head = f"VALID ({report.assurance}), {len(report.checks)} checks"
    else:
        head = f"{report.verdict.upper()} {report.reason}"
    when = f"{report.time.value} by {report.time.operator} authority" if report.time.value else "none that is proven"
    lines = [head, f"time   {when}", f"trust  as of {report.trust_as_of}"]
    lines += [f"{'ok' if check.ok else 'FAIL':4} {check.name:{width}} {check.detail}" for check in report.checks]
    return "".join(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) + "\n" for line in lines
    )
