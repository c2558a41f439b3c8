# SPDX-License-Identifier: Apache-2.0
"""Makes the bundles of this folder again, with new keys: `python -m tests.vectors.billed.make`.

Each is charged by a rate card of version 2: a formula over gate-shots in a provider's unit, tiers, a minimum. `good`
ones are valid under `trust.json`; the others are signed, sealed and stamped by the right keys, and their bill isn't
what the card says of their facts. `expected.json` has verdict and first failing check. The private keys are thrown
away.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.canonical import dumps, sha256
from tests.ledger.plane import Plane, artefact, record

HERE = Path(__file__).parent
FACTS = {
    "tasks": "1",
    "shots": "1000",
    "one_qubit_gate_shots": "40001",
    "two_qubit_gate_shots": "12000",
    "qpu_seconds": "0.7",
}
CARD: dict[str, Any] = {
    "version": 2,
    "name": "aer",
    "revision": 1,
    "currency": "USD",
    "source": "A contract",
    "source_date": "2025-01-01",
    "effective_from": "2025-01-01",
    "precision": "0.0001",
    "rounding": "half_even",
    "units": [{"unit": "HQC", "price": "1.3"}],
    "prices": [
        {
            "provider": "aer",
            "device": "*",
            "lines": [
                {
                    "meter": "hqc",
                    "unit": "HQC",
                    "quantity": [
                        {"each": "5", "of": "tasks"},
                        {"each": "1", "of": "one_qubit_gate_shots", "per": "5000"},
                        {"each": "10", "of": "two_qubit_gate_shots", "per": "5000"},
                    ],
                },
                {
                    "meter": "shots",
                    "unit": "Shots",
                    "tiers": [{"above": "0", "rate": "0.03"}, {"above": "600", "rate": "0.02"}],
                },
                {"meter": "hours", "unit": "HQC", "quantity": [{"each": "1", "of": "qpu_seconds", "per": "3600"}]},
                {
                    "meter": "qpu_seconds",
                    "unit": "Seconds",
                    "rate": "0.5",
                    "minimum": [{"each": "2", "of": "tasks"}],
                    "cap": [{"each": "20", "of": "tasks"}],
                },
            ],
        }
    ],
}
# As a person reckons them: 5 + 8.0002 + 24; 600 and 400; 0.7 / 3600; at least 2.
LINES = [
    ("hqc", "37.0002", "HQC", "1.3", "48.1003"),
    ("shots", "600", "Shots", "0.03", "18"),
    ("shots", "400", "Shots", "0.02", "8"),
    ("hours", "0.000194444444", "HQC", "1.3", "0.0003"),
    ("qpu_seconds", "2", "Seconds", "0.5", "1"),
]

Parts = tuple[dict[str, Any], dict[str, str], list[dict[str, str]], list[dict[str, str]]]
"""The card, the job's facts, the bill, and the facts of each item, where there are any."""


def _nothing(_: Parts) -> None:
    pass


def _facts(**facts: str | None) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        for meter, quantity in facts.items():
            if quantity is None:
                del parts[1][meter]
            else:
                parts[1][meter] = quantity

    return change


def _billed(number: int, **members: str) -> Callable[[Parts], None]:
    return lambda parts: parts[2][number].update(members)


def _dropped(parts: Parts) -> None:
    del parts[2][0]


def _reordered(parts: Parts) -> None:
    parts[2].reverse()


def _device(parts: Parts) -> None:
    own = copy.deepcopy(parts[0]["prices"][0]) | {"device": "aer-1"}
    own["lines"][0]["quantity"][0]["each"] = "6"
    parts[0]["prices"].append(own)


def _line(number: int, **members: Any) -> Callable[[Parts], None]:
    return lambda parts: parts[0]["prices"][0]["lines"][number].update(members)


ITEMS = ({"tasks": "1", "qpu_seconds": "0.7"}, {"tasks": "1", "qpu_seconds": "3.2"})


def _by_task(*changes: Callable[[Parts], Any]) -> Callable[[Parts], None]:
    """Two tasks; the seconds of each are rounded up to halves, and 2 at least: 2 and 3.5."""

    def change(parts: Parts) -> None:
        _facts(tasks="2", qpu_seconds="3.9")(parts)
        _line(3, by="task", increment={"size": "0.5", "rounding": "up"})(parts)
        _billed(0, quantity="42.0002", amount="54.6003")(parts)
        _billed(3, quantity="0.001083333333", amount="0.0014")(parts)
        _billed(4, quantity="5.5", amount="2.75")(parts)
        parts[3].extend(map(dict, ITEMS))
        for one in changes:
            one(parts)

    return change


