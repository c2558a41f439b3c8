# SPDX-License-Identifier: Apache-2.0
"""Crash points: named places where a process of the plane can be made to end by a real SIGKILL (profile `dev` only).

`QCOS_CRASH_AT=POINT` arms one point for one crash; `POINT:N` counts to the Nth time that a process reaches it. `up`
writes what is armed to `QCOS_HOME/crash/armed`; a process that dies there first renames that file to `fired`, durably,
so that what the supervisor starts again goes on. `QCOS_CRASH_AT=armed` arms nothing by itself: whatever is written to
the file while the plane runs is what fires next. Where nothing is set, `point` is a call that returns.

`POINTS` is the one list: the docs are made from it, and tests hold that each is called once, where its name says, and
that each is walked. A point stands in code as `crash.point("NAME")`; `ledger` may not import this, so its sealer is
given the function.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ARMED = "armed"

POINTS: dict[str, str] = {
    "admit.scanned": "the circuit is scanned; nothing is durable",
    "admit.looked": "price, budgets, usage and backends are read",
    "admit.decided": "policy has decided",
    "admit.recording": "job, hold and entries are made, nothing is written",
    "admit.refused": "the hold was refused, the denial isn't written",
    "admit.recorded": "durable, not answered",
    "claim.leased": "a lease is taken, nothing is told",
    "run.requeuing": "about to put a job that never ran back into the queue",
    "run.requeued": "the job is back in the queue",
    "run.rerouting": "about to put a job back whose backend failed, for another one",
    "run.rerouted": "the job is back in the queue, its new route open",
    "run.found": "a lost worker's token was asked for",
    "run.compiled": "compiled; nothing new is durable",
    "run.judged": "the dispatch gate let it pass",
    "run.asking": "about to tell what is to be approved",
    "run.asked": "the request for an approval is durable",
    "run.intending": "about to tell the client token",
    "run.intended": "the intent is durable, nothing is handed over",
    "run.submitted": "handed over, the handle isn't stored",
    "run.kept": "the handle is stored where another process can use it",
    "run.measured": "the outcome is read, not durable",
    "run.settling": "about to write outcome, money and evidence",
    "run.settled": "outcome, money and evidence are durable",
    "items.submitted": "one more item of a program is handed over, nothing tells of it",
    "items.ended": "one more item has ended, nothing of it is durable",
    "gate.decided": "a new decision at dispatch, nothing is durable",
    "gate.told": "the new decision is in the inbox, not committed",
    "gate.recorded": "the new decision is durable",
    "settle.charged": "facts and charges are known, nothing is written",
    "settle.proven": "the Statement is made, nothing is written",
    "approval.answering": "about to tell a person's answer, nothing of it is durable",
    "approval.answered": "the answer is durable, not answered",
    "control.requested": "a running job's cancel is noted, not committed",
    "control.canceling": "about to end a waiting job",
    "control.shifting": "about to tell hold or resume",
    "control.done": "the signal is durable, not answered",
    "budget.changed": "the limit is changed, not committed",
    "budget.told": "the change is in the inbox, not committed",
    "budget.done": "the change is durable, not answered",
    "erase.found": "a job's contents are found, nothing is erased",
    "erase.told": "keys are gone and the entry is in the inbox, not committed",
    "erase.done": "the erasure is durable, not answered",
    "seal.taken": "a batch is out of the inbox, not committed",
    "seal.placed": "placed and hashed in memory",
    "seal.written": "entries, tiles and signatures are written, not committed",
    "seal.signed": "the checkpoint is signed, nobody has seen it",
    "seal.checkpointed": "the checkpoint is written, not committed",
    "seal.committed": "committed, the head outside the database isn't replaced yet",
    "seal.kept": "the new head is on its way out",
    "stamp.fetched": "tokens are fetched, nothing is written",
    "stamp.stored": "tokens are written, not committed",
    "stamp.committed": "tokens are durable",
}


class _Watch:
    """What a process knows of the armed point: where it is written, and how often it was reached here."""

    def __init__(self, folder: Path) -> None:
        self._armed, self._fired = folder / ARMED, folder / "fired"
        self._reached: Counter[str] = Counter()

    def reached(self, name: str) -> None:
        try:
            text = self._armed.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return
        armed, _, times = text.partition(":")
        if armed != name or not known(text):
            return
        self._reached[name] += 1
        if self._reached[name] < int(times or 1):
            return
        try:
            self._armed.rename(self._fired)  # of two processes that come here at once, one ends
        except FileNotFoundError:
            return
        from ledger.keys import sync_folder  # brings cryptography, which settings are read without

        sync_folder(self._fired.parent)
        os.kill(os.getpid(), signal.SIGKILL)


_watch: _Watch | None = None


def point(name: str) -> None:
    """End this process if `name` is armed."""
    if _watch is not None:
        _watch.reached(name)


def known(value: str) -> bool:
    """Whether `value` may stand in QCOS_CRASH_AT."""
    name, colon, times = value.partition(":")
    counted = times.isascii() and times.isdigit() and int(times[:9]) > 0 and len(times) < 10
    return value == ARMED or (name in POINTS and (counted if colon else True))


def arm(home: Path, value: str | None) -> None:
    """Write what is armed for a plane that starts now; an earlier start's is forgotten."""
    folder = home / "crash"
    if value is None and not folder.exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if value == ARMED:
        return
    (folder / "fired").unlink(missing_ok=True)
    if value is None:
        (folder / ARMED).unlink(missing_ok=True)
    else:
        (folder / ARMED).write_text(value, encoding="ascii")


def watch(home: Path, value: str | None) -> Callable[[str], None]:
    """Begin to heed what is armed, in a process that a supervisor starts again; what the points call."""
    global _watch  # noqa: PLW0603 - a process has one, and a parameter through every step would cost more than it says
    _watch = None if value is None else _Watch(home / "crash")
    return point
