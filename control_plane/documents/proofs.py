# SPDX-License-Identifier: Apache-2.0
"""The part of the page that says what the evidence rests on, how to have it judged, and what is missing. Pure.

Careful words: an entry is *sealed*, an artefact is *carried*; whether that holds is said by a verifier alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from control_plane.documents.page import Fact, Part, Table, Text, count, listed, size
from ledger import checkpoint
from ledger.bundle import Bundle
from ledger.chain import scan_leaf

ATTACHED = "evidence.json"
_LEVELS = {
    "full": "full: signed with ML-DSA-65 and with ECDSA P-256, each signature stamped with the time",
    "standard": "standard: signed with ML-DSA-65; the checkpoint over its entry is stamped with the time",
    "sealed": "sealed: no signature of its own, since nothing was run; it rests on its entry in the log, under a "
    "checkpoint that is signed and stamped with the time",
}
_WHO = {"self": "the plane's own (self-issued time)", "external": "outside the plane"}


def rests_on(bundle: Bundle, file_hash: str, length: int) -> Iterator[Part]:
    """Level, entry, checkpoint, signatures, tokens, and the file that is attached."""
    proof, signatures = bundle.proof, bundle.signatures
    leaf, head = scan_leaf(proof.leaf), checkpoint.parse(proof.checkpoint.encode())
    yield Fact("Level", _LEVELS[bundle.evidence_level])
    yield Fact(
        "Speaks for", f"plane {bundle.scope.plane}, profile {bundle.scope.profile}, tenant {bundle.scope.tenant}"
    )
    yield Fact("Log", head.origin, mono=True)
    place = f"entry {count(leaf.index)} of the log, number {count(leaf.tenant_index)} of tenant {leaf.tenant}"
    if isinstance(proof.fold, msgspec.UnsetType):
        yield Fact("Sealed as", place)
    else:
        yield Fact("Sealed as", f"record {count(proof.fold.index)} of those folded under {place}")
    yield Fact("Under the checkpoint", f"of size {count(head.size)}, root sha256:{head.root.hex()}", mono=True)
    made = [
        name
        for name, signature in (
            ("ML-DSA-65", signatures.qcos_signature),
            ("ECDSA P-256", signatures.ecdsa_p256_signature),
        )
        if signature is not None
    ]
    yield Fact("Signatures carried", listed(made))
    tokens = [f"{number}: {_WHO[stamp.operator]}" for number, stamp in enumerate(signatures.timestamp_authority, 1)]
    yield Fact("Time-stamps carried", "; ".join(tokens) or "none")
    yield Fact("Bundle", bundle.bundle_id, mono=True)
    yield Fact("Attached file", f"{ATTACHED}, {size(length)}")
    yield Fact("Its hash", file_hash, mono=True)


def how_to_verify(bundle: Bundle, *, self_issued: bool) -> Iterator[Part]:
    """What a reader does who doesn't want to believe this page."""
    yield Text(
        "This page tells what the plane has recorded. It does not say that the record is good, and no page can say "
        "that of itself. Take the attached file, get the plane's trust file on another way than this page, and have "
        "the file judged, without any connection:"
    )
    yield Text(f"pdfdetach -saveall THIS.pdf\nqcos verify {ATTACHED} --trust TRUST.json", mono=True)
    yield Text(
        "The verifier recomputes hashes, shots and cost, checks signatures, time-stamps and the place in the log, and "
        "answers valid, invalid or unanchored. The format is open: docs/evidence-format.md suffices to write another."
    )
    whose = (
        "This page is signed under a certificate of the plane's own making (self-issued): a PDF reader calls the "
        "signer unknown until the plane's root certificate, which is in the trust file, is given to it."
        if self_issued
        else "This page is signed under a certificate that the plane's operator was given by a CA of its own choice."
    )
    yield Text(
        f"{whose} The hash of this whole file stands in the log, in an entry of tenant {bundle.scope.tenant} of kind "
        "evidence:document:issued: a reader's tick doesn't cover every byte of a PDF, that hash does."
    )


def gaps(bundle: Bundle) -> Iterator[Part]:
    """What is missing, and why."""
    if not bundle.gaps:
        yield Text("The record names no gap.")
        return
    rows = tuple((gap.field, gap.reason) for gap in bundle.gaps)
    yield Table((("What", 1.2, False), ("Why", 3.0, False)), rows)


def artefacts(bundle: Bundle) -> Iterator[Part]:
    """Each content by its hash, who stands for it, and whether the attached file carries it."""
    rows = tuple(
        (part.name, part.source, "carried" if part.carried else "by hash", count(part.size), part.sha256[7:])
        for part in bundle.artefacts
    )
    columns = (
        *(("Content", 2.6, False), ("Source", 1.9, False), ("In the file", 1.8, False)),
        *(("Bytes", 1.5, True), ("SHA-256", 10.7, False)),
    )
    yield Table(columns, rows, frozenset({4}))


def network(bundle: Bundle) -> Iterator[Part]:
    """Of a job that ran on a network: which node ran which fragment."""
    ran = _json(bundle.contents.get("network")).get("run")
    fragments = ran.get("fragments") if isinstance(ran, dict) else None
    if not isinstance(fragments, list):
        return
    rows = tuple(
        (
            str(part.get("fragment_id")),
            str(part.get("node_id") or "–"),
            str(part.get("status")),
            count(len(part.get("attempts") or ())),
        )
        for part in fragments
        if isinstance(part, dict)
    )
    columns = (("Fragment", 0.8, False), ("Node whose answer was accepted", 4.2, False), ("Status", 1.0, False))
    yield Table((*columns, ("Attempts", 0.8, True)), rows, frozenset({1}))


def _json(data: bytes | None) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data) if data is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    return value if isinstance(value, dict) else {}
