# SPDX-License-Identifier: Apache-2.0
"""The verdict on a bundle: bytes of it and of a trust file in, a report out; no socket, clock or state.

The steps, numbered as in docs/evidence-format.md ("Verification"): (1) read both files strictly; (2)
compute again what the record says of itself; (3) commitment, leaf, inclusion; (4) the checkpoint's two
signatures, and the lines of witnesses; (5) the bundle's own signatures; (6) its time-stamp tokens; (7)
scope, validity and order in time. Every check is run and reported; the first that failed gives the reason.
`invalid`: something is wrong, whoever is trusted. `unanchored`: nothing is wrong, but no key or authority
of this trust file reaches it. `valid`: the rest. The assurance is computed here and never read from the
file. Not here: exit codes and printing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from msgspec import Struct

from ledger import asked, canonical, nodes, recompute
from ledger.anchor import FUTURE_TOLERANCE, Anchor, Anchored, Unreached
from ledger.bundle import Bundle, parse_bundle
from ledger.errors import EvidenceInvalid, LedgerError, NotCanonical
from ledger.timestamp import Operator
from ledger.trust import Trust, parse_trust

Verdict = Literal["valid", "invalid", "unanchored"]
Assurance = Literal["self_issued", "external_time", "witnessed"]


class Check(Struct, frozen=True):
    """One named check; `detail` says what was found, or what is wrong."""

    name: str
    ok: bool
    detail: str


class Time(Struct, frozen=True):
    """The trusted time of the evidence and who says it; both null when no token could be believed."""

    value: str | None
    operator: Operator | None


class Report(Struct, frozen=True):
    """The answer (contracts.md, `verify`); `trust_as_of` is when the trust file was issued."""

    verdict: Verdict
    reason: str
    assurance: Assurance
    checks: tuple[Check, ...]
    time: Time
    trust_as_of: str


class Checks:
    """Runs checks one after another and remembers how each ended."""

    def __init__(self) -> None:
        self.done: list[Check] = []
        self.wrong = False
        self.unreached = False

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Run one; whether it passed."""
        try:
            detail, passed = check(), True
        except Unreached as error:
            detail, passed, self.unreached = str(error), False, True
        except LedgerError as error:
            detail, passed, self.wrong = str(error), False, True
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
            # A hostile file has found what the check didn't think of: it is not valid, whatever it is.
            detail, passed, self.wrong = f"not of a form that can be checked ({type(error).__name__})", False, True
        self.done.append(Check(name, passed, detail))
        return passed

    def verdict(self) -> Verdict:
        """What all of them together say."""
        if self.wrong:
            return "invalid"
        return "unanchored" if self.unreached else "valid"

    def reason(self) -> str:
        """The first failure in the order of the report."""
        failed = (f"{check.name}: {check.detail}" for check in self.done if not check.ok)
        return next(failed, "every check passed")


def verify(
    bundle: bytes,
    trust: bytes,
    now: datetime,
    *,
    max_age: timedelta | None = None,
    only: frozenset[str] | None = None,
) -> Report:
    """Judge a bundle file by a trust file at the time `now` (aware); with `only`, an extract that carries no more.

    UsageError when either is no such file at all: not JSON, too large, a trust file that is not sound.
    """
    trusted = parse_trust(trust)
    checks = Checks()
    parsed = _parse(checks, bundle)
    if parsed is None:
        return report(checks, trusted, None)
    checks.run("trust_current", lambda: trust_current(trusted, now, max_age))
    _recompute(checks, parsed, only)
    anchor = Anchor(parsed, trusted)
    checks.run("statement_commitment", anchor.commitment)
    checks.run("leaf", anchor.leaf)
    checks.run("inclusion", anchor.inclusion)
    if asked.concerned(parsed):
        checks.run("enrolment", anchor.enrolment)
    checks.run("checkpoint_signatures", anchor.checkpoint)
    checks.run("cosignatures", anchor.cosignatures)
    checks.run("qcos_signature", anchor.qcos_signature)
    checks.run("ecdsa_signature", anchor.ecdsa_signature)
    checks.run("timestamps", anchor.timestamps)
    checks.run("trust_scope", anchor.scope)
    checks.run("key_validity", anchor.key_validity)
    checks.run("time_order", lambda: anchor.time_order(now))
    return report(checks, trusted, anchor)


