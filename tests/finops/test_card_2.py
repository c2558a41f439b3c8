# SPDX-License-Identifier: Apache-2.0
"""Lines of version 2: computed quantities, minima, caps and tiers; the bound holds and the bill is one (G6, G7, I3)."""

import copy
import json
import random
from decimal import Decimal as D
from fractions import Fraction
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from finops import money
from finops.errors import AmountInvalid, UnknownPrice
from finops.facts import UNITS, Fact, fact
from finops.rates import RateCard, charge, parse_card, upper_bound
from finops.reading import COMPILED, faults
from tests.vectors.cards import make


def card(*lines: dict[str, Any], **head: Any) -> RateCard:
    """A card of these lines."""
    document = copy.deepcopy(make.GOOD) | head
    document["prices"][0]["lines"] = list(lines)
    return parse_card(json.dumps(document).encode())


def used(**quantities: str | int) -> list[Fact]:
    """Facts of one task."""
    return [fact(meter, D(amount), "measured", "test") for meter, amount in ({"tasks": 1} | quantities).items()]


SHOTS = {"meter": "shots", "unit": "Shots"}


def test_tiers_are_marginal_and_each_makes_a_line() -> None:
    """The first thousand at 0.03, what lies above it at 0.02, above 10,000 at 0.01."""
    rates = (("0", "0.03"), ("1000", "0.02"), ("10000", "0.01"))
    tiered = card(SHOTS | {"tiers": [{"above": above, "rate": rate} for above, rate in rates]})
    lines = charge(tiered, "example", used(shots=12_000)).lines
    assert [(line.quantity, line.rate, line.amount) for line in lines] == [
        (D(1000), D("0.03"), D(30)),
        (D(9000), D("0.02"), D(180)),
        (D(2000), D("0.01"), D(20)),
    ]
    assert [line.quantity for line in charge(tiered, "example", used(shots=1000)).lines] == [1000]
    assert [line.quantity for line in charge(tiered, "example", used(shots=0)).lines] == [0]
    assert upper_bound(tiered, "example", "x", 12_000, 1.0).amount == 230


@pytest.mark.parametrize(("shots", "billed"), [(1, 20), (15, 20), (30, 30), (99, 50)])
def test_a_line_bills_at_least_its_minimum_and_at_most_its_cap(shots: int, billed: int) -> None:
    limits = {"minimum": [{"each": "20", "of": "tasks"}], "cap": [{"each": "50", "of": "tasks"}]}
    (line,) = charge(card(SHOTS | {"rate": "1"} | limits), "example", used(shots=shots)).lines
    assert line.quantity == billed


def test_a_minimum_of_a_task_counts_each_and_that_of_a_job_once() -> None:
    facts = [fact("tasks", 3, "measured", "t"), fact("shots", 1, "measured", "t")]
    for of, billed in (("tasks", 30), ("job", 10)):
        limited = card(SHOTS | {"rate": "1", "minimum": [{"each": "10", "of": of}]})
        assert charge(limited, "example", facts).amount == billed


def test_a_minimum_by_task_holds_for_each_program_alone() -> None:
    """As IonQ's m, where it is a minimum: 12.4166 a program, 97.50 where it was mitigated, else its gate-shots."""
    m = [{"each": "12.4166", "of": "tasks"}, {"each": "85.0834", "of": "mitigated_tasks"}]
    line = SHOTS | {"rate": "1", "minimum": m}
    each = [
        {"tasks": D(1), "shots": D(1)},
        {"tasks": D(1), "shots": D(100)},
        {"tasks": D(1), "shots": D(40), "mitigated_tasks": D(1)},
    ]
    facts = used(tasks=3, shots=141, mitigated_tasks=1)
    assert charge(card(line), "example", facts).lines[0].quantity == 141
    by_task = card(line | {"by": "task"})
    assert charge(by_task, "example", facts, each=each).lines[0].quantity == D("12.4166") + 100 + D("97.50")
    for told in ((), [*each[:2], {"tasks": D(1)}]):
        with pytest.raises(UnknownPrice, match="nobody says what each task used"):
            charge(by_task, "example", facts, each=told)
    assert charge(by_task, "example", used(shots=1)).lines[0].quantity == D("12.4166")
    # Three tasks of 47 shots at most, none of them mitigated; and of one that is, what all may cost.
    assert upper_bound(by_task, "example", "x", 141, 1.0, 3, known={"mitigated_tasks": D(0)}).amount == 141
    assert upper_bound(by_task, "example", "x", 141, 1.0, 3).amount == D("292.50")


