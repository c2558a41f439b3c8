# SPDX-License-Identifier: Apache-2.0
"""What a card says of a backend is shown whole: tiers, limits, increments, and prices that nothing bounds yet (G14)."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec
import pytest

from control_plane.api.backend_shapes import Rate
from control_plane.api.backends import _price
from control_plane.commands.backends import _rates
from finops.rates import RateCard, parse_card
from tests.finops.test_card_2 import card


def shown(priced: RateCard, provider: str = "example", device: str = "x") -> dict[str, Any]:
    """As `GET /api/v1/backends/{id}` has it."""
    found = _price(priced, {"provider": provider, "id": device, "capability": {}}, 300.0)
    assert found is not None
    msgspec.convert(found["rates"], tuple[Rate, ...])
    return found


def shipped(name: str, *, accepted: bool = False) -> RateCard:
    """A card that ships."""
    return parse_card(files("finops").joinpath("cards", f"{name}.json").read_bytes(), accepted=accepted)


@pytest.mark.parametrize(
    ("name", "provider", "device", "most", "said"),
    [
        ("azure-rigetti", "azure-quantum", "rigetti.qpu.ankaa-3", "600", "0.02 a 10 ms by 1 started"),
        ("pasqal", "pasqal", "fresnel", "250", "3000 a QPU-Hours"),
        ("azure-ionq", "azure-quantum", "ionq.qpu.aria-1", None, "1 a AQT"),
        (
            "aws-braket",
            "aws-braket",
            "arn:aws:braket:us-east-1::device/qpu/ionq/Aria-1",
            "30.3",
            "0.30 a task, 0.03 a shot",
        ),
    ],
)
def test_a_price_is_told_in_its_own_unit_and_without_an_amount_where_nothing_bounds_it(
    name: str, provider: str, device: str, most: str | None, said: str
) -> None:
    """By gates nobody knows the most before a circuit is compiled: the price is shown all the same."""
    found = shown(shipped(name), provider, device)
    assert (found["at_most_for_1000"], _rates(found["rates"])) == (most, said)


def test_tiers_and_limits_are_told() -> None:
    tiers = [{"above": "0", "rate": "0.03"}, {"above": "1000", "rate": "0.02"}]
    limits = {"minimum": [{"each": "5", "of": "tasks"}], "cap": [{"each": "1", "of": "tasks", "per": "0.001"}]}
    (line,) = shown(card({"meter": "shots", "unit": "Shots", "tiers": tiers, "by": "task"} | limits))["rates"]
    assert (line["rate"], list(line["tiers"]), line["by"]) == ("0.03", tiers, "task")
    assert (line["minimum"], line["cap"], line["increment"]) == ("5", "1000", None)
    assert _rates([line]) == "0.03 a shot (0.02 above 1000) and at least 5"
