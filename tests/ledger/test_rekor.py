# SPDX-License-Identifier: Apache-2.0
"""Rekor bodies as leaves: the vectors of docs/evidence-format.md section 2, and that a leaf has no second form."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import dumps
from ledger.chain import leaf_type, parse_leaf, scan_leaf
from ledger.errors import LeafInvalid, LedgerError
from ledger.predicate import pae
from ledger.rekor import P256, parse_hashedrekord, verify_hashedrekord
from tests.ledger.test_verify import mutants

FOLDER = Path(__file__).parents[1] / "vectors" / "ledger" / "hashedrekord"
VECTORS = {path.stem: json.loads(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))}
GOOD = [name for name, vector in VECTORS.items() if vector["error"] is None]


def leaf_of(name: str) -> bytes:
    return base64.b64decode(VECTORS[name]["leaf"])


def outcome(leaf: bytes, signed: bytes) -> str | None:
    """As a vector writes it: null, `parse:CODE` or `verify:CODE`."""
    try:
        record = parse_hashedrekord(leaf)
    except LedgerError as error:
        return f"parse:{error.code}"
    try:
        verify_hashedrekord(record, signed)
    except LedgerError as error:
        return f"verify:{error.code}"
    return None


def test_there_are_vectors_of_both_algorithms() -> None:
    assert GOOD == ["good_mldsa65", "good_p256"]
    assert len(VECTORS) > 25


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_judged_as_it_says(name: str) -> None:
    """G5: what is signed is the DSSE PAE, and the leaf's bytes are one form of it."""
    vector = VECTORS[name]
    assert vector["payload_type"] == "application/vnd.in-toto+json"
    assert outcome(leaf_of(name), pae(base64.b64decode(vector["payload"]))) == vector["error"]


@pytest.mark.parametrize("name", GOOD)
def test_a_rekor_body_is_no_entry_and_an_entry_no_rekor_body(name: str) -> None:
    leaf = leaf_of(name)
    assert leaf_type(leaf) == "hashedrekord"
    for read in (parse_leaf, scan_leaf):
        with pytest.raises(LeafInvalid):
            read(leaf)
    with pytest.raises(LeafInvalid):
        parse_hashedrekord(dumps({"type": "entry", "v": 1}))


@pytest.mark.parametrize("name", GOOD)
def test_each_changed_dropped_or_added_leaf_of_the_json_is_found(name: str) -> None:
    """I4: written again in canonical form."""
    signed = pae(base64.b64decode(VECTORS[name]["payload"]))
    seen = 0
    for where, tree in mutants(json.loads(leaf_of(name))):
        assert outcome(dumps(tree), signed), where
        seen += 1
    assert seen > 10


@given(name=st.sampled_from(GOOD), at=st.integers(0, 1 << 16), bit=st.integers(0, 7))
def test_no_changed_bit_passes(name: str, at: int, bit: int) -> None:
    """I4: no bit of a leaf is free; a record can't be written a second time in another form."""
    leaf = bytearray(leaf_of(name))
    leaf[at % len(leaf)] ^= 1 << bit
    assert outcome(bytes(leaf), pae(base64.b64decode(VECTORS[name]["payload"])))


@given(data=st.binary(max_size=300))
def test_garbage_is_refused_by_an_error_of_ours(data: bytes) -> None:
    assert (outcome(data, b"") or "").startswith("parse:")


@given(signed=st.binary(max_size=300))
def test_a_record_is_about_its_own_bytes_alone(signed: bytes) -> None:
    for name in GOOD:
        assert outcome(leaf_of(name), signed) == "verify:evidence_unbound"


def test_what_a_record_says_is_what_stands_in_it() -> None:
    said: Any = json.loads(leaf_of("good_p256"))["spec"]["hashedRekordV002"]
    record = parse_hashedrekord(leaf_of("good_p256"))
    assert record.key_details == P256
    for value, text in (
        (record.digest, said["data"]["digest"]),
        (record.signature, said["signature"]["content"]),
        (record.public, said["signature"]["verifier"]["publicKey"]["rawBytes"]),
    ):
        assert base64.b64encode(value).decode() == text