CASES: dict[str, tuple[str, Callable[[Parts], Any]]] = {
    "good": ("valid", _nothing),
    "good_other_facts_beside": ("valid", _facts(queue_seconds="0.4")),
    "bad_quantity_of_a_unit": ("invalid", _billed(0, quantity="36.0002", amount="46.8003")),
    "bad_gate_shots_of_another_job": ("invalid", _facts(two_qubit_gate_shots="12001")),
    "bad_rounding": ("invalid", _billed(0, amount="48.1002")),
    "bad_tier": ("invalid", _billed(2, rate="0.03", amount="12")),
    "bad_minimum_left_out": ("invalid", _billed(4, quantity="0.7", amount="0.35")),
    "bad_line_dropped": ("invalid", _dropped),
    "bad_lines_out_of_order": ("invalid", _reordered),
    "bad_fact_missing": ("invalid", _facts(one_qubit_gate_shots=None)),
    "bad_price_of_another_device": ("invalid", _device),
    "bad_divided_by_zero": ("invalid", _line(3, minimum=[{"each": "2", "of": "tasks", "per": "0"}])),
    "bad_tiers_out_of_order": (
        "invalid",
        _line(1, tiers=[{"above": "600", "rate": "0.02"}, {"above": "0", "rate": "0.03"}]),
    ),
    "good_by_task": ("valid", _by_task()),
    "bad_by_task_as_of_the_job": ("invalid", _by_task(_billed(4, quantity="4", amount="2"))),
    "bad_by_task_counts_the_job": ("invalid", _by_task(_line(3, minimum=[{"each": "2", "of": "job"}]))),
    "bad_by_task_items_of_another_job": ("invalid", _by_task(lambda parts: parts[3][0].update(qpu_seconds="0.8"))),
    "bad_by_task_item_of_two": (
        "invalid",
        _by_task(lambda parts: parts[3].pop(), lambda parts: parts[3][0].update(tasks="2", qpu_seconds="3.9")),
    ),
    "bad_by_task_item_without_the_fact": ("invalid", _by_task(lambda parts: parts[3][1].pop("qpu_seconds"))),
    "bad_by_task_without_items": ("invalid", _by_task(lambda parts: parts[3].clear())),
    "bad_increment_of_nothing": ("invalid", _by_task(_line(3, increment={"size": "0", "rounding": "up"}))),
    "bad_increment_pro_rata": ("invalid", _by_task(_billed(4, quantity="5.2", amount="2.6"))),
    "bad_increment_that_was_not_full": (
        "invalid",
        _by_task(_line(3, increment={"size": "0.5", "rounding": "down"})),
    ),
    "bad_minimum_of_shots": ("invalid", _line(3, minimum=[{"each": "0.002", "of": "shots"}])),
}


def bundle(plane: Plane, change: Callable[[Parts], Any]) -> bytes:
    """A completed job that was charged by the card, changed before it was signed."""
    members, contents = record("completed_full")
    names = ("meter", "quantity", "unit", "rate", "amount")
    lines = [dict(zip(names, line, strict=True)) | {"source": "measured"} for line in LINES]
    card, facts = copy.deepcopy(CARD), dict(FACTS)
    each: list[dict[str, str]] = []
    change((card, facts, lines, each))
    told = [{"meter": meter, "quantity": quantity, "source": "measured"} for meter, quantity in facts.items()]
    used = [[{"meter": meter, "quantity": quantity} for meter, quantity in one.items()] for one in each]
    contents["rate_card"] = dumps(card)
    contents["execution"] = dumps({"facts": told} | ({"items": [{"facts": one} for one in used]} if used else {}))
    for name in ("rate_card", "execution"):
        artefact(members, name, contents[name])
    whole = sum(round(float(line["amount"]) * 10_000) for line in lines)
    amount = f"{whole // 10_000}.{whole % 10_000:04}".rstrip("0").rstrip(".")
    members["cost"] = members["cost"] | {"amount": amount, "rate_card": sha256(contents["rate_card"]), "lines": lines}
    return plane.seal(members, contents)


def main() -> None:
    """Write the folder."""
    for old in HERE.glob("*.json"):
        old.unlink()
    with tempfile.TemporaryDirectory() as room:
        plane = Plane(Path(room, "plane"), external=True)
        for name, (_, change) in CASES.items():
            (HERE / f"{name}.json").write_bytes(bundle(plane, change))
        (HERE / "trust.json").write_bytes(plane.trust())
    expected = {
        f"{name}.json": {"verdict": verdict, "check": "" if verdict == "valid" else "cost_recomputed"}
        for name, (verdict, _) in CASES.items()
    }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
