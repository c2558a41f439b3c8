# SPDX-License-Identifier: Apache-2.0
"""Metered facts (G6): what was used, in which unit, by whose word.

Contract: a fact is a meter, a non-negative quantity, its fixed unit, and its source: `vendor` (the provider
says so), `measured` (the plane saw it) or `estimated` (computed), with the name of who said it. What isn't
known is an absent fact, never a zero: a simulator reports no `qpu_seconds`. Shots are the primary unit.
Prices are not here. Pure: no clock, randomness, socket or database.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from finops import money
from finops.errors import FactInvalid

Source: TypeAlias = Literal["vendor", "measured", "estimated"]

# Units are spelt as FOCUS spells PricingUnit and ConsumedUnit: plural, capitalised.
UNITS: Final[dict[str, str]] = {
    "tasks": "Tasks",
    "shots": "Shots",
    "simulator_seconds": "Seconds",
    "simulator_cpu_seconds": "Seconds",
    "simulator_peak_memory": "Bytes",
    "qpu_seconds": "Seconds",
    "queue_seconds": "Seconds",
    "reservation_seconds": "Seconds",
    "circuit_depth": "Layers",
    "one_qubit_gates": "Gates",
    "two_qubit_gates": "Gates",
    "multi_qubit_gates": "Gates",
    "measurements": "Measurements",
    "submitted_one_qubit_gates": "Gates",
    "submitted_two_qubit_gates": "Gates",
    "submitted_multi_qubit_gates": "Gates",
    "submitted_measurements": "Measurements",
    "one_qubit_gate_shots": "Gate-Shots",
    "two_qubit_gate_shots": "Gate-Shots",
    "multi_qubit_gate_shots": "Gate-Shots",
    "measurement_shots": "Measurement-Shots",
    "mitigated_tasks": "Tasks",
    "egress_bytes": "Bytes",
    "node_fees": "Currency",
}
SOURCES: Final[tuple[str, ...]] = ("vendor", "measured", "estimated")


class Fact(Struct, frozen=True):
    """One metered quantity; `by` names the reporter, such as `aer` or `plane`."""

    meter: str
    quantity: Decimal
    unit: str
    source: Source
    by: str

    def record(self) -> dict[str, str]:
        """The fact as canonical JSON values."""
        return {
            "meter": self.meter,
            "quantity": money.text(self.quantity),
            "unit": self.unit,
            "source": self.source,
            "by": self.by,
        }


def fact(meter: str, quantity: Decimal | float, source: Source, by: str) -> Fact:
    """Make a fact with its meter's own unit; raises FactInvalid or AmountInvalid, naming the meter.

    A float (a clock's reading) is rounded up to 10^-6 of the unit.
    """
    unit = UNITS.get(meter)
    if unit is None:
        raise FactInvalid(f"no such meter; there are {', '.join(UNITS)}", field=meter)
    if source not in SOURCES:
        raise FactInvalid(f"source is vendor, measured or estimated, not {source}", field=meter)
    if not by:
        raise FactInvalid("says nobody reported it", field=meter)
    return Fact(meter, money.measured(quantity, meter), unit, source, by)


def by_meter(facts: Iterable[Fact]) -> dict[str, Fact]:
    """Index facts by meter; raises FactInvalid when a meter is reported twice or a unit isn't the meter's."""
    found: dict[str, Fact] = {}
    for one in facts:
        if UNITS.get(one.meter) != one.unit:
            raise FactInvalid(f"unit {one.unit} is not this meter's", field=one.meter)
        if one.meter in found:
            raise FactInvalid("is reported twice", field=one.meter)
        money.check(one.quantity, one.meter)
        found[one.meter] = one
    return found
