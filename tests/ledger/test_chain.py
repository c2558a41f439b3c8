# SPDX-License-Identifier: Apache-2.0
"""A leaf says exactly what its writer and the sealer said, in one spelling (S3, I4, I6)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import dumps
from ledger.chain import (
    Evidence,
    Pending,
    bind,
    check_bound,
    commitment,
    is_leaf_of,
    leaf_bytes,
    leaf_hash_text,
    leaf_type,
    parse_leaf,
    parse_pending,
    pending_bytes,
    scan_leaf,
)
from ledger.errors import EvidenceUnbound, LeafInvalid, LedgerError, NotCanonical
from tests.ledger.support import AT, pending
from tests.ledger.test_canonical import KEYS, VALUES

HASH = "sha256:" + "0f" * 32
PENDINGS = st.builds(
    Pending,
    entry_id=st.uuids().map(str),
    tenant=st.from_regex(r"\A[a-z0-9_][a-z0-9_-]{0,20}\Z"),
    kind=st.from_regex(r"\A[a-z]{1,8}:[a-z]{1,8}\Z"),
    actor=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    time=st.just(AT),
    body=st.dictionaries(KEYS, VALUES, max_size=4),
    commitments=st.dictionaries(st.sampled_from(["spec", "result"]), st.just(HASH)),
    schema=st.integers(1, 9),
)
PLACES = st.integers(0, 2**53 - 1)
FIRST: dict[str, Any] = {"index": 0, "tenant_index": 0, "tenant_prev": None, "prev_checkpoint": None}


@given(PENDINGS, PLACES, PLACES, st.none() | st.just(HASH))
def test_a_trace_is_no_part_of_an_entry(entry: Pending, index: int, at: int, prev: str | None) -> None:
    """I6, G8: the trace travels beside the entry; with or without one the bytes are the same."""
    place = {"index": index, "tenant_index": at, "tenant_prev": HASH if at else None, "prev_checkpoint": prev}
    traced = msgspec.structs.replace(entry, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert leaf_bytes(traced, **place) == leaf_bytes(entry, **place)  # type: ignore[arg-type]
    assert pending_bytes(traced) == pending_bytes(entry)


@given(PENDINGS, PLACES, PLACES, st.none() | st.just(HASH))
def test_a_leaf_says_what_was_said(entry: Pending, index: int, at: int, prev: str | None) -> None:
    """S3: nothing is lost, nothing is added, and a second writing has the same bytes."""
    place = {"index": index, "tenant_index": at, "tenant_prev": HASH if at else None, "prev_checkpoint": prev}
    data = leaf_bytes(entry, **place)  # type: ignore[arg-type]
    leaf = parse_leaf(data)
    for name in set(entry.__struct_fields__) - {"traceparent", "patient"}:
        assert getattr(leaf, name) == getattr(entry, name)
    for name, value in place.items():
        assert getattr(leaf, name) == value
    assert data == dumps(json.loads(data))
    assert ("prev_checkpoint" in json.loads(data)) == (prev is not None)
    assert is_leaf_of(parse_pending(pending_bytes(entry)), data)
    assert scan_leaf(data).entry_id == entry.entry_id


@pytest.mark.parametrize(
    "change",
    [
        {"entry_id": "no-uuid"},
        {"entry_id": "8B2C1D21-AB66-42C7-AF3A-C99721C8A99E"},
        {"tenant": ""},
        {"tenant": "a b"},
        {"tenant": "demo\n"},
        {"kind": "job"},
        {"kind": "Job:x"},
        {"actor": ""},
        {"commitments": {"spec": "sha256:00"}},
        {"schema": 0},
        {"body": []},
        {"body": {"x": 0.5}},
        {"body": {"x": "y" * 60_000}},
        {"time": AT.replace(tzinfo=None)},
    ],
)
def test_an_ill_formed_entry_is_refused_by_its_writer(change: dict[str, Any]) -> None:
    with pytest.raises((LeafInvalid, NotCanonical)):
        pending_bytes(msgspec.structs.replace(pending(), **change))


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"type": "other"},
        {"extra": 1},
        {"index": -1},
        {"tenant_prev": HASH},
        {"tenant_index": 1},
        {"prev_checkpoint": None},
        {"prev_checkpoint": "x"},
        {"time": "2026-13-21T10:00:00.123Z"},
        {"body": None},
    ],
)
def test_a_leaf_with_another_member_is_refused(change: dict[str, Any]) -> None:
    members = json.loads(leaf_bytes(pending(), **FIRST)) | change
    with pytest.raises(LeafInvalid):
        parse_leaf(dumps(members))


@pytest.mark.parametrize("name", json.loads(leaf_bytes(pending(), **FIRST)))
def test_a_leaf_without_a_member_is_refused(name: str) -> None:
    members = json.loads(leaf_bytes(pending(), **FIRST))
    del members[name]
    with pytest.raises(LeafInvalid):
        parse_leaf(dumps(members))


def test_a_leaf_in_another_spelling_is_refused() -> None:
    data = leaf_bytes(pending(), **FIRST)
    with pytest.raises(NotCanonical):
        parse_leaf(data.replace(b'"index":0', b'"index": 0'))


def test_the_two_types_of_leaf_are_told_apart() -> None:
    """A hashedrekord leaf is a Rekor body without a header of ours (docs/evidence-format.md section 2)."""
    rekor = dumps({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {}}})
    assert (leaf_type(rekor), leaf_type(leaf_bytes(pending(), **FIRST))) == ("hashedrekord", "entry")
    for data in (b"{}", b"[]", b"1", b"{"):
        with pytest.raises(LedgerError):
            leaf_type(data)
    with pytest.raises(LeafInvalid):
        parse_leaf(rekor)


def test_the_link_is_the_rfc_6962_leaf_hash() -> None:
    assert leaf_hash_text(b"") == "sha256:6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


SALT = bytes(range(32))
PROOF = Evidence(bundle_id="b-1", level="full", statement=b"{}", salt=SALT)


def test_binding_commits_the_entry_to_the_statement() -> None:
    """Decision 3: what is signed is what the sealed entry commits to."""
    bound = bind(pending(), PROOF)
    assert bound.commitments["statement"] == commitment(SALT, b"{}")
    assert bind(bound, PROOF) == bound
    check_bound(parse_pending(pending_bytes(bound)), PROOF)


@pytest.mark.parametrize(
    "change",
    [{"bundle_id": "b-2"}, {"level": "sealed"}, {"statement": b"[]"}, {"salt": bytes(32)}, {"salt": b""}],
)
def test_no_other_evidence_passes_for_the_bound_one(change: dict[str, Any]) -> None:
    bound, other = bind(pending(), PROOF), msgspec.structs.replace(PROOF, **change)
    with pytest.raises(EvidenceUnbound):
        check_bound(parse_pending(pending_bytes(bound)), other)
    with pytest.raises(EvidenceUnbound):
        bind(bound, other)
