# SPDX-License-Identifier: Apache-2.0
"""A shared cost is split to the last decimal, the same way whatever the order (G7)."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finops import money
from finops.allocation import Allocation, Usage, apportion, borne_by, parse_method, split
from finops.errors import AllocationInvalid

D = Decimal
VECTORS = Path(__file__).parents[1] / "vectors" / "allocation"
NAMES = st.one_of(st.none(), st.text("abcZé", min_size=1, max_size=3))
AMOUNTS = st.decimals(D("-1000000"), D("1000000"), places=6).map(lambda amount: amount.normalize())
WEIGHTS = st.dictionaries(NAMES, st.decimals(0, 10**6, places=12), min_size=1, max_size=8).filter(
    lambda weights: any(weights.values())
)


def method(*rules: dict[str, Any], **more: Any) -> Allocation:
    """A method of these rules."""
    document = {"version": 1, "name": "rules", "revision": 1, "rules": rules, **more}
    return parse_method(msgspec.json.encode(document))


@given(AMOUNTS, WEIGHTS, st.sampled_from(["1", "0.01", "0.000001"]), st.randoms())
def test_the_parts_are_the_amount_to_the_last_decimal(
    amount: Decimal, weights: dict[str | None, Decimal], precision: str, random: Any
) -> None:
    """Largest remainder: exact, within one quantum of the true share, and in no way of the input's order."""
    parts = apportion(amount, weights, D(precision))
    assert money.total(part.amount for part in parts) == amount
    assert {part.cost_center for part in parts} == weights.keys()
    quantum = min(D(precision), D(1).scaleb(min(int(amount.as_tuple().exponent), 0)))
    of = money.total(weights.values())
    for part in parts:
        assert abs(part.amount * of - amount * weights[part.cost_center]) < quantum * of
        assert part.amount == part.amount.quantize(quantum)
        assert part.weight or not part.amount
    shuffled = list(weights.items())
    random.shuffle(shuffled)
    assert apportion(amount, dict(shuffled), D(precision)) == parts
    assert [-part.amount for part in apportion(-amount, weights, D(precision))] == [part.amount for part in parts]


@pytest.mark.parametrize(
    ("amount", "weights", "expected"),
    [
        ("100", {"a": 1, "b": 1, "c": 1}, {"a": "33.34", "b": "33.33", "c": "33.33"}),
        ("0.01", {"b": 1, "a": 1}, {"a": "0.01", "b": "0"}),
        ("0.02", {"b": 3, "a": 1}, {"a": "0.01", "b": "0.01"}),
        ("0.02", {"a": 1, "b": 4}, {"a": "0", "b": "0.02"}),
        ("0.005", {"a": 1, "b": 1}, {"a": "0.003", "b": "0.002"}),
        ("-1", {"a": 2, None: 1}, {"a": "-0.67", None: "-0.33"}),
        ("0", {"a": 1}, {"a": "0"}),
    ],
)
def test_what_is_left_over_goes_by_remainder_then_by_name(amount: str, weights: Any, expected: Any) -> None:
    """Cases worked out by hand, an amount finer than the precision among them."""
    found = apportion(D(amount), {name: D(weight) for name, weight in weights.items()}, D("0.01"))
    assert {part.cost_center: money.text(part.amount) for part in found} == expected


USAGE = {
    "a": Usage(D("30"), D(100), 3),
    "b": Usage(D("10"), D(300), 1),
    None: Usage(D("10"), D(0), 1),
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"by": "spend"}, {"a": "60", "b": "20", None: "20"}),
        ({"by": "shots"}, {"a": "25", "b": "75", None: "0"}),
        ({"by": "jobs"}, {"a": "60", "b": "20", None: "20"}),
        ({"by": "even"}, {"a": "50", "b": "50"}),
        ({"by": "even", "among": ["x", "b"]}, {"b": "50", "x": "50"}),
        ({"by": "spend", "among": ["a", "b", "x"]}, {"a": "75", "b": "25", "x": "0"}),
        ({"by": "fixed", "ratios": {"x": "0.7", "a": "0.3"}}, {"a": "30", "x": "70"}),
        ({"by": "jobs", "among": ["x"]}, {None: "100"}),
    ],
)
def test_each_rule_splits_by_what_it_says(rule: dict[str, Any], expected: Any) -> None:
    """What nobody used anything of stays unallocated, and is shown."""
    parts = split(method({"pool": "*"} | rule), "platform", D(100), USAGE)
    assert {part.cost_center: money.text(part.amount) for part in parts} == expected


def test_a_pool_has_its_own_rule_else_that_of_any_else_nobody_bears_it() -> None:
    """Nothing is split by a rule that nobody wrote."""
    own = method({"pool": "support", "by": "fixed", "ratios": {"s": "1"}}, {"pool": "*", "by": "even", "among": ["e"]})
    assert split(own, "support", D(1), {})[0].cost_center == "s"
    assert split(own, "platform", D(1), {})[0].cost_center == "e"
    for none in (None, method({"pool": "support", "by": "spend"})):
        assert [(part.cost_center, part.amount) for part in split(none, "platform", D(1), USAGE)] == [(None, D(1))]


def test_a_charge_goes_to_its_own_cost_centre_then_to_its_projects_then_to_nobodys() -> None:
    """The default of a project is part of the method, so that a statement can be computed again."""
    defaults = method(defaults={"p": "P-1"})
    assert borne_by(defaults, "own", "p") == "own"
    assert borne_by(defaults, None, "p") == "P-1"
    assert borne_by(defaults, None, "q") is borne_by(None, None, "p") is borne_by(defaults, None, None) is None


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.integers(-2, 2))
def test_ratios_sum_to_exactly_one(parts: list[int], off: int) -> None:
    """The smallest difference is refused and named."""
    ratios = [D(part) / sum(parts) for part in parts]
    ratios = [ratio.quantize(D("1e-12"), rounding="ROUND_DOWN") for ratio in ratios]
    ratios[0] += 1 - sum(ratios) + off * D("1e-12")
    rule = {"pool": "x", "by": "fixed", "ratios": {str(n): money.text(ratio) for n, ratio in enumerate(ratios)}}
    if ratios[0] < 0 or off == 0:
        assert off or ratios[0] < 0 or method(rule).hash
        return
    side = "above" if off > 0 else "short of"
    with pytest.raises(AllocationInvalid, match=rf"ratios: the ratios sum to .* 0\.00000000000{abs(off)} {side} one"):
        method(rule)


def test_equal_methods_have_one_hash() -> None:
    """However they are written down."""
    spaced = b'{ "rules": [{"by":"even", "pool":"*"}], "revision": 1, "name":"rules", "version": 1 }'
    assert parse_method(spaced).hash == method({"pool": "*", "by": "even"}).hash
    assert parse_method(method({"pool": "*", "by": "even"}).document).hash == parse_method(spaced).hash


@pytest.mark.parametrize("path", sorted(VECTORS.glob("bad-*.json")), ids=lambda path: path.stem)
def test_a_bad_method_is_refused_with_its_field(path: Path) -> None:
    """Each file says in `expect` what is wrong with its `method`."""
    vector = msgspec.json.decode(path.read_bytes())
    with pytest.raises(AllocationInvalid) as caught:
        parse_method(msgspec.json.encode(vector["method"]))
    assert str(caught.value) == vector["expect"]
