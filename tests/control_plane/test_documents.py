# SPDX-License-Identifier: Apache-2.0
"""The page about evidence: it says what an auditor asks, in careful words, whatever strangers wrote (G3, G4, I10)."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.documents import describe, glyphs
from control_plane.documents.page import Bars, Fact, Page, Table, Text
from control_plane.documents.talk import Chain, Order
from ledger import documents, timestamp, tsa
from ledger.bundle import parse_bundle
from ledger.canonical import dumps, parse_time, sha256
from ledger.document_keys import OWN, create_document_keys, load_document_key, read_chain
from tests.documents import PASSED, attached, judge, pdfsig
from tests.ledger.plane import KINDS, RESULT, T0, Plane, record

HOSTILE = ") Tj ET\nendstream endobj <</S/JavaScript/JS(app.alert(1))>> \\( \x00\x1b[2J \u202egnp.exe %PDF-1.7 <script>"
WIDE = "Müller-Straße Ωμέγα Ελλάδα Привет 量子 שלום مرحبا 🙂 a\u0301"
LONG = "x" * 3000


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    """A plane in memory, and its document key."""
    folder = tmp_path_factory.mktemp("documents")
    create_document_keys(folder / "sealer", folder / "document", name="plane-1 documents", now=T0)
    made = Plane(folder)
    made.folder = folder  # type: ignore[attr-defined]
    return made


def page_of(data: bytes) -> Page:
    return describe.page(parse_bundle(data), data=data, self_issued=True)


def texts(page: Page) -> str:
    """Everything that the page says."""
    said = [page.title, page.subject, page.badge[0], page.lead, page.foot]
    for section in page.sections:
        said.append(section.title)
        for part in section.parts:
            match part:
                case Fact():
                    said += [part.label, part.value]
                case Table():
                    said += [name for name, *_ in part.columns] + [cell for row in part.rows for cell in row]
                case Bars():
                    said += [part.title, *(f"{label} {number}" for label, number in (*part.bars, *part.rest))]
                case Text():
                    said.append(part.text)
    return "\n".join(said)


@pytest.mark.parametrize("kind", KINDS)
def test_each_end_has_a_page_that_answers_what_an_auditor_asks(plane: Plane, kind: str) -> None:
    """G4: what, when, where, who, why, result, cost, decision; and what it rests on."""
    data = plane.bundle(kind)
    found, bundle = texts(page_of(data)), parse_bundle(data)
    governed = bundle.governance_record
    for wanted in (
        bundle.job_id,
        governed.actor,
        governed.project,
        str(governed.justification),
        governed.classification,
        governed.purpose,
        governed.decision_id,
        bundle.input_hash,
        bundle.bundle_id,
        sha256(data),
        "self-issued",
        "the backend does not say",
        *(artefact.sha256[7:] for artefact in bundle.artefacts),
    ):
        assert wanted in found
    if bundle.error is not None:
        assert bundle.error.detail in found
    if bundle.cost is not None:
        assert "0.38 USD" in found
    if kind == "completed_full":
        assert "00 493" in found
        assert "11 489" in found
    if kind == "denied":
        assert "needs quantum-engineer" in found


def test_the_plane_never_calls_its_own_evidence_good(plane: Plane) -> None:
    """It says sealed, carried, waiting; what a verifier may answer is told as the verifier's answers."""
    for kind in KINDS:
        found = texts(page_of(plane.bundle(kind))).replace("answers valid, invalid or unanchored", "")
        assert not re.search(r"\b(valid|verified|trusted|authentic|genuine|certified)\b", found)
        assert "qcos verify" in found


def test_a_program_has_a_picture_for_each_item_and_an_end_to_them(plane: Plane) -> None:
    members, contents = record("completed_full")
    item = {"item": 0, "circuit": 0, "parameters": 1, "basis": "ZX", "shots": 10, "counts": {"00": 9, "11": 1}}
    items = [item | {"item": number} for number in range(40)]
    contents["result"] = dumps({"items": items, "shots": 400})
    for part in members["artefacts"]:
        if part["name"] == "result":
            part |= {"sha256": sha256(contents["result"]), "size": len(contents["result"])}
    found = page_of(plane.seal(members, contents))
    bars = [part for section in found.sections for part in section.parts if isinstance(part, Bars)]
    assert len(bars) == 24
    assert bars[3].title == "Item 3: circuit 0, parameter set 1, basis ZX"
    assert "16 more items are in the attached file" in texts(found)


def test_many_outcomes_are_pictured_in_part_and_told_in_whole(plane: Plane) -> None:
    members, contents = record("completed_full")
    counts = {f"{number:012b}": 1 + number % 7 for number in range(900)}
    contents["result"] = dumps(RESULT | {"counts": counts})
    for part in members["artefacts"]:
        if part["name"] == "result":
            part |= {"sha256": sha256(contents["result"]), "size": len(contents["result"])}
    found = page_of(plane.seal(members, contents))
    (bars,) = [part for section in found.sections for part in section.parts if isinstance(part, Bars)]
    assert sum(number for _, number in (*bars.bars, *bars.rest)) == sum(counts.values()) == bars.total
    assert "300 more outcomes are in the attached file" in texts(found)


