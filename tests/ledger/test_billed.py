# SPDX-License-Identifier: Apache-2.0
"""A stranger's program computes each bill of version 2 again, and finds each that isn't what the card says (G6, S4)."""

import copy
import json
import random
from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import finops
from finops import money
from finops.facts import Fact, fact
from finops.rates import RateCard, charge, parse_card
from finops.reading import faults
from ledger import billed
from ledger.errors import EvidenceInvalid
from ledger.predicate import CostLine
from ledger.verify import verify
from tests.finops.test_card_2 import Work, lines, work
from tests.vectors.cards import make

CARDS = Path(finops.__file__).parent / "cards"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
BILLED = Path(__file__).parents[1] / "vectors" / "billed"


def facts_of(**quantities: str | int) -> list[Fact]:
    """Facts of one task."""
    return [fact(meter, D(amount), "measured", "test") for meter, amount in ({"tasks": 1} | quantities).items()]


Each = list[dict[str, D]]


def told(
    card: RateCard, facts: list[Fact], provider: str, device: str, sku: str | None = None, each: Each | None = None
) -> list[CostLine]:
    """What the plane charges, as the record has it."""
    record: Any = charge(card, provider, facts, device, sku, each or ()).record()
    return [CostLine(**line) for line in record["lines"]]


def check(
    bill: list[CostLine], card: RateCard, facts: list[Fact] | None, provider: str, device: str, each: Each | None = None
) -> None:
    """As the verifier does."""
    execution = None if facts is None else executed(facts, each or [])
    assert billed.second(card.document)
    billed.recomputed(bill, card.currency, (provider, device), card.document, execution)


def executed(facts: list[Fact], each: Each) -> bytes:
    """The artefact `execution`, as far as a bill is reckoned from it."""
    used = [[{"meter": meter, "quantity": money.text(one[meter])} for meter in sorted(one)] for one in each]
    items = [{"item": number, "facts": facts} for number, facts in enumerate(used)] + [{"item": len(used)}]
    return json.dumps({"facts": [one.record() for one in facts], "items": items}).encode()


EXPECTED: dict[str, dict[str, str]] = json.loads((BILLED / "expected.json").read_text())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_bundle_whose_bill_is_not_its_card_s_is_found(name: str) -> None:
    found = verify((BILLED / name).read_bytes(), (BILLED / "trust.json").read_bytes(), NOW)
    failed = next((check.name for check in found.checks if not check.ok), "")
    assert {"verdict": found.verdict, "check": failed} == EXPECTED[name]


GATES = facts_of(
    shots=1000,
    simulator_seconds="0.004",
    qpu_seconds="0.7",
    one_qubit_gate_shots=200_000,
    two_qubit_gate_shots=77_777,
    measurement_shots=5_001,
)


@pytest.mark.parametrize(
    ("name", "provider", "device", "sku"),
    [
        ("own", "aer", "aer-1", None),
        ("own", "aws-braket", "braket-local", "local-simulator"),
        ("aws-braket", "aws-braket", "forte", "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"),
        ("ibm-quantum", "ibm-quantum", "brisbane", "ibm_brisbane"),
        ("azure-ionq", "azure-quantum", "ionq.qpu.aria-1", None),
        ("azure-rigetti", "azure-quantum", "rigetti.qpu.ankaa-3", None),
        ("pasqal", "pasqal", "fresnel", None),
    ],
)
def test_each_card_that_ships_is_computed_again_with_its_facts_and_without(
    name: str, provider: str, device: str, sku: str | None
) -> None:
    card = parse_card((CARDS / f"{name}.json").read_bytes(), accepted=True)
    bill = told(card, GATES, provider, device, sku)
    check(bill, card, GATES, provider, device)
    check(bill, card, None, provider, device)
    for number, line in enumerate(bill):
        for change in ({"quantity": money.text(D(line.quantity) + 1)}, {"amount": money.text(D(line.amount) + 1)}):
            false = [*bill[:number], msgspec.structs.replace(line, **change), *bill[number + 1 :]]
            with pytest.raises(EvidenceInvalid):
                check(false, card, GATES, provider, device)
    with pytest.raises(EvidenceInvalid):
        check(bill[1:] or [*bill, bill[0]], card, GATES, provider, device)


@settings(max_examples=80, deadline=None)
@given(lines(), work(), st.sampled_from(["half_even", "half_up"]), st.integers(0, 6), st.randoms())
def test_what_is_charged_is_what_a_stranger_computes(
    drawn: list[dict[str, Any]],
    of: Work,
    rounding: str,
    places: int,
    chance: random.Random,
) -> None:
    """Two programs that share no code come to the same lines, to the last decimal."""
    document = copy.deepcopy(make.GOOD) | {"rounding": rounding, "precision": money.text(D(1).scaleb(-places))}
    document["units"], document["prices"][0]["lines"] = [{"unit": "OWN"}], drawn
    data = json.dumps(document).encode()
    if faults(data):
        return
    card, facts = parse_card(data), of.facts
    bill = told(card, facts, "example", "x", each=of.did)
    chance.shuffle(facts)
    check(bill, card, facts, "example", "x", each=of.did)
