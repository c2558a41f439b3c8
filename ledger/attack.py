# SPDX-License-Identifier: Apache-2.0
"""A sound bundle attacked: changed in every way that this project knows, and each copy judged as a stranger's would be.

Enters: a bundle, or a cost statement with what judges it, and a trust file, perhaps a second of its kind, a seed.
Leaves: for each class of attack how many copies were tried and found, and every copy that was still `valid`, with the
reason why that is no change, or without one, which is a hole. A copy is found if the verifier calls it anything but
`valid`; `ledger.verify`, or the judge of statements, is called as it stands, with no shortcut. The same seed makes the
same copies. Not here: the clock, which ends a long attack through `go_on`, and printing. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from ledger import attack_edits as edits
from ledger import attack_forge as forge
from ledger import cost_statement
from ledger.attack_edits import Copy, Pick
from ledger.attack_shape import read
from ledger.attack_spelling import spellings
from ledger.bundle import Bundle, Proof, Signatures, parse_bundle
from ledger.cost_statement import CostStatement, StatementFile
from ledger.errors import LedgerError, UsageError
from ledger.predicate import Predicate, statement_bytes
from ledger.trust import parse_trust
from ledger.verify import Report, verify

__all__ = ["Attack", "Kind", "Survivor", "attack"]

MOST = 2000  # copies of one class, where the file has more places
HOLE = "unexplained"
Judge = Callable[[bytes, bytes, datetime], Report]
"""The verdict on a file by a trust file at a time; LedgerError where it can't be judged."""


class Kind(Struct, frozen=True):
    """A class of attacks: how many copies were tried and how many of them found."""

    name: str
    tried: int
    found: int


class Survivor(Struct, frozen=True):
    """A changed copy that was still called valid; `why` begins with `unexplained` where that is a hole."""

    attack: str
    path: str
    why: str


class Attack(Struct, frozen=True):
    """What came of it; `kill_rate` is found / tried, `complete` false where time ended it."""

    seed: int
    complete: bool
    classes: tuple[Kind, ...]
    tried: int
    found: int
    kill_rate: float
    survived: tuple[Survivor, ...]

    def holes(self) -> tuple[Survivor, ...]:
        """The survivors that nothing explains."""
        return tuple(one for one in self.survived if one.why.startswith(HOLE))


def attack(
    bundle: bytes,
    trust: bytes,
    now: datetime,
    *,
    other: bytes | None = None,
    seed: int = 1,
    most: int = MOST,
    go_on: Callable[[str, int], bool] = lambda _name, _tried: True,
    judge: Judge | None = None,
) -> Attack:
    """Attack a file that this trust file calls valid; UsageError if it doesn't. A cost statement comes with its judge.

    `go_on(class, tried)` is asked before each copy; once it says no, the rest is left out.
    """
    judge = judge or verify
    whole = judge(bundle, trust, now)
    if whole.verdict != "valid":
        raise UsageError(
            f"only a valid bundle or statement can be attacked; this one is {whole.verdict}: {whole.reason}"
        )
    done = _Tally(bundle, trust, other, now, go_on, judge)
    for name, copies in _placed(bundle, trust, other, seed, most):
        for path, copy in copies:
            done.judge(name, path, copy)
    left = _sampled(bundle, seed, most)
    while left:  # in turn, so that time that is up cuts each alike
        for name, copies in list(left.items()):
            one = next(copies, None)
            if one is None:
                del left[name]
            else:
                done.judge(name, *one)
    return done.told(seed)


class _Tally:
    """Judges copies and counts what became of them."""

    def __init__(
        self,
        bundle: bytes,
        trust: bytes,
        other: bytes | None,
        now: datetime,
        go_on: Callable[[str, int], bool],
        judge: Judge,
    ) -> None:
        self._judge = judge
        self._bundle, self._trust, self._other, self._now = bundle, trust, other, now
        self._go_on, self._stopped = go_on, False
        self._tried: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._survived: list[Survivor] = []

    def judge(self, name: str, path: str, copy: bytes) -> None:
        """One copy; nothing once time is up, and nothing for a copy that changed nothing."""
        if copy in {self._bundle, self._other}:
            return
        self._tried[name] += 0
        self._stopped = self._stopped or not self._go_on(name, self._tried[name])
        if self._stopped:
            return
        self._tried[name] += 1
        try:
            report = self._judged(copy)
        except Exception as error:  # noqa: BLE001 - a verifier that breaks has given no verdict, and is told of
            self._survived.append(Survivor(name, path, f"{HOLE}: the verifier broke with {type(error).__name__}"))
            return
        if report is None or report.verdict != "valid":
            self._found[name] += 1
        else:
            self._survived.append(Survivor(name, path, _why(self._bundle, copy, self._other)))

    def _judged(self, copy: bytes) -> Report | None:
        """The verdict on a copy; None where it can't be judged at all, which ends in exit 2."""
        try:
            return self._judge(copy, self._trust, self._now)
        except LedgerError:
            return None

    def told(self, seed: int) -> Attack:
        """What came of all of them."""
        kinds = tuple(Kind(name, tried, self._found[name]) for name, tried in self._tried.items())
        tried, found = self._tried.total(), self._found.total()
        rate = found / tried if tried else 0.0
        return Attack(seed, not self._stopped, kinds, tried, found, rate, tuple(self._survived))


