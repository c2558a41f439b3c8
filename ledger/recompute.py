# SPDX-License-Identifier: Apache-2.0
"""What a bundle says of itself, computed again from what it carries: hashes, shots, cost, agreement.

Enters: a parsed `Bundle`. Leaves: a detail for the report, or EvidenceInvalid saying what does not agree.
None of it needs a key: a record that contradicts itself is wrong whoever signed it. An artefact that the
file holds by hash only yields the detail `not_carried`. Not here: signatures, the log, time
(`ledger.verify`). Pure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from itertools import pairwise
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from ledger import billed, canonical
from ledger.bundle import MAX_CARRIED_BYTES, Bundle
from ledger.errors import EvidenceInvalid
from ledger.predicate import Approval, Artefact, CostLine, Handed, Money, Predicate
from ledger.recount import recount

NOT_CARRIED = "not_carried"
_EXACT = Context(prec=80)  # products of two 36-digit numbers and sums of thousands, without rounding
_RAN = frozenset({"compiled.json", "compiled.qasm3", "compiled.qpy", "plan"})  # of these, the artefact that ran
_ROUNDING = {"half_even": ROUND_HALF_EVEN, "half_up": ROUND_HALF_UP}


class _Rate(msgspec.Struct, frozen=True):
    meter: str
    unit: str
    rate: Money


class _Price(msgspec.Struct, frozen=True):
    meters: tuple[_Rate, ...]


class _Card(msgspec.Struct, frozen=True):
    """What a rate card must say to be computed with: decimals as text, never a float or NaN; it may say more."""

    currency: str
    precision: Money
    rounding: Literal["half_even", "half_up"]
    prices: tuple[_Price, ...]


_card = msgspec.json.Decoder(_Card)


def artefact(bundle: Bundle, name: str) -> Artefact | None:
    """The artefact of that name, if the record has one."""
    return next((part for part in bundle.artefacts if part.name == name), None)


def contents_closed(bundle: Bundle, only: frozenset[str] | None = None) -> str:
    """The file carries exactly the artefacts that the record says it carries, within 1 MB; an extract `only` some."""
    names = [part.name for part in bundle.artefacts]
    if len(names) != len(set(names)):
        raise EvidenceInvalid("an artefact is listed twice")
    carried = {part.name for part in bundle.artefacts if part.carried and (only is None or part.name in only)}
    for name in sorted(carried ^ set(bundle.contents)):
        raise EvidenceInvalid(
            f"{name} is {'missing from' if name in carried else 'not a carried artefact, but in'} contents"
        )
    total = sum(len(content) for content in bundle.contents.values())
    if total > MAX_CARRIED_BYTES:
        raise EvidenceInvalid(f"contents of {total} bytes")
    return f"{len(carried)} carried, {len(names) - len(carried)} by hash"


def content_hash(bundle: Bundle, part: Artefact) -> str:
    """The carried bytes are the artefact's."""
    content = bundle.contents.get(part.name)
    if content is None:
        return NOT_CARRIED
    if len(content) != part.size:
        raise EvidenceInvalid(f"{len(content)} bytes where {part.size} are recorded")
    if canonical.sha256(content) != part.sha256:
        raise EvidenceInvalid(f"the content has another hash than {part.sha256}")
    return part.sha256


def input_hash(bundle: Bundle) -> str:
    """`input_hash` is the hash of the job spec as accepted."""
    spec = artefact(bundle, "spec")
    if spec is None or spec.sha256 != bundle.input_hash:
        raise EvidenceInvalid("input_hash is not the hash of the artefact spec")
    return content_hash(bundle, spec)


def output_hash(bundle: Bundle) -> str:
    """`output_hash` is the hash of the measured result; null exactly where there is none."""
    result = artefact(bundle, "result")
    if (result.sha256 if result else None) != bundle.output_hash:
        raise EvidenceInvalid("output_hash is not the hash of the artefact result")
    return content_hash(bundle, result) if result else "no result"


def shots(bundle: Bundle) -> str:
    """Shots are counted again: the counts, each block's and each item's, and what the record says was executed."""
    content = bundle.contents.get("result")
    if content is None:
        return NOT_CARRIED if bundle.output_hash else "no result"
    return f"{recount(bundle, content, bundle.contents.get('spec'))} shots counted"


