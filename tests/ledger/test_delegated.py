# SPDX-License-Identifier: Apache-2.0
"""What a record says of a delegation fits together: the governance check, on a real bundle (G3, G13)."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.bundle import parse_bundle
from ledger.errors import EvidenceInvalid
from ledger.predicate import Handed
from ledger.recompute import governance

USED = parse_bundle((Path(__file__).parents[1] / "vectors" / "approvals" / "used.json").read_bytes())
ACTOR = USED.governance_record.actor


def test_a_chain_begins_with_the_actor_and_hangs_together() -> None:
    governance(replace(USED, delegation=(Handed("d1", ACTOR, "ci"), Handed("d2", "ci", "bot"))))


@pytest.mark.parametrize(
    "steps",
    [
        (Handed("d1", "user:mallory@demo", "ci"),),
        (Handed("d1", ACTOR, "ci"), Handed("d2", ACTOR, "bot")),
        (Handed("d1", ACTOR, "ci"), Handed("d1", "ci", "bot")),
    ],
    ids=["another's", "a step from nowhere", "a step twice"],
)
def test_a_chain_that_does_not_is_refused(steps: tuple[Handed, ...]) -> None:
    with pytest.raises(EvidenceInvalid, match="delegation"):
        governance(replace(USED, delegation=steps))
