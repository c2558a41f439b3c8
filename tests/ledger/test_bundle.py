# SPDX-License-Identifier: Apache-2.0
"""The closed record and its file: one value, one byte string (G3, decision 3)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import bundle
from ledger.canonical import dumps
from ledger.errors import EvidenceInvalid, LedgerError
from ledger.predicate import Predicate
from tests.ledger.plane import KINDS, record


def predicate(kind: str = "completed_full") -> Predicate:
    return msgspec.convert(record(kind)[0], Predicate)


@pytest.mark.parametrize("kind", KINDS)
def test_the_statement_is_an_in_toto_statement_of_the_record_alone(kind: str) -> None:
    record_ = predicate(kind)
    statement = json.loads(bundle.statement_bytes(record_))
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:qcos:evidence:v1"
    digests = {subject["name"]: "sha256:" + subject["digest"]["sha256"] for subject in statement["subject"]}
    wanted = {"input": record_.input_hash, "output": record_.output_hash}
    assert digests == {name: value for name, value in wanted.items() if value}
    assert statement["predicate"] == record(kind)[0]


def test_the_g3_fields_have_their_g3_names() -> None:
    """G3 names them; auditors' tools read these words."""
    members = record("completed_full")[0]
    assert {
        "bundle_id",
        "job_id",
        "input_hash",
        "output_hash",
        "execution_metadata",
        "governance_record",
    } <= set(members)
    assert {"backend", "start_time", "end_time", "shots_executed", "queue_time_ms"} <= set(
        members["execution_metadata"]
    )
    assert {"actor", "project", "policies_applied", "policy_decisions"} <= set(members["governance_record"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_statement_reads_back_and_any_other_spelling_is_refused(kind: str) -> None:
    data = bundle.statement_bytes(predicate(kind))
    assert bundle.parse_statement(data) == predicate(kind)
    tree = json.loads(data)
    spelled = [
        json.dumps(tree).encode(),
        data + b"\n",
        dumps(tree | {"note": 1}),
        dumps(tree | {"subject": []}),
    ]
    for other in (*spelled, b"", b"null"):
        with pytest.raises(LedgerError):
            bundle.parse_statement(other)


def test_the_signed_bytes_are_dsse_pre_authentication_encoding() -> None:
    """DSSE v1: lengths in decimal, so that no two (type, body) pairs give the same bytes."""
    assert bundle.pae(b"{}") == b"DSSEv1 28 application/vnd.in-toto+json 2 {}"


def test_contents_that_are_not_what_the_record_carries_are_not_assembled() -> None:
    record_ = predicate()
    made = bundle.Signatures(qcos_signature=None, ecdsa_p256_signature=None, timestamp_authority=())
    proof = bundle.Proof(leaf=b"", path=(), checkpoint="", statement_salt=b"")
    with pytest.raises(EvidenceInvalid, match="carries"):
        bundle.assemble(record_, signatures=made, proof=proof, contents={})


@given(st.lists(st.integers(0, 2_000_000), max_size=8))
def test_what_a_file_carries_fits_and_the_first_that_fits_is_in(sizes: list[int]) -> None:
    named = [(f"a{place}", size) for place, size in enumerate(sizes)]
    carried = bundle.choose_carried(named)
    assert sum(size for name, size in named if name in carried) <= bundle.MAX_CARRIED_BYTES
    if sizes and sizes[0] <= bundle.MAX_CARRIED_BYTES:
        assert "a0" in carried


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("execution_metadata", "start_time"), "2026-11-21T10:00:01Z"),
        (("execution_metadata", "start_time"), "2026-11-21T10:00:01.250+00:00"),
        (("execution_metadata", "shots_executed"), -1),
        (("execution_metadata", "shots_executed"), 2**53),
        (("governance_record", "actor"), "engineer"),
        (("governance_record", "policy_decisions"), []),
        (("governance_record", "policy_decisions"), ["maybe"]),
        (("cost", "amount"), "0.380e0"),
        (("cost", "amount"), "00.38"),
        (("cost", "amount"), 0.38),
        (("cost", "currency"), "usd"),
        (("input_hash",), "sha256:" + "AB" * 32),
        (("input_hash",), "sha256:" + "ab" * 32 + "\n"),
        (("state",), "EXECUTING"),
        (("version",), 2),
        (("bundle_id",), "8C4B8F0E-52C8-4AD2-9C22-0D9FBB6B1F10"),
    ],
)
def test_ill_formed_values_are_refused_by_name(path: tuple[str, ...], value: Any) -> None:
    members = json.loads(bundle.statement_bytes(predicate()))
    place = members["predicate"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(EvidenceInvalid, match=path[-1]):
        bundle.parse_statement(msgspec.json.encode(members))