def cost(bundle: Bundle) -> str:
    """The charge again: a line is quantity times rate, rounded as the card says; the amount their sum."""
    if bundle.cost is None:
        return "no charge"
    total = Decimal(0)
    for line in bundle.cost.lines:
        total = _EXACT.add(total, Decimal(line.amount))
    _same(total, Decimal(bundle.cost.amount), "the amount against the sum of its lines")
    card = artefact(bundle, "rate_card")
    if card is not None:
        _same(card.sha256, bundle.cost.rate_card, "the rate card's hash")
    content = bundle.contents.get("rate_card")
    if content is None:
        return f"sum of {len(bundle.cost.lines)} lines; rate card {NOT_CARRIED}"
    if billed.second(content):
        run = bundle.execution_metadata
        ran_on, facts = (run.provider, run.backend), bundle.contents.get("execution")
        billed.recomputed(bundle.cost.lines, bundle.cost.currency, ran_on, content, facts)
    else:
        _priced(bundle.cost.lines, bundle.cost.currency, content)
    return f"{bundle.cost.amount} {bundle.cost.currency} from {len(bundle.cost.lines)} lines"


def _priced(lines: tuple[CostLine, ...], currency: str, content: bytes) -> None:
    try:
        card = _card.decode(content)
    except (ValueError, RecursionError) as error:
        raise EvidenceInvalid(f"rate_card: not a rate card: {error}") from error
    step, rounding = Decimal(card.precision), _ROUNDING[card.rounding]
    rates = {(rate.meter, rate.unit, Decimal(rate.rate)) for price in card.prices for rate in price.meters}
    _same(card.currency, currency, "the currency")
    for line in lines:
        rate = Decimal(line.rate)
        if (line.meter, line.unit, rate) not in rates:
            raise EvidenceInvalid(f"{line.meter}: no such rate on the card")
        try:
            due = _EXACT.multiply(Decimal(line.quantity), rate).quantize(step, rounding, _EXACT)
        except ArithmeticError as error:
            raise EvidenceInvalid("rate_card: a precision that cannot be") from error
        _same(Decimal(line.amount), due, f"the amount of {line.meter}")


def governance(bundle: Bundle) -> str:
    """The decision and the state agree: what was denied did not run, what ran was allowed."""
    record, denied = bundle.governance_record, bundle.state == "DENIED"
    refused = "deny" in record.policy_decisions
    if bundle.approval is not UNSET:
        _approval(bundle, bundle.approval)
    elif refused and not denied:
        raise EvidenceInvalid("a denied job in another state than DENIED")
    if bundle.delegation is not UNSET:
        _delegation(bundle.delegation, record.actor)
    if denied and not record.reasons and bundle.error is None:
        raise EvidenceInvalid("a denial without a reason")
    if not record.policies_applied:
        raise EvidenceInvalid("no policy was applied")
    return "denied" if denied else "allowed"


def _delegation(steps: Sequence[Handed], actor: str) -> None:
    """Who acted for the actor: it begins with the actor, and each step is handed on by whom the one before named."""
    by = actor
    for step in steps:
        if step.by != by:
            raise EvidenceInvalid(f"delegation: {step.by} handed on what {by} has")
        by = step.to
    if len({step.delegation for step in steps}) != len(steps):
        raise EvidenceInvalid("delegation: a step is there twice")


def _approval(bundle: Bundle, given: Approval) -> None:
    """What policy let pass only with an approval: what ran is what a second person approved, in time."""
    record, run = bundle.governance_record, bundle.execution_metadata
    if "deny" in record.policy_decisions and not set(given.reasons) <= {reason.code for reason in record.reasons}:
        raise EvidenceInvalid("an approval of reasons that the decision doesn't have")
    if bundle.evidence_level == "sealed":
        return
    word = given.answer
    if given.state != "used" or word is None or word.expires_at is None or given.used_at is None:
        raise EvidenceInvalid("it ran without an approval")
    if word.by == record.actor:
        raise EvidenceInvalid("approved by who asked for it")
    if given.requested_at is None or not given.requested_at <= word.at <= given.used_at < word.expires_at:
        raise EvidenceInvalid("request, approval, use and expiry are out of order")
    if given.backend != run.backend:
        raise EvidenceInvalid(f"{given.backend} was approved, it ran on {run.backend}")
    ran = {part.sha256 for part in bundle.artefacts if part.name in _RAN}
    if bundle.state == "COMPLETED" and given.compiled not in ran:
        raise EvidenceInvalid(f"{given.compiled} was approved, and is not what ran")


