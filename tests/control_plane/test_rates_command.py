# SPDX-License-Identifier: Apache-2.0
"""`qcos rates lint` and `price --card` need no plane (G6)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import finops
from control_plane.cli import main
from tests.vectors.cards import make

CARDS = Path(finops.__file__).parent / "cards"


def test_lint_names_file_line_and_field_and_ends_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    bad = make.HERE / "bad" / "negative_rate.json"
    assert main(["rates", "lint", str(bad)]) == 1
    assert capsys.readouterr().out.startswith(f"{bad}:26: $.prices[0].lines[0].rate: ")
    assert main(["rates", "lint", str(CARDS / "own.json"), str(CARDS / "aws-braket.json")]) == 0


def test_price_writes_an_example_bill_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["rates", "price", "azure-quantum", "ionq.qpu.aria-1", "--card", str(CARDS / "azure-ionq.json"), "--json"]
    gates = ["--fact", "one_qubit_gate_shots=200000", "--fact", "two_qubit_gate_shots=100000"]
    assert main([*asked, *gates]) == 0
    bill = json.loads(capsys.readouterr().out)
    assert (bill["amount"], [line["unit"] for line in bill["lines"]]) == ("153.9166", ["AQT"])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--shots", "-1"], "amount_invalid: shots: is negative"),
        (["--fact", "shots"], "amount_invalid: shots: want a plain decimal"),
        (["--fact", "photons=1"], "fact_invalid: photons: no such meter"),
        (["--fact", "shots=1", "--fact", "shots=2"], "fact_invalid: shots: is said twice"),
        (["--fact", "shots=2.5"], "fact_invalid: shots: want a whole number"),
        (["--fact", "mitigated_tasks=2"], "fact_invalid: mitigated_tasks: there are 1 tasks"),
    ],
)
def test_an_error_of_one_field_names_it(capsys: pytest.CaptureFixture[str], asked: list[str], said: str) -> None:
    assert main(["rates", "price", "aer", "aer", "--card", str(CARDS / "own.json"), *asked]) == 2
    assert capsys.readouterr().err.startswith(said)


def test_a_card_that_cannot_be_read_is_told_before_a_plane_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rates", "push", str(make.HERE / "bad" / "nan.json")]) == 2
    assert "nan.json:26: $.prices[0].lines[0].rate: " in capsys.readouterr().err
