# SPDX-License-Identifier: Apache-2.0
"""What valid evidence proves of charges: bundles become facts and rate cards, proofs of entries lines (G3, G7).

No socket, no plane. What isn't `valid` proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from finops import charges
from finops.errors import FinopsError
from finops.facts import Fact
from finops.focus.due import Proven, Told
from ledger import checkpoint, proofs, proved
from ledger.bundle import Bundle, Fold, parse_bundle
from ledger.canonical import parse_time
from ledger.chain import LeafRecord, body_of, parse_pending, scan_leaf
from ledger.errors import LedgerError
from ledger.verify import verify

NEEDED: Final = frozenset({"execution", "rate_card"})
"""What an extract carries: of the circuit and the result it has the hashes alone."""


def proven(
    bundles: Iterable[tuple[str, bytes]], trust: bytes, only: frozenset[str] | None = None
) -> tuple[dict[str, Proven], dict[str, str]]:
    """What each job's bundle proves, and of which jobs nothing is proven and why; raises LedgerError of the trust file.

    `only` where these are extracts. A job whose evidence tells of no charge is in neither.
    """
    found: dict[str, Proven] = {}
    why: dict[str, str] = {}
    now = datetime.now(UTC)
    for name, data in bundles:
        try:
            bundle = parse_bundle(data)
        except LedgerError as error:
            why[name] = f"{name}: {error}"
            continue
        report = verify(data, trust, now, only=only)
        if report.verdict != "valid":
            why[bundle.job_id] = f"its evidence is {report.verdict}: {report.reason}"
        elif bundle.cost is not None:
            try:
                found[bundle.job_id] = _of(bundle)
            except (KeyError, LedgerError, msgspec.MsgspecError, FinopsError) as error:
                why[bundle.job_id] = f"its evidence doesn't carry what the charge is made of: {error}"
    return found, why


def told(found: Iterable[tuple[str, bytes]], trust: bytes) -> tuple[dict[str, Told], dict[str, str]]:
    """What each entry tells of, from proofs that it is in the log, and of which nothing is proven and why."""
    lines: dict[str, Told] = {}
    why: dict[str, str] = {}
    now = datetime.now(UTC)
    for name, data in found:
        try:
            report = proved.prove(data, trust, now)
            if report.verdict != "valid":
                why[name] = f"its entry is {report.verdict}: {report.reason}"
                continue
            document = proofs.parse_document(data)
            if not isinstance(document, proofs.Inclusion):
                why[name] = f"{name}: not a proof of an entry"
                continue
            plane = checkpoint.parse(document.checkpoint.encode()).origin.rpartition("/")[2]
            one = _told(document.leaf, document.fold, plane)
            lines[one.rows[0].entry_id if one.rows else name] = one
        except (LedgerError, FinopsError) as error:
            why[name] = f"{name}: {error}"
    return lines, why


def _told(leaf: bytes, fold: Fold | UnsetType, plane: str) -> Told:
    """What the writer of an entry said, or of the record that it folds, which has no index of its own."""
    said = scan_leaf(leaf) if fold is UNSET else parse_pending(fold.record)
    body: dict[str, Any] = body_of(said)
    rows = charges.rows(said.entry_id, parse_time(said.time), charges.sections(body))
    corrects = body.get("corrects")
    month = corrects.get("month") if isinstance(corrects, dict) else None
    return Told(rows, said.tenant, plane, said.index if isinstance(said, LeafRecord) else None, month)


def _of(bundle: Bundle) -> Proven:
    execution = msgspec.json.decode(bundle.contents["execution"])
    ran, cost, proof = bundle.execution_metadata, bundle.cost, bundle.proof
    if cost is None or ran.provider is None or ran.backend is None:
        raise FinopsError("nothing was charged")
    facts = tuple(msgspec.convert(one, Fact, strict=False) for one in execution["facts"])
    items = execution.get("items", ())
    each = [{fact["meter"]: Decimal(fact["quantity"]) for fact in item["facts"]} for item in items if "facts" in item]
    waits = [one.quantity for one in facts if one.meter == "queue_seconds"]
    return Proven(
        job_id=bundle.job_id,
        bundle_id=bundle.bundle_id,
        provider=ran.provider,
        backend=ran.backend,
        waited=waits[0] if waits and bundle.state == "COMPLETED" else None,
        facts=facts,
        card=bundle.contents["rate_card"],
        signed=tuple((one.meter, one.quantity, one.unit, one.rate, one.amount, one.source) for one in cost.lines),
        told=_told(proof.leaf, proof.fold, bundle.scope.plane),
        each=tuple(each),
    )
