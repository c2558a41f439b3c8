# SPDX-License-Identifier: Apache-2.0
"""`qcos verify FILE --trust FILE --attack`: what became of each class of changed copies, and what survived and why.

Enters: the verdict on the untouched file, which must be `valid`, and the files. Leaves: a table or one document, and
the exit code: 0 only if every copy was found or is no change. The clock is here: it ends a long attack, and the table
then says that it isn't whole.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from ledger.attack import MOST, Attack, Judge, attack

if TYPE_CHECKING:
    from ledger.verify import Report

_SHOWN = 20  # survivors on a terminal; the document has all


def run(
    arguments: argparse.Namespace,
    report: Report,
    *,
    bundle: bytes,
    trust: bytes,
    other: bytes | None,
    now: datetime,
    judge: Judge | None = None,
) -> int:
    """Attack the file and print what came of it; a cost statement with what judges it."""
    if report.verdict != "valid":
        if arguments.json:
            _document(report, None)
        told = f"only a valid bundle or statement can be attacked; this one is {report.verdict}: {report.reason}"
        sys.stderr.write(f"not_attacked: {_plain(told)}\n")
        return 1
    began = time.monotonic()
    most = MOST if arguments.copies is None else arguments.copies
    clock = _clock(began, arguments.seconds)
    found = attack(bundle, trust, now, other=other, seed=arguments.seed, most=most, go_on=clock, judge=judge)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if arguments.json:
        _document(report, found)
    else:
        sys.stdout.write(_text(report, found, time.monotonic() - began))
    return 1 if found.holes() else 0


def _clock(began: float, seconds: int) -> Callable[[str, int], bool]:
    """Whether to go on; on a terminal it also says how far it is."""
    shown = 0.0

    def go_on(name: str, tried: int) -> bool:
        nonlocal shown
        now = time.monotonic()
        if sys.stderr.isatty() and now - shown > 0.2:
            shown = now
            sys.stderr.write(f"\r\x1b[K{now - began:5.1f} s  {name}: {tried}")
            sys.stderr.flush()
        return now - began < seconds

    return go_on


def _document(report: Report, found: Attack | None) -> None:
    import msgspec

    document = msgspec.to_builtins(report) | {"attack": msgspec.to_builtins(found)}
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def _text(report: Report, found: Attack, took_s: float) -> str:
    width = max(len(kind.name) for kind in found.classes)
    lines = [f"VALID ({report.assurance}), {len(report.checks)} checks; then attacked with seed {found.seed}", ""]
    lines.append(f"{'attack':{width}}  {'tried':>6}  {'found':>6}  {'survived':>8}")
    lines += [
        f"{kind.name:{width}}  {kind.tried:6}  {kind.found:6}  {kind.tried - kind.found:8}" for kind in found.classes
    ]
    rate = f"{found.kill_rate * 100:.2f} %" if found.found == found.tried else f"{found.kill_rate * 100:.4f} %"
    lines += ["", f"kill rate {rate}: {found.found} of {found.tried} changed copies found, in {took_s:.1f} s"]
    if not found.complete:
        lines.append("not whole: the time was up (--seconds); the classes with fewer copies were left unfinished")
    lines += [f"survived  {one.attack}: {one.path}\n          {one.why}" for one in found.survived[:_SHOWN]]
    if len(found.survived) > _SHOWN:
        lines.append(f"and {len(found.survived) - _SHOWN} more (--json)")
    return "".join(_plain(line) + "\n" for line in "\n".join(lines).split("\n"))


def _plain(line: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