def outcome(bundle: Bundle) -> str:
    """State, level, result and error agree (design, "Words")."""
    run, state = bundle.execution_metadata, bundle.state
    if state == "COMPLETED":
        if bundle.error or not bundle.output_hash or None in (run.backend, run.start_time, run.end_time):
            raise EvidenceInvalid("COMPLETED needs a result, a backend and times, and has no error")
        if bundle.partial is None and run.shots_executed < bundle.submission.shots:
            raise EvidenceInvalid("fewer shots than asked, and no reason in partial")
    if state in ("FAILED", "UNCERTAIN") and bundle.error is None:
        raise EvidenceInvalid(f"{state} without an error")
    if state == "DENIED" and bundle.evidence_level != "sealed":
        raise EvidenceInvalid("a denial rests on checkpoint and proof")
    if bundle.evidence_level == "sealed" and (run.start_time or run.shots_executed or bundle.output_hash):
        raise EvidenceInvalid("only a job that never started is without a signature")
    if bundle.evidence_level == "sealed" and bundle.cost is not None and Decimal(bundle.cost.amount) != 0:
        raise EvidenceInvalid("a job that never started costs nothing")
    return state


def provenance(bundle: Bundle) -> str:
    """Provenance speaks only of fields that the record has, and sequence numbers rise."""
    for path in bundle.provenance:
        if path.split(".")[0] not in Predicate.__struct_fields__:
            raise EvidenceInvalid(f"provenance of an unknown field {path}")
    numbers = [step.seq for step in bundle.history]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise EvidenceInvalid("history: sequence numbers that do not rise")
    return f"{len(bundle.provenance)} fields, {len(bundle.gaps)} gaps"


def spec(bundle: Bundle) -> str:
    """The record repeats the accepted job spec faithfully, wherever both speak of the same thing."""
    content = bundle.contents.get("spec")
    if content is None:
        return NOT_CARRIED
    document = _object(content, "spec")
    record, asked = bundle.governance_record, bundle.submission
    wanted = {
        "governance": {
            name: getattr(record, name)
            for name in ("project", "cost_center", "classification", "purpose", "justification")
        },
        "circuit": {"format": asked.format, "compiler_version": asked.compiler_version},
        "execution": {"shots": asked.shots or None},  # null where a precision was asked for
        "evidence_requirements": {"retention_days": asked.retention_days},
    }
    for section, fields in wanted.items():
        there = document.get(section)
        for name, value in fields.items():
            if isinstance(there, dict) and name in there:
                _same(there[name], value, f"{section}.{name}")
    _source(bundle, document)
    _approved(bundle, document)
    return "agrees with the record"


def _source(bundle: Bundle, document: dict[str, Any]) -> None:
    """The artefact `source` is the circuit that the spec holds in base64."""
    part, circuit = artefact(bundle, "source"), document.get("circuit")
    if part is None or not isinstance(circuit, dict) or not isinstance(circuit.get("source"), str):
        return
    try:
        source = base64.b64decode(circuit["source"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise EvidenceInvalid("circuit.source is not base64") from error
    _same(canonical.sha256(source), part.sha256, "circuit.source")


def _approved(bundle: Bundle, document: dict[str, Any]) -> None:
    """The sources that were approved are those of the spec, in its order."""
    if bundle.approval is UNSET or not bundle.approval.sources:
        return
    program = document.get("program")
    several = program.get("circuits") if isinstance(program, dict) else None
    circuits = several if isinstance(several, list) else [document.get("circuit")]
    found = tuple(_hash_of(circuit) for circuit in circuits)
    _same(bundle.approval.sources, found, "approval.sources")


def _hash_of(circuit: object) -> str:
    source = circuit.get("source") if isinstance(circuit, dict) else None
    try:
        return canonical.sha256(base64.b64decode(source if isinstance(source, str) else "", validate=True))
    except (binascii.Error, ValueError) as error:
        raise EvidenceInvalid("a circuit's source is not base64") from error


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise EvidenceInvalid(f"{what}: not JSON") from error
    if not isinstance(value, dict):
        raise EvidenceInvalid(f"{what}: not an object")
    return value


def _same(got: object, want: object, what: str) -> None:
    if got != want:
        raise EvidenceInvalid(f"{what}: {got} is not {want}")
