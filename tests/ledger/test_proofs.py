# SPDX-License-Identifier: Apache-2.0
"""Proofs for strangers: every honest one is valid, no changed one is, the public format is what its page says.

G5, S5, I4: inclusion of any entry, consistency between any two sizes, completeness of a tenant's own chain.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.cli import main
from ledger import checkpoint, cosignature, proofs, tlogproof
from ledger.canonical import dumps
from ledger.errors import UsageError
from ledger.proved import prove
from ledger.tlogproof import TlogProof
from ledger.verify import Report
from tests.ledger.history import History
from tests.ledger.plane import NOW, T0, Plane

SIZE = 23
TENANTS = ["demo", "other", "demo", "_plane", "demo"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> History:
    plane = Plane(tmp_path_factory.mktemp("plane"))
    return History(plane, [TENANTS[index % len(TENANTS)] for index in range(SIZE)], folds=(2, 7))


def judge(log: History, data: bytes, **more: Any) -> Report:
    return prove(data, log.plane.trust(), NOW, **more)


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.ok}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_entry_and_any_two_sizes_are_proven(log: History, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, SIZE))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    for found in (log.inclusion(index, size), log.consistency(old, size)):
        report = judge(log, proofs.document(found))
        assert (report.verdict, report.assurance, report.time.value) == ("valid", "self_issued", None), report


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, SIZE))
def test_a_tenants_history_is_shown_complete_and_no_others(log: History, size: int) -> None:
    found = log.completeness("demo", size)
    report = judge(log, proofs.document(found))
    assert report.verdict == "valid", report
    assert b'"other"' not in b"".join(found.entries)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_history_with_an_entry_missing_moved_or_of_others_is_complete(log: History, data: st.DataObject) -> None:
    found = log.completeness("demo", SIZE)
    at = data.draw(st.integers(0, len(found.entries) - 2))
    before, entry, after = found.entries[:at], found.entries[at], found.entries[at + 1 :]
    for changed in (
        (*before, *after),
        (*before, after[0], entry, *after[1:]),
        (*before, log.leaves[1], *after),
        (*before, entry, entry, *after),
        (),
    ):
        wrong = msgspec.structs.replace(found, entries=changed)
        assert failed(judge(log, proofs.document(wrong))) >= {"chain"}
    cut = msgspec.structs.replace(found, entries=found.entries[:-1])
    assert "inclusion" in failed(judge(log, proofs.document(cut)))


def test_records_under_an_entry_belong_to_the_history(log: History) -> None:
    found = log.completeness("demo", SIZE)
    assert found.records.keys() == {"2", "7"}
    for records in (
        {"2": found.records["2"]},
        found.records | {"7": found.records["2"]},
        found.records | {"7": found.records["7"][:1]},
        found.records | {"5": ()},
    ):
        wrong = msgspec.structs.replace(found, records=records)
        assert failed(judge(log, proofs.document(wrong))) == {"records"}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_changed_document_is_valid(log: History, data: st.DataObject) -> None:
    """I4: a bit anywhere, in the file or under its base64, or any member swapped for another proof's."""
    size = data.draw(st.integers(2, SIZE))
    pool: list[proofs.Document] = [
        log.inclusion(data.draw(st.integers(0, size - 1)), size),
        log.consistency(data.draw(st.integers(1, size - 1)), size),
        log.completeness("demo", size),
    ]
    good = proofs.document(data.draw(st.sampled_from(pool)))
    place, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bent = good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :]
    with suppress(UsageError):
        assert judge(log, bent).verdict != "valid"
    other = json.loads(proofs.document(log.inclusion(0, 1)))
    tree = json.loads(good)
    for name in tree.keys() & other.keys() - {"type"}:
        if tree[name] != other[name]:
            assert judge(log, dumps(tree | {name: other[name]})).verdict != "valid", name


def test_a_members_absence_excess_or_spelling_is_refused(log: History) -> None:
    good = proofs.document(log.inclusion(3, 9))
    tree = json.loads(good)
    for name in tree.keys() - {"type"}:
        less = dumps({key: value for key, value in tree.items() if key != name})
        assert failed(judge(log, less)) == {"file_closed"}
    assert failed(judge(log, dumps(tree | {"more": 1}))) == {"file_closed"}
    assert failed(judge(log, json.dumps(tree).encode())) == {"file_canonical"}
    for nothing in (b"{}", b'{"type":"urn:qcos:proof:inclusion:v9"}', b"[]", b"", b"\xff", b'{"checkpoint":"' * 9):
        with pytest.raises(UsageError):
            judge(log, nothing)


def test_a_log_that_nobody_knows_is_unanchored_and_a_revoked_key_proves_nothing(log: History, tmp_path: Path) -> None:
    good = proofs.document(log.consistency(4, 9))
    stranger = Plane(tmp_path / "stranger")
    stranger.origin = log.plane.origin + "/other"
    assert prove(good, stranger.trust(), NOW).verdict == "unanchored"
    gone = [{"id": "log-ed25519", "at": "2025-06-01T00:00:00.000Z", "reason": "stolen"}]
    revoked = prove(good, log.plane.trust(revoked=gone), NOW)
    assert revoked.verdict == "invalid"
    assert "revoked" in revoked.reason


