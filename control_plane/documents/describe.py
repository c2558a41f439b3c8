# SPDX-License-Identifier: Apache-2.0
"""What the page says of a bundle: what, when, where, who, why, result, cost, decision, and what proves it (G4).

Bundle in, page out; nothing is judged here. The plane says of its own evidence that it is sealed, carried or waiting,
and how to have it verified; that it is good is for a verifier to say, who has keys from elsewhere. Each fact carries
who stands for it, as the record's provenance says. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

import msgspec

from control_plane.documents import proofs, result
from control_plane.documents.page import (
    Fact,
    Page,
    Part,
    Section,
    Table,
    Text,
    Tint,
    Vouched,
    count,
    duration,
    elapsed,
    listed,
    size,
    when,
)
from ledger.bundle import Bundle
from ledger.canonical import sha256, timestamp
from ledger.timestamp import parse, read

SOURCE_LINES, SOURCE_COLUMNS = 60, 400  # of a circuit that is printed; the rest is in the attached file
_BADGES: Mapping[str, tuple[str, Tint]] = {
    "COMPLETED": ("\N{CHECK MARK} Completed", "good"),
    "FAILED": ("\N{MULTIPLICATION X} Failed", "bad"),
    "DENIED": ("\N{CIRCLED MINUS} Denied", "bad"),
    "CANCELED": ("\N{BLACK SQUARE} Canceled", "quiet"),
    "UNCERTAIN": ("? Uncertain", "unclear"),
}
_PARTIAL: tuple[str, Tint] = ("\N{CHECK MARK} Completed, partial", "unclear")
_OUTCOMES: Mapping[str, str] = {
    "COMPLETED": "It ran to its end.",
    "FAILED": "It failed.",
    "DENIED": "It was denied and never ran.",
    "CANCELED": "It was canceled.",
    "UNCERTAIN": "It was handed to the backend, and what became of it is not known. It was not sent a second time.",
}
_MARKS = (
    "Each fact is marked where the record says who stands for it: (o) observed by the plane, (a) asserted by the "
    "provider or by whoever submitted, (r) recomputed by anyone from the attached file."
)


def page(bundle: Bundle, *, data: bytes, self_issued: bool) -> Page:
    """The page of the bundle whose file is `data`; `self_issued` says that the plane's own CA speaks for the page."""
    stamped = stamped_at(bundle)
    sections = (
        Section("What was run", tuple(_what(bundle))),
        Section("Who asked, and why", tuple(_who(bundle))),
        Section("Decision", tuple(_decision(bundle))),
        Section("Where and when", tuple(_where(bundle, stamped))),
        Section("Result", tuple(result.parts(bundle))),
        Section("Cost", tuple(_cost(bundle))),
        Section("What this rests on", tuple(proofs.rests_on(bundle, sha256(data), len(data)))),
        Section("How to verify it", tuple(proofs.how_to_verify(bundle, self_issued=self_issued))),
        Section("What could not be captured", tuple(proofs.gaps(bundle))),
        Section("Contents by hash", tuple(proofs.artefacts(bundle))),
        Section("Annex: all counts", tuple(result.annex(bundle))),
        Section("Annex: course, choice and environment", tuple(_annex(bundle))),
        Section("Annex: the circuit as submitted", tuple(_circuit(bundle))),
    )
    badge = _PARTIAL if bundle.partial is not None else _BADGES[bundle.state]
    ended = bundle.history[-1].at if bundle.history else bundle.submission.submitted_at
    return Page(
        title="Evidence of a quantum job",
        subject=bundle.job_id,
        badge=badge,
        lead=_lead(bundle),
        key=_MARKS,
        sections=tuple(section for section in sections if section.parts),
        foot=f"Job {bundle.job_id} · bundle {bundle.bundle_id}",
        written=stamped or ended,
    )


def stamped_at(bundle: Bundle) -> str | None:
    """The latest time that the bundle's tokens tell; nobody has judged them here."""
    times = [read(parse(stamp.token)).generated_at for stamp in bundle.signatures.timestamp_authority]
    return timestamp(max(times).astimezone(UTC)) if times else None


