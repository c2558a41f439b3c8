# SPDX-License-Identifier: Apache-2.0
"""Metered facts say what, how much, in which unit and by whose word (G6)."""

from decimal import Decimal
from typing import Any

import pytest

from finops.errors import AmountInvalid, FactInvalid
from finops.facts import UNITS, Fact, by_meter, fact


def test_every_meter_of_g6_exists() -> None:
    """G6: shots, QPU time, queue time, circuit depth, egress, simulator CPU and memory; what vendors bill besides,
    tasks, gates by arity, measurements, reserved time and mitigation; and what nodes of a network ask for.
    """
    assert set(UNITS) == {
        "tasks",
        "shots",
        "simulator_seconds",
        "simulator_cpu_seconds",
        "simulator_peak_memory",
        "qpu_seconds",
        "queue_seconds",
        "reservation_seconds",
        "circuit_depth",
        "one_qubit_gates",
        "two_qubit_gates",
        "multi_qubit_gates",
        "measurements",
        "submitted_one_qubit_gates",
        "submitted_two_qubit_gates",
        "submitted_multi_qubit_gates",
        "submitted_measurements",
        "one_qubit_gate_shots",
        "two_qubit_gate_shots",
        "multi_qubit_gate_shots",
        "measurement_shots",
        "mitigated_tasks",
        "egress_bytes",
        "node_fees",
    }


def test_a_fact_is_recorded_with_its_source_and_its_reporter() -> None:
    """G6: the record says who says so."""
    made = fact("simulator_seconds", 0.0041234567, "measured", "aer")
    assert made.record() == {
        "meter": "simulator_seconds",
        "quantity": "0.004124",
        "unit": "Seconds",
        "source": "measured",
        "by": "aer",
    }


@pytest.mark.parametrize("quantity", [-1, float("nan"), Decimal("NaN"), Decimal("1E30"), Decimal("-0.1"), True])
def test_an_impossible_quantity_is_refused_by_meter(quantity: Any) -> None:
    """NaN, negative and 10^30 name the meter."""
    with pytest.raises(AmountInvalid, match=r"^shots: "):
        fact("shots", quantity, "measured", "aer")


@pytest.mark.parametrize(
    ("meter", "source", "by"),
    [("photons", "measured", "aer"), ("shots", "guessed", "aer"), ("shots", "measured", "")],
)
def test_unknown_meters_and_sources_are_refused(meter: str, source: Any, by: str) -> None:
    """A fact without a meaning or a reporter isn't one."""
    with pytest.raises(FactInvalid):
        fact(meter, 1, source, by)


def test_a_meter_reported_twice_is_refused() -> None:
    """Nobody is charged twice for one meter."""
    twice = [fact("shots", 1, "measured", "aer"), fact("shots", 1, "vendor", "aer")]
    with pytest.raises(FactInvalid, match="shots: is reported twice"):
        by_meter(twice)


def test_a_foreign_unit_is_refused() -> None:
    """A rate a second never meets minutes."""
    with pytest.raises(FactInvalid, match="Minutes"):
        by_meter([Fact("qpu_seconds", Decimal(1), "Minutes", "vendor", "x")])