@pytest.mark.parametrize(
    ("shots", "up", "half_up", "down"),
    [(0, 0, 0, 0), (1, 10, 0, 0), (5, 10, 10, 0), (10, 10, 10, 10), (14, 20, 10, 10)],
)
def test_an_increment_is_rounded_as_it_says_before_the_limits(shots: int, up: int, half_up: int, down: int) -> None:
    for rounding, billed in (("up", up), ("half_up", half_up), ("down", down)):
        line = SHOTS | {"rate": "1", "increment": {"size": "10", "rounding": rounding}}
        facts = used(shots=shots)
        assert charge(card(line), "example", facts).lines[0].quantity == billed
        limits = {"minimum": [{"each": "3", "of": "tasks"}], "cap": [{"each": "12", "of": "tasks"}]}
        assert charge(card(line | limits), "example", facts).lines[0].quantity == min(max(billed, 3), 12)


def test_a_quantity_that_no_bill_can_have_is_refused_before_it_runs() -> None:
    """However small its price: a job that ran could not be charged."""
    line = SHOTS | {"rate": "0.000001", "by": "task", "increment": {"size": "999999999999999", "rounding": "up"}}
    assert upper_bound(card(line), "example", "x", 1, 1.0).amount == D(1000000000)
    with pytest.raises(AmountInvalid, match="is 10\\^15 or more"):
        upper_bound(card(line), "example", "x", 2, 1.0, 2)


def test_a_fraction_is_exact_and_rounded_once_to_twelve_decimals() -> None:
    """Three parts of a third are a whole."""
    third = {"meter": "parts", "unit": "HQC", "quantity": [{"each": "1", "of": "shots", "per": "3"}]}
    quantities = [charge(card(third), "example", used(shots=shots)).lines[0].quantity for shots in (1, 2, 3)]
    assert quantities == [D("0.333333333333"), D("0.666666666667"), 1]


def test_what_has_no_fact_makes_no_line_and_is_told() -> None:
    """A gate count that nobody could take is no zero."""
    hqc = copy.deepcopy(make.GOOD["prices"][0]["lines"][1])
    made = charge(card(SHOTS | {"rate": "1"}, hqc), "example", used(shots=1))
    assert [line.meter for line in made.lines] == ["shots"]
    assert made.unmeasured == ("one_qubit_gate_shots",)


def test_a_computed_line_rests_on_its_weakest_word() -> None:
    hqc = copy.deepcopy(make.GOOD["prices"][0]["lines"][1])
    facts = [fact("tasks", 1, "measured", "plane"), fact("one_qubit_gate_shots", 5, "vendor", "ionq")]
    (line,) = charge(card(hqc), "example", facts).lines
    assert (line.source, line.by) == ("vendor", "ionq")


def test_gates_are_bounded_by_what_was_compiled_and_without_it_refused() -> None:
    hqc = copy.deepcopy(make.GOOD["prices"][0]["lines"][1])
    with pytest.raises(
        UnknownPrice, match="how many one_qubit_gate_shots it takes before it runs, and card example has no cap"
    ):
        upper_bound(card(hqc), "example", "x", 1000, 1.0)
    known = {"one_qubit_gate_shots": D(5000)}
    assert upper_bound(card(hqc), "example", "x", 1000, 1.0, known=known).amount == D(75)
    capped = card(hqc | {"cap": [{"each": "10", "of": "tasks"}]})
    assert upper_bound(capped, "example", "x", 1000, 1.0).amount == D(125)


def test_defaults_order_and_spacing_of_a_file_do_not_change_its_hash() -> None:
    made = parse_card(json.dumps(make.GOOD).encode())
    assert made.document == rfc8785.dumps(json.loads(made.document))
    assert parse_card(made.document) == made
    shuffled = dict(reversed(make.GOOD.items()))
    assert parse_card(json.dumps(shuffled, indent=3).encode()) == made
    assert parse_card(json.dumps(make.GOOD | {"ends": False}).encode()).hash == made.hash
    line = make.GOOD["prices"][0]["lines"][0]
    assert card(line | {"by": "job", "increment": None}).hash == card(line).hash
    assert parse_card(json.dumps(make.GOOD | {"revision": 2}).encode()).hash != made.hash


_METERS = sorted({"tasks", "shots", "qpu_seconds", "two_qubit_gate_shots", "measurements", "mitigated_tasks"})
_amounts = st.decimals(0, 50, places=3).map(money.text)
_per = st.sampled_from(["1", "3", "5000", "0.7", "3600"])


def _terms(meters: list[str], most: int) -> st.SearchStrategy[list[dict[str, str]]]:
    one = st.fixed_dictionaries({"each": _amounts, "of": st.sampled_from(["job", *meters]), "per": _per})
    return st.lists(one, min_size=1, max_size=most, unique_by=lambda term: term["of"])