def _lead(bundle: Bundle) -> str:
    governed, asked = bundle.governance_record, bundle.submission
    what = f"{governed.actor} asked on {when(asked.submitted_at)} for {count(asked.shots)} shots of a {asked.format} "
    what += f"circuit in project {governed.project}. {_OUTCOMES[bundle.state]}"
    if bundle.partial is not None:
        what += f" Fewer shots than asked for were run: {bundle.partial}."
    if bundle.error is not None:
        what += f" {bundle.error.code}: {bundle.error.detail}"
    return what


def _what(bundle: Bundle) -> Iterator[Part]:
    asked, vouched = bundle.submission, _vouched(bundle)
    yield Fact("Job", bundle.job_id, mono=True)
    yield Fact(
        "Circuit",
        asked.format + (f", {asked.compiler_version}" if asked.compiler_version else ""),
        vouched("submission"),
    )
    yield Fact("Job spec", bundle.input_hash, vouched("input_hash"), mono=True)
    ran = bundle.execution_metadata.shots_executed
    yield Fact("Shots asked", count(asked.shots), vouched("submission"))
    yield Fact("Shots run", count(ran), vouched("execution_metadata.shots_executed"))
    for name, value in _parameters(bundle):
        yield Fact(name, value, "asserted")
    seed, method = bundle.execution_metadata.seed, bundle.execution_metadata.method
    if seed is not None:
        yield Fact("Seed", str(seed), vouched("execution_metadata"))
    if method is not None:
        yield Fact("Method", method, vouched("execution_metadata"))