def _parse(checks: Checks, data: bytes) -> Bundle | None:
    try:
        parsed = parse_bundle(data)
    except NotCanonical as error:
        checks.wrong = True
        checks.done.append(Check("file_canonical", False, str(error)))
        return None
    except EvidenceInvalid as error:
        checks.wrong = True
        checks.done.append(Check("predicate_closed", False, str(error)))
        return None
    checks.done.append(Check("file_canonical", True, f"{len(data)} bytes"))
    checks.done.append(Check("predicate_closed", True, f"version {parsed.version}"))
    return parsed


def _recompute(checks: Checks, bundle: Bundle, only: frozenset[str] | None) -> None:
    checks.run("input_hash", lambda: recompute.input_hash(bundle))
    checks.run("output_hash", lambda: recompute.output_hash(bundle))
    checks.run("contents", lambda: recompute.contents_closed(bundle, only))
    for part in bundle.artefacts:
        if part.name not in ("spec", "result"):
            checks.run(f"artefact:{part.name}", partial(recompute.content_hash, bundle, part))
    checks.run("shots_recomputed", lambda: recompute.shots(bundle))
    checks.run("cost_recomputed", lambda: recompute.cost(bundle))
    checks.run("governance", lambda: recompute.governance(bundle))
    checks.run("outcome", lambda: recompute.outcome(bundle))
    checks.run("spec", lambda: recompute.spec(bundle))
    checks.run("provenance", lambda: recompute.provenance(bundle))
    if asked.concerned(bundle):
        checks.run("envelope", lambda: asked.signed(bundle))
    for name, check in nodes.checks(bundle):
        checks.run(name, check)


def trust_current(trust: Trust, now: datetime, max_age: timedelta | None = None) -> str:
    """A stale trust file proves what it proved; the reader is told that later revocations may be missing.

    With `max_age` it reaches nothing (Unreached): expired, older than that, or issued in the future.
    """
    age = now - canonical.parse_time(trust.file.issued_at)
    expired = canonical.parse_time(trust.file.expires) < now
    said = f"version {trust.file.version}, {max(age.days, 0)} days old"
    if max_age is not None and (expired or age > max_age or age < -FUTURE_TOLERANCE):
        why = f"expired {trust.file.expires}" if expired else f"issued {trust.file.issued_at}"
        raise Unreached(f"stale: {said}, {why}; at most {max_age.total_seconds() / 86400:g} days are allowed")
    if expired:
        return f"stale: {said}, expired {trust.file.expires}, later revocations are not known"
    return f"{said}, until {trust.file.expires}"


def _assurance(verdict: Verdict, anchor: Anchored | None) -> Assurance:
    """The highest that holds: a witness saw the log and not only a digest, an outside clock saw the digest."""
    time = anchor.time() if anchor else None
    if verdict != "valid" or anchor is None or time is None:
        return "self_issued"
    if anchor.witnessed:
        return "witnessed"
    return "external_time" if time[1] == "external" else "self_issued"


def report(checks: Checks, trust: Trust, anchor: Anchored | None) -> Report:
    """What the checks come to."""
    time = anchor.time() if anchor else None
    verdict = checks.verdict()
    return Report(
        verdict=verdict,
        reason=checks.reason(),
        assurance=_assurance(verdict, anchor),
        checks=tuple(checks.done),
        time=Time(None, None) if time is None else Time(canonical.timestamp(time[0]), time[1]),
        trust_as_of=trust.file.issued_at,
    )
