# SPDX-License-Identifier: Apache-2.0
"""What valid evidence proves of charges: bundles become facts and rate cards, proofs of entries lines (G3, G7).

No socket, no plane. What isn't `valid` proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import UNSET

from finops import charges
from finops.charges import Charged
from finops.errors import FinopsError
from finops.facts import Fact
from finops.focus.recompute import Proven
from ledger import proofs, proved
from ledger.bundle import Bundle, parse_bundle
from ledger.canonical import parse_time
from ledger.chain import Draft, body_of, parse_pending, scan_leaf
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


def told(found: Iterable[tuple[str, bytes]], trust: bytes) -> tuple[dict[str, tuple[Charged, ...]], dict[str, str]]:
    """The lines that each entry tells of, from proofs that it is in the log, and of which nothing is proven and why."""
    lines: dict[str, tuple[Charged, ...]] = {}
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
            said = _entry(document.leaf, None if document.fold is UNSET else document.fold.record)
            sections = charges.sections(body_of(said))
            lines[said.entry_id] = charges.rows(said.entry_id, parse_time(said.time), sections)
        except (LedgerError, FinopsError) as error:
            why[name] = f"{name}: {error}"
    return lines, why


def _entry(leaf: bytes, record: bytes | None) -> Draft:
    """What the writer of the entry said, or of the record that it folds."""
    return scan_leaf(leaf) if record is None else parse_pending(record)


def _of(bundle: Bundle) -> Proven:
    execution = msgspec.json.decode(bundle.contents["execution"])
    ran, cost, governance = bundle.execution_metadata, bundle.cost, bundle.governance_record
    if cost is None or ran.provider is None or ran.backend is None:
        raise FinopsError("nothing was charged")
    proof = bundle.proof
    return Proven(
        job_id=bundle.job_id,
        bundle_id=bundle.bundle_id,
        entry_id=_entry(proof.leaf, None if proof.fold is UNSET else proof.fold.record).entry_id,
        project=governance.project,
        cost_center=governance.cost_center,
        provider=ran.provider,
        backend=ran.backend,
        facts=tuple(msgspec.convert(one, Fact, strict=False) for one in execution["facts"]),
        card=bundle.contents["rate_card"],
        signed=tuple((one.meter, one.quantity, one.unit, one.rate, one.amount, one.source) for one in cost.lines),
    )
