# SPDX-License-Identifier: Apache-2.0
"""What a record says of an approval is compared with what ran: the governance and spec checks, on real bundles (G3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from ledger.bundle import Bundle, parse_bundle
from ledger.errors import EvidenceInvalid
from ledger.predicate import Approval
from ledger.recompute import governance, spec

VECTORS = Path(__file__).parents[1] / "vectors" / "approvals"
OTHER = "sha256:" + "0" * 64


def bundle(name: str) -> Bundle:
    """A real plane's."""
    return parse_bundle((VECTORS / f"{name}.json").read_bytes())


def approved(change: Callable[[Approval], dict[str, Any]]) -> Bundle:
    """The one that ran, its approval changed."""
    found = bundle("used")
    assert isinstance(found.approval, Approval)
    return replace(found, approval=replace(found.approval, **change(found.approval)))


def answered(**changes: Any) -> Callable[[Approval], dict[str, Any]]:
    """Another answer."""

    def change(given: Approval) -> dict[str, Any]:
        assert given.answer is not None
        return {"answer": replace(given.answer, **changes)}

    return change


@pytest.mark.parametrize("name", ["used", "rejected", "canceled"])
def test_real_bundles_agree_with_themselves(name: str) -> None:
    governance(bundle(name))
    spec(bundle(name))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: {"state": "granted"}, "without an approval"),
        (lambda _: {"answer": None}, "without an approval"),
        (lambda _: {"used_at": None}, "without an approval"),
        (answered(expires_at=None), "without an approval"),
        (answered(by="user:engineer@demo"), "by who asked"),
        (answered(expires_at="2026-11-21T00:00:00.000Z"), "out of order"),
        (answered(at="2026-11-21T00:00:00.000Z"), "out of order"),
        (lambda _: {"requested_at": None}, "out of order"),
        (lambda _: {"backend": "elsewhere"}, "it ran on aer"),
        (lambda _: {"compiled": OTHER}, "not what ran"),
        (lambda _: {"reasons": ("quota_exceeded",)}, "reasons that the decision"),
    ],
)
def test_a_record_whose_approval_is_not_of_what_ran_is_invalid(
    change: Callable[[Approval], dict[str, Any]], reason: str
) -> None:
    with pytest.raises(EvidenceInvalid, match=reason):
        governance(approved(change))


def test_sources_that_were_not_submitted_are_found() -> None:
    with pytest.raises(EvidenceInvalid, match=r"approval\.sources"):
        spec(approved(lambda _: {"sources": (OTHER,)}))


def test_a_denied_job_that_ran_needs_the_member() -> None:
    with pytest.raises(EvidenceInvalid, match="another state than DENIED"):
        governance(replace(bundle("used"), approval=UNSET))