def _placed(
    bundle: bytes, trust: bytes, other: bytes | None, seed: int, most: int
) -> Iterator[tuple[str, Iterator[Copy]]]:
    """Each class that goes by places and parts, with its copies, made as they are wanted."""
    tree, trusted = read(bundle), parse_trust(trust)
    forger = forge.Forger(tree, trusted, f"attack {seed}", _statement(bundle))
    others = forge.another_job(tree, forger)
    if other is not None:
        _parse_as(bundle, other)
        others = {"the other file": read(other)} | others

    def pick(name: str, share: float) -> Pick:
        return Pick(f"{seed} {name}", max(8, int(most * share)))

    yield "stripped", edits.stripped(tree, pick("stripped", 0.5))
    yield "level lowered", edits.downgraded(tree)
    yield "added, own trust inside", edits.added(tree, read(trust), pick("added", 0.5))
    yield "another job's parts", forge.swapped(tree, others)
    yield "signed anew", forge.resigned(tree, forger)
    yield "tokens of own authorities", forge.restamped(tree, forger)
    yield "backdated", edits.redated(tree, pick("redated", 0.3))
    yield "renamed", edits.renamed(tree)
    yield "tails cut", edits.cut(tree, bundle, pick("cut", 0.5))
    yield "order changed", edits.reordered(tree, pick("order", 0.5))
    yield "spelled otherwise", spellings(tree, bundle, pick("spelled", 0.3))
    yield "values, hashes repaired", edits.repaired(tree, pick("repaired", 0.3))
    yield "values", edits.values(tree, pick("values", 1), inside=False)
    yield "values inside artefacts and entry", edits.values(tree, pick("inside", 0.5), inside=True)


def _sampled(bundle: bytes, seed: int, most: int) -> dict[str, Iterator[Copy]]:
    """The classes that have more places than anybody tries: the longer, the more of them."""
    return {
        "bits": edits.bits(bundle, Pick(f"{seed} bits", most)),
        "bits of signatures and proofs": edits.hidden_bits(read(bundle), Pick(f"{seed} hidden", most)),
        "bytes": edits.octets(bundle, Pick(f"{seed} bytes", most // 2)),
    }


def _statement(data: bytes) -> forge.Statement:
    """How records of this file's kind become what is signed."""
    if cost_statement.looks_like_one(data):
        return lambda record: cost_statement.statement_bytes(msgspec.convert(record, CostStatement))
    return lambda record: statement_bytes(msgspec.convert(record, Predicate))


def _parse_as(kind: bytes, data: bytes) -> Bundle | StatementFile:
    """A file of the same kind as another; LedgerError if it isn't."""
    return cost_statement.parse_file(data) if cost_statement.looks_like_one(kind) else parse_bundle(data)


def _said(file: Bundle | StatementFile) -> object:
    """What a file says, its proofs apart."""
    return (file.predicate(), file.contents) if isinstance(file, Bundle) else (file.record(), file.method)


def _why(bundle: bytes, copy: bytes, other: bytes | None) -> str:
    """Why a changed copy may be called valid, if it may: nothing in it is new."""
    before, after = _parse_as(bundle, bundle), _parse_as(bundle, copy)
    if _said(before) != _said(after):
        return f"{HOLE}: another record is called valid"
    if _grown(after) == _grown(before) and set(after.proof.cosignatures or ()) < set(before.proof.cosignatures or ()):
        return "not a change: what a witness said was left out, and the assurance says only what the rest proves"
    if other is not None and _drawn(after, before, _parse_as(bundle, other)):
        return "not a change: the record is the same, and its proof is the other file's"
    return f"{HOLE}: the record is the same, its proofs are not"


def _grown(bundle: Bundle | StatementFile) -> Bundle | StatementFile:
    """The file without what may be added to its proof after it was sealed."""
    return replace(bundle, proof=replace(bundle.proof, cosignatures=UNSET))


def _drawn(after: Bundle | StatementFile, *sources: Bundle | StatementFile) -> bool:
    """Whether each signature, token and part of the proof is, as it stands, one of the sources'."""
    return all(
        any(getattr(getattr(after, part), name) == getattr(getattr(one, part), name) for one in sources)
        for part, kind in (("signatures", Signatures), ("proof", Proof))
        for name in kind.__struct_fields__
    )