def test_a_fork_is_no_continuation(log: History) -> None:
    """S5: two logs of one key that differ in an entry: neither is proven to go on from the other's note."""
    fork = History(log.plane, ["demo"] * SIZE)
    mixed = msgspec.structs.replace(log.consistency(5, 12), checkpoint=fork.note(12).decode())
    assert failed(judge(log, proofs.document(mixed))) == {"consistency"}
    kept = msgspec.structs.replace(log.consistency(5, 12).old, checkpoint=fork.note(5).decode())
    swapped = msgspec.structs.replace(log.consistency(5, 12), old=kept)
    assert failed(judge(log, proofs.document(swapped))) == {"old_checkpoint"}


WITNESS = MLDSA44PrivateKey.generate()
WITNESSED_BY = cosignature.Witness("witness.example/one", WITNESS.public_key())


def witnessed(log: History, size: int) -> str:
    """A line of a witness that has seen this size."""
    return cosignature.cosign(
        WITNESSED_BY, checkpoint.parse(log.note(size)), int((T0 + timedelta(hours=1)).timestamp()), WITNESS.sign
    )


def trusting(log: History) -> bytes:
    """The plane's trust file, which names that witness."""
    public = WITNESS.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    named = {"id": "w-1", "name": WITNESSED_BY.name, "alg": "ml-dsa-44", "public": base64.b64encode(public).decode()}
    used = {"valid_from": "2024-01-01T00:00:00.000Z", "valid_until": None}
    return log.plane.trust(type="urn:qcos:trust:v3", witnesses=[named | used])


def by_the_specification(data: bytes, leaf: bytes) -> tuple[str, int, bytes]:
    """(origin, size, note) of such a file, from the page of tlog-proof@v1 and RFC 9162 section 2.1.3.2 alone."""
    lines = data.decode().split("\n")
    assert lines.pop(0) == "c2sp.org/tlog-proof@v1"
    if lines[0].startswith("extra "):
        base64.b64decode(lines.pop(0)[6:], validate=True)
    word, number = lines.pop(0).split(" ")
    assert word == "index"
    assert str(int(number)) == number
    end = lines.index("")
    path = [base64.b64decode(line, validate=True) for line in lines[:end]]
    origin, size, root = lines[end + 1 : end + 4]
    assert lines[end + 4] == ""
    fn, sn, found = int(number), int(size) - 1, hashlib.sha256(b"\0" + leaf).digest()
    assert fn <= sn
    for part in path:
        assert sn
        if fn & 1 or fn == sn:
            found = hashlib.sha256(b"\1" + part + found).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            found = hashlib.sha256(b"\1" + found + part).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    assert found == base64.b64decode(root, validate=True)
    return origin, int(size), "\n".join(lines[end + 1 :]).encode()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_public_format_is_what_its_specification_says(log: History, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, SIZE))
    index = data.draw(st.integers(0, size - 1))
    leaf, note = log.leaves[index], log.note(size)
    cosignatures = data.draw(st.sampled_from([(), (witnessed(log, size),)]))
    extra = data.draw(st.sampled_from([b"", leaf]))
    file = tlogproof.written(TlogProof(index, log.path(index, size), tlogproof.cosigned(note, cosignatures), extra))
    assert by_the_specification(file, leaf) == (log.plane.origin, size, tlogproof.cosigned(note, cosignatures))
    assert tlogproof.parse(file).extra == extra
    report = prove(file, trusting(log), NOW, leaf=leaf)
    assert (report.verdict, report.assurance) == ("valid", "witnessed" if cosignatures else "self_issued")
    assert judge(log, file, leaf=leaf).verdict == ("unanchored" if cosignatures else "valid")
    assert judge(log, file, leaf=log.leaves[index - 1]).verdict == "invalid"


def test_no_changed_public_proof_is_valid(log: History) -> None:
    """I4: each byte of it, a witness's line too."""
    note = tlogproof.cosigned(log.note(9), (witnessed(log, 9),))
    file, trust = tlogproof.written(TlogProof(6, log.path(6, 9), note, log.leaves[6])), trusting(log)
    assert prove(file, trust, NOW).assurance == "witnessed"
    note_at = file.index(b"\n\n") + 2
    for place in (*range(0, note_at, 7), *range(note_at, note_at + 60), *range(note_at + 60, len(file), 211)):
        bent = file[:place] + bytes([file[place] ^ 1]) + file[place + 1 :]
        try:
            assert prove(bent, trust, NOW).verdict != "valid", place
        except UsageError:
            assert place < note_at


def test_the_command_judges_proofs_offline(log: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S5: exit 0 for valid alone, 1 for the rest, 2 for what can't be judged; a leaf from a file or out of a bundle."""
    (tmp_path / "trust.json").write_bytes(log.plane.trust())
    (tmp_path / "leaf").write_bytes(log.leaves[6])
    (tmp_path / "bundle.json").write_bytes(log.plane.bundle("completed_full"))
    bare = TlogProof(6, log.path(6, 9), log.note(9))
    (tmp_path / "bare.tlog-proof").write_bytes(tlogproof.written(bare))
    (tmp_path / "proof.json").write_bytes(proofs.document(log.completeness("demo", 9)))

    def code(*arguments: str) -> int:
        named = [str(tmp_path / one) if "." in one or one == "leaf" else one for one in arguments]
        ended = main(["verify", *named, "--trust", str(tmp_path / "trust.json"), "--json"])
        capsys.readouterr()
        return ended

    assert code("proof.json") == 0
    assert code("bare.tlog-proof", "--leaf", "leaf") == 0
    assert code("bare.tlog-proof") == 2
    assert code("bare.tlog-proof", "--bundle", "bundle.json") == 1
    assert code("proof.json", "--leaf", "leaf") == 2
    assert code("bundle.json") in (0, 1)