def _parameters(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """What the spec asked for beside the circuit, where the file carries the spec."""
    spec = _json(bundle.contents.get("spec"))
    execution, circuit = spec.get("execution"), spec.get("circuit")
    if isinstance(circuit, dict) and circuit.get("parameters"):
        yield "Parameters", _short(circuit["parameters"])
    if isinstance(execution, dict) and execution.get("backend_constraints"):
        yield "Constraints", _short(execution["backend_constraints"])


def _who(bundle: Bundle) -> Iterator[Part]:
    governed, vouched = bundle.governance_record, _vouched(bundle)
    yield Fact("Actor", governed.actor, vouched("governance_record.actor"))
    rows = (
        ("Team", governed.team),
        ("Department", governed.department),
        ("Project", governed.project),
        ("Cost center", governed.cost_center),
        ("Classification", governed.classification),
        ("Purpose", governed.purpose),
        ("Justification", governed.justification),
    )
    for label, value in rows:
        if value or label == "Justification":
            yield Fact(label, value or "none was given")
    yield Fact("To be kept for", f"{count(bundle.submission.retention_days)} days")


def _decision(bundle: Bundle) -> Iterator[Part]:
    governed, vouched = bundle.governance_record, _vouched(bundle)
    yield Fact("Decision", listed(governed.policy_decisions), vouched("governance_record.policy_decisions"))
    yield Fact("Policies applied", listed(governed.policies_applied))
    if governed.reasons:
        rows = tuple((reason.code, reason.message) for reason in governed.reasons)
        yield Table((("Reason", 1.0, False), ("What it says", 3.0, False)), rows)
    if bundle.state == "DENIED" and bundle.error is not None and "deny" not in governed.policy_decisions:
        yield Text(f"Policy allowed it; the hold was refused: {bundle.error.detail}")
    yield Fact("Decided by", f"{governed.policy_engine}, policies {governed.policy_revision}", mono=True)
    yield Fact("Decision id", governed.decision_id, mono=True)


def _where(bundle: Bundle, stamped: str | None) -> Iterator[Part]:
    ran, vouched = bundle.execution_metadata, _vouched(bundle)
    if ran.backend is not None:
        yield Fact("Backend", ran.backend + (f" of {ran.provider}" if ran.provider else ""))
        yield Fact("Region", ran.region or "not told", vouched("execution_metadata.region"))
        yield Fact("Compliance zone", ran.compliance_zone or "not told", vouched("execution_metadata.compliance_zone"))
        yield Fact("Attempt", str(ran.attempt))
    else:
        yield Text("It reached no backend.")
    yield Fact("Submitted", when(bundle.submission.submitted_at), vouched("submission"))
    if ran.start_time is not None:
        yield Fact("Started", when(ran.start_time), vouched("execution_metadata.start_time"))
    if ran.end_time is not None:
        took = f" (after {elapsed(ran.start_time, ran.end_time)})" if ran.start_time is not None else ""
        yield Fact("Ended", when(ran.end_time) + took, vouched("execution_metadata.end_time"))
    if ran.backend is not None:
        yield Fact("Waited", duration(ran.queue_time_ms / 1000))
    outside = any(stamp.operator == "external" for stamp in bundle.signatures.timestamp_authority)
    if stamped is not None:
        whose = "an authority outside the plane" if outside else "the plane's own authority: self-issued time"
        yield Fact("Stamped", f"{when(stamped)} by {whose}")
    yield Text("Times other than the stamped one are the clocks of the plane's machines. All are UTC.")
    yield from proofs.network(bundle)


def _cost(bundle: Bundle) -> Iterator[Part]:
    cost = bundle.cost
    if cost is None:
        yield Text("Nothing was charged.")
        return
    yield Fact("Charged", f"{cost.amount} {cost.currency}", _vouched(bundle)("cost"))
    columns = (
        *(("Meter", 1.4, False), ("Quantity", 1.2, True), ("Unit", 1.0, False)),
        *(("Rate", 1.2, True), ("Amount", 1.2, True), ("Source", 1.0, False)),
    )
    rows = tuple((line.meter, line.quantity, line.unit, line.rate, line.amount, line.source) for line in cost.lines)
    if rows:
        yield Table(columns, rows)
    yield Fact("Rate card", cost.rate_card, mono=True)


def _annex(bundle: Bundle) -> Iterator[Part]:
    if bundle.history:
        rows = tuple((str(step.seq), step.state, when(step.at)) for step in bundle.history)
        yield Table((("Step", 0.5, True), ("State", 1.5, False), ("At", 3.0, False)), rows)
    if bundle.route:
        rows = tuple((line.backend, line.verdict, line.reason) for line in bundle.route)
        yield Table((("Backend", 1.2, False), ("Verdict", 1.0, False), ("Reason", 3.4, False)), rows)
    if bundle.environment:
        tools = tuple(sorted(bundle.environment.items()))
        yield Table((("Tool", 1.0, False), ("Version", 4.0, False)), tools)


def _circuit(bundle: Bundle) -> Iterator[Part]:
    """The source, where it is text and the file has it; else only its hash speaks."""
    import base64
    import binascii

    circuit = _json(bundle.contents.get("spec")).get("circuit")
    if bundle.submission.format == "QPY" or not isinstance(circuit, dict):
        return
    try:
        text = base64.b64decode(str(circuit.get("source", "")), validate=True).decode()
    except (binascii.Error, ValueError):
        return
    lines = text.splitlines()
    shown = [line if len(line) <= SOURCE_COLUMNS else line[:SOURCE_COLUMNS] + " …" for line in lines[:SOURCE_LINES]]
    yield Text("\n".join(shown), mono=True)
    if len(lines) > SOURCE_LINES:
        yield Text(
            f"{count(len(lines) - SOURCE_LINES)} more lines are in the attached file ({size(len(text.encode()))})."
        )


def _vouched(bundle: Bundle) -> Any:
    """Who stands for a member: what the record says of it, or of the member that it is a part of."""

    def vouched(path: str) -> Vouched | None:
        known = bundle.provenance
        return known.get(path) or known.get(path.partition(".")[0])

    return vouched


def _json(data: bytes | None) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data) if data is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    return value if isinstance(value, dict) else {}


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SOURCE_COLUMNS else text[:SOURCE_COLUMNS] + " … (whole in the attached file)"
