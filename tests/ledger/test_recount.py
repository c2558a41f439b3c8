# SPDX-License-Identifier: Apache-2.0
"""Programs counted again: committed bundles, honest and lying, each with its verdict (I4, G3, decision 3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.bundle import parse_bundle
from ledger.errors import EvidenceInvalid
from ledger.recount import recount
from ledger.verify import verify
from tests.ledger.plane import NOW

VECTORS = Path(__file__).parent.parent / "vectors" / "programs"
EXPECTED = json.loads((VECTORS / "expected.json").read_bytes())
TRUST = (VECTORS / "trust.json").read_bytes()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_program_gets_its_verdict_and_what_does_not_add_up_is_named(name: str) -> None:
    report, expected = verify((VECTORS / f"{name}.json").read_bytes(), TRUST, NOW), EXPECTED[name]
    assert report.verdict == expected["verdict"], report.reason
    wrong = [check.name for check in report.checks if not check.ok]
    assert (wrong or [""])[0] == expected["check"], report.reason


@pytest.mark.parametrize(
    "program",
    [
        {"kind": "sampler", "circuits": [0] * 100_000, "parameters": [0] * 100_000},
        {"kind": "sampler", "circuits": 7},
        {"kind": "sampler"},
        {"kind": ["sampler"], "circuits": [1], "parameters": 3},
        {"kind": "estimator", "circuits": [1], "observables": [5]},
        {"kind": "estimator", "circuits": [1], "observables": 5},
        None,
        [],
    ],
    ids=str,
)
def test_a_spec_that_no_plane_accepted_is_refused_and_breaks_nothing(program: Any) -> None:
    bundle = parse_bundle((VECTORS / "energies.json").read_bytes())
    with pytest.raises(EvidenceInvalid):
        recount(bundle, bundle.contents["result"], json.dumps({"program": program}).encode())


def test_the_detail_says_which_item_is_wrong() -> None:
    report = verify((VECTORS / "item_short_unsaid.json").read_bytes(), TRUST, NOW)
    assert report.reason == "shots_recomputed: item 3: 99 of 100 shots, and no reason in partial"