def test_what_no_font_has_is_told_by_its_number() -> None:
    covered = {ord(character) for character in "abc ü"}
    assert glyphs.shown("abc\x00\u202e量u\u0308", covered) == "abc⟨U+0000⟩⟨U+202E⟩⟨U+91CF⟩ü"
    assert glyphs.shown("a\r\nb\tc", covered) == "a\nb    c"
    assert glyphs.shown("a" * 5000, covered).endswith("… (1,000 more characters in the attached file)")


def test_lines_are_never_wider_than_their_room() -> None:
    def measure(text: str) -> float:
        return float(len(text))

    text = f"two words {LONG} and\nanother paragraph"
    for anywhere in (False, True):
        lines = glyphs.wrap(text, 40, measure, anywhere=anywhere)
        assert max(map(len, lines)) <= 40
        assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    assert glyphs.wrap("", 40, measure) == [""]
    assert glyphs.wrap("abc", 0.5, measure) == ["a", "b", "c"]


def made(plane: Any, data: bytes) -> bytes:
    """The whole document, drawn, signed and stamped as the child does it, by keys that the test holds."""
    from control_plane.documents import draw, signing

    chain = read_chain(plane.folder / "document" / OWN)
    key = load_document_key(plane.folder / "sealer")
    authority = plane.authorities[0][1]
    revoked = tsa.load_revoked(plane.folder / "self")
    assert revoked is not None

    def sign(digest: bytes) -> bytes:
        attributes = documents.signed_attributes(f"sha256:{digest.hex()}", chain.certificates[0])
        return key.sign(attributes)

    def stamp(digest: bytes) -> bytes:
        nonce, now = secrets.randbits(60), datetime.now(UTC)
        reply = tsa.issue(authority, timestamp.request(digest, nonce), now=now, serial=nonce + 1)
        return timestamp.token_of(reply, digest=digest, nonce=nonce)

    page = page_of(data)
    order = Order(data, Chain(chain.certificates, chain.crls), True, Chain(authority.chain, (revoked,)), None)
    pdf = draw.draw(page, ("evidence.json", data), parse_time(page.written))
    return signing.sign(pdf, order, signature=sign, token=stamp, outside=stamp)


def trust_of(plane: Any) -> bytes:
    """The plane's trust, with the chain of its documents."""
    chain = read_chain(plane.folder / "document" / OWN).certificates
    import base64

    told = [base64.b64encode(part).decode() for part in chain]
    return dumps(json.loads(plane.trust()) | {"documents": [{"certificates": told}]})


@pytest.fixture(scope="module")
def hostile(plane: Plane) -> tuple[bytes, bytes]:
    """A bundle in which strangers wrote what they could, and its document."""
    members, contents = record("completed_full")
    members["governance_record"] |= {"justification": f"{HOSTILE}\n{WIDE}", "purpose": HOSTILE, "team": LONG}
    members["governance_record"]["policies_applied"] = [f"policy-{number} {WIDE}" for number in range(60)]
    members["gaps"] = [{"field": LONG[:200], "reason": HOSTILE}]
    data = plane.seal(members, contents)
    return data, made(plane, data)


def test_a_document_is_b_lta_to_a_judge_that_we_did_not_write(plane: Plane, hostile: tuple[bytes, bytes]) -> None:
    """G3: signature, its stamp, revocation lists and a stamp over it all, offline; the bundle in it byte for byte."""
    data, pdf = hostile
    found = judge(pdf, trust_of(plane))
    assert (found.indication, found.signatures, found.stamps) == (PASSED, 1, 1)
    assert attached(pdf) == {"evidence.json": data}


def test_without_the_planes_root_it_is_not_believed(plane: Plane, hostile: tuple[bytes, bytes]) -> None:
    assert judge(hostile[1], plane.trust()).indication != PASSED


@pytest.mark.skipif(shutil.which("pdfsig") is None, reason="pdfsig of poppler-utils")
def test_poppler_takes_it_with_the_planes_root(plane: Plane, hostile: tuple[bytes, bytes], tmp_path: Path) -> None:
    said = pdfsig(hostile[1], trust_of(plane), tmp_path)
    assert "Signature is Valid" in said
    assert "Certificate is Trusted" in said


def test_a_change_of_what_is_signed_is_refused(plane: Plane, hostile: tuple[bytes, bytes]) -> None:
    _, pdf = hostile
    trust = trust_of(plane)
    for at in (60, pdf.index(b"/ByteRange") - 200, len(pdf) // 3):
        changed = bytearray(pdf)
        changed[at] ^= 1
        assert judge(bytes(changed), trust).indication != PASSED
    assert sha256(pdf) != sha256(bytes(changed))


def zlib_streams(pdf: bytes) -> list[bytes]:
    """What each compressed stream holds."""
    found = []
    for match in re.finditer(rb"stream\r?\n", pdf):
        try:
            found.append(zlib.decompressobj().decompress(pdf[match.end() :]))
        except zlib.error:
            continue
    return found


def test_hostile_text_becomes_glyphs_and_nothing_else(hostile: tuple[bytes, bytes]) -> None:
    data, pdf = hostile
    drawn = [stream for stream in zlib_streams(pdf) if stream != data]
    for word in (b"/JavaScript", b"/Launch", b"/URI", b"app.alert", b"<script>"):
        assert word not in pdf
        assert not any(word in stream for stream in drawn)


def test_the_newest_time_is_the_documents_own(plane: Plane) -> None:
    found = page_of(plane.bundle("completed_full"))
    assert parse_time(found.written) == (T0 + timedelta(seconds=4)).replace(microsecond=0)
