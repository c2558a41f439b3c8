# SPDX-License-Identifier: Apache-2.0
"""A witness's line over a checkpoint is C2SP tlog-cosignature's, and a bundle with one is judged by it (I4, G5)."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from ledger import checkpoint, cosignature
from ledger.canonical import dumps
from ledger.errors import CheckpointInvalid, CosignatureInvalid, KeyInvalid, LedgerError, UsageError
from ledger.trust import parse_trust
from ledger.verify import verify
from tests.ledger.plane import NOW

VECTORS = Path(__file__).parent.parent / "vectors" / "cosigned"
EXPECTED: dict[str, dict[str, str]] = json.loads((VECTORS / "expected.json").read_text())
TRUST = (VECTORS / "trust.json").read_bytes()
LINE: dict[str, str] = json.loads((VECTORS / "line.json").read_text())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_cosigned_bundle_gets_its_verdict_and_its_assurance(name: str) -> None:
    report, wanted = verify((VECTORS / name).read_bytes(), TRUST, NOW), EXPECTED[name]
    failed = next((check.name for check in report.checks if not check.ok), "")
    assert (report.verdict, failed, report.assurance) == (wanted["verdict"], wanted["check"], wanted["assurance"])


def test_a_line_is_the_structure_of_the_specification_and_its_key_signs_that() -> None:
    """Computed here from the text of tlog-cosignature, "Format" and "ML-DSA-44 signed message", not by our module."""
    name, hint, material = LINE["vkey"].split("+", 2)
    key = base64.b64decode(material)
    origin, size, root = LINE["checkpoint"].split("\n")[:3]
    dash, named, encoded = LINE["line"].split(" ")
    blob = base64.b64decode(encoded)
    (timestamp,) = struct.unpack(">Q", blob[4:12])
    message = b"subtree/v1\n\x00" + bytes([len(name)]) + name.encode() + struct.pack(">Q", timestamp)
    message += bytes([len(origin)]) + origin.encode() + struct.pack(">QQ", 0, int(size)) + base64.b64decode(root)
    assert (dash, named, len(blob)) == ("\u2014", name, 4 + 8 + 2420)
    assert blob[:4].hex() == hint == hashlib.sha256(name.encode() + b"\n\x06" + key[1:]).hexdigest()[:8]
    assert message.hex() == LINE["message_hex"]
    MLDSA44PublicKey.from_public_bytes(key[1:]).verify(blob[12:], message)


def test_every_changed_character_of_a_line_is_found() -> None:
    tree = json.loads((VECTORS / "one.json").read_bytes())
    (line,) = tree["proof"]["cosignatures"]
    for place in range(0, len(line), 23):
        changed = line[:place] + chr(ord(line[place]) ^ 1) + line[place + 1 :]
        data = dumps(tree | {"proof": tree["proof"] | {"cosignatures": [changed]}})
        assert verify(data, TRUST, NOW).verdict != "valid", place


def test_a_line_speaks_of_one_origin_size_and_root() -> None:
    witness, line = cosignature.parse_vkey(LINE["vkey"]), cosignature.parse(LINE["line"])
    head = checkpoint.parse(LINE["checkpoint"].encode())
    cosignature.verify(line, head, witness)
    for other in (
        checkpoint.Checkpoint("other.example", head.size, head.root, head.text, head.lines),
        checkpoint.Checkpoint(head.origin, head.size + 1, head.root, head.text, head.lines),
        checkpoint.Checkpoint(head.origin, head.size, bytes(32), head.text, head.lines),
    ):
        with pytest.raises(CosignatureInvalid):
            cosignature.verify(line, other, witness)


def test_a_time_of_zero_says_nothing_of_the_largest_tree_and_is_refused() -> None:
    blob = base64.b64decode(LINE["line"].split(" ")[2])
    for timestamp in (0, 2**63):
        changed = base64.b64encode(blob[:4] + struct.pack(">Q", timestamp) + blob[12:]).decode()
        with pytest.raises(CosignatureInvalid):
            cosignature.parse("\u2014 witness.example/one " + changed)
    with pytest.raises(CosignatureInvalid):
        cosignature.message("w", 0, checkpoint.parse(LINE["checkpoint"].encode()))


def test_a_vkey_is_read_in_its_one_form() -> None:
    name, hint, material = LINE["vkey"].split("+", 2)
    assert cosignature.vkey(cosignature.parse_vkey(LINE["vkey"])) == LINE["vkey"]
    ed25519 = base64.b64encode(b"\x04" + bytes(32)).decode()
    for bad in ("", name, f"{name}+{hint}", f"{name}+00000000+{material}", f"other+{hint}+{material}"):
        with pytest.raises(KeyInvalid):
            cosignature.parse_vkey(bad)
    with pytest.raises(KeyInvalid, match="0x06"):
        cosignature.parse_vkey(f"{name}+{hint}+{ed25519}")
    with pytest.raises(CheckpointInvalid):
        checkpoint.parse_line("\u2014 a b AAAAAAAA")


def test_a_trust_file_has_the_lowest_version_that_says_it() -> None:
    tree = json.loads(TRUST)
    assert [by.id for by in parse_trust(TRUST).witnesses] == ["witness.example/one", "witness.example/two"]
    bad = [
        tree | {"type": "urn:qcos:trust:v1"},
        tree | {"type": "urn:qcos:trust:v2"},
        {key: value for key, value in tree.items() if key != "witnesses"},
        tree | {"witnesses": []},
        tree | {"documents": []},
        tree | {"witnesses": tree["witnesses"] * 2},
        tree | {"witnesses": [tree["witnesses"][0] | {"name": "with space"}]},
        tree | {"witnesses": [tree["witnesses"][0] | {"public": tree["log"]["keys"][1]["public"]}]},
    ]
    for changed in bad:
        with pytest.raises(UsageError):
            parse_trust(dumps(changed))


def test_without_a_trust_file_that_names_the_witness_the_bundle_is_unanchored_and_never_merely_valid() -> None:
    tree = json.loads(TRUST)
    older = dumps({key: value for key, value in tree.items() if key != "witnesses"} | {"type": "urn:qcos:trust:v1"})
    assert verify((VECTORS / "one.json").read_bytes(), older, NOW).verdict == "unanchored"
    assert verify((VECTORS / "none.json").read_bytes(), older, NOW).verdict == "valid"


def test_junk_is_an_error_of_ours_and_nothing_else() -> None:
    for junk in ("", "x", "\u2014 ", "\u2014 name", "\u2014 name !!!!", "\u2014 name AAAA", LINE["line"] + "\n"):
        with pytest.raises(LedgerError):
            cosignature.parse(junk)