def _rated() -> st.SearchStrategy[dict[str, Any]]:
    above = st.lists(st.integers(1, 5000), max_size=3, unique=True).map(lambda found: ["0", *map(str, sorted(found))])
    tiers = above.flatmap(
        lambda found: st.tuples(*(st.fixed_dictionaries({"above": st.just(one), "rate": _amounts}) for one in found))
    )
    return st.one_of(_amounts.map(lambda rate: {"rate": rate}), tiers.map(lambda found: {"tiers": list(found)}))


def _increments() -> st.SearchStrategy[dict[str, Any]]:
    size = st.sampled_from(["1", "0.01", "7", "0.000000000003", "100000"])
    one = st.fixed_dictionaries({"size": size, "rounding": st.sampled_from(["up", "half_up", "down"])})
    return st.one_of(st.just({}), one.map(lambda increment: {"increment": increment}))


@st.composite
def lines(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Lines of any form that a card may have."""
    made = []
    for number in range(draw(st.integers(1, 3))):
        line: dict[str, Any] = draw(_rated()) | draw(_increments())
        if draw(st.booleans()):
            line |= {"meter": f"own_{number}", "unit": "OWN", "quantity": draw(_terms(_METERS, 4))}
        else:
            meter = draw(st.sampled_from(_METERS))
            line |= {"meter": meter, "unit": UNITS[meter]}
        for limit in draw(st.sampled_from([(), ("cap",), ("minimum",), ("minimum", "cap")])):
            line[limit] = draw(_terms(["tasks", "mitigated_tasks"], 3))
        terms = [term for name in ("quantity", "minimum", "cap") for term in line.get(name, ())]
        if all(term["of"] != "job" for term in terms):
            line["by"] = draw(st.sampled_from(["job", "task"]))
        made.append(line)
    return list({line["meter"]: line for line in made}.values())


class Work(Struct, frozen=True):
    """What each task of a job used of each meter, and the most that it might; all have the same shots and deadline."""

    did: list[dict[str, D]]
    most: list[dict[str, D]]

    @property
    def facts(self) -> list[Fact]:
        """The job's."""
        return [fact(meter, quantity, "measured", "test") for meter, quantity in total(self.did).items()]


def total(each: list[dict[str, D]]) -> dict[str, D]:
    """What they used together."""
    return {meter: sum((one[meter] for one in each), D(0)) for meter in each[0]}


@st.composite
def work(draw: st.DrawFn) -> Work:
    """A job of some tasks, of which not all may have run."""
    shots, seconds, mitigated = draw(st.integers(0, 5000)), draw(st.integers(0, 30_000)), draw(st.integers(0, 1))
    did, most = [], []
    for number in range(draw(st.integers(1, 4))):
        counted = {meter: draw(st.integers(0, 10_000)) for meter in ("two_qubit_gate_shots", "measurements")}
        bounds = counted | {"shots": shots, "mitigated_tasks": mitigated}
        most.append({meter: D(quantity) for meter, quantity in bounds.items()} | {"qpu_seconds": D(seconds) / 1000})
        if number == 0 or draw(st.booleans()):
            ran = {meter: D(draw(st.integers(0, bound))) for meter, bound in bounds.items()}
            did.append(ran | {"tasks": D(1), "qpu_seconds": D(draw(st.integers(0, seconds))) / 1000})
    return Work(did, most)


@settings(max_examples=150, deadline=None)
@given(lines(), work(), st.sampled_from(["half_even", "half_up"]), st.integers(0, 6), st.randoms())
def test_a_charge_is_never_above_the_bound_of_its_work_and_adds_up_in_any_order(
    drawn: list[dict[str, Any]],
    of: Work,
    rounding: str,
    places: int,
    chance: random.Random,
) -> None:
    """I3: whatever the lines are, what stays within its bounds costs at most what was held for it."""
    document = copy.deepcopy(make.GOOD) | {"rounding": rounding, "precision": money.text(D(1).scaleb(-places))}
    document["units"], document["prices"][0]["lines"] = [{"unit": "OWN"}], drawn
    data = json.dumps(document).encode()
    if faults(data):  # a minimum above its cap
        return
    made = parse_card(data)
    facts, most = of.facts, total(of.most)
    bill = charge(made, "example", facts, each=of.did)
    each = [{meter: one[meter] for meter in COMPILED & one.keys()} for one in of.most]
    seconds = of.most[0]["qpu_seconds"]
    bound = upper_bound(made, "example", "x", int(most["shots"]), seconds, len(each), None, total(each), each)
    assert bill.amount <= bound.amount
    assert not bill.unmeasured
    chance.shuffle(facts)
    assert charge(made, "example", facts, each=chance.sample(of.did, len(of.did))) == bill
    for line in bill.lines:
        exact = Fraction(line.quantity) * Fraction(line.rate)
        assert abs(Fraction(line.amount) - exact) <= Fraction(1, 2 * 10**places)
    assert bill.amount == sum(line.amount for line in bill.lines)
