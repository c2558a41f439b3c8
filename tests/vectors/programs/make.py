# SPDX-License-Identifier: Apache-2.0
"""Makes the bundles of programs in this folder again, with new keys: `python -m tests.vectors.programs.make`.

`NAME.json` is judged under `trust.json`; `expected.json` names verdict and first failing check of each. All are signed,
sealed and stamped by the right keys: what is wrong with a lie is its own counting.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger.canonical import dumps, sha256
from tests.ledger.plane import SPEC, Plane, artefact, record

HERE = Path(__file__).parent
SHOTS = 100


def item(number: int, circuit: int, parameters: int | None, basis: str | None, **counts: int) -> dict[str, Any]:
    """One item's counts, as two blocks would add up to them; a count is named after its bits, with a b before them."""
    found = {bits[1:]: n for bits, n in counts.items()}
    block = {"shots": sum(found.values()), "counts": found, "start": "a", "end": "b"}
    named = {"item": number, "circuit": circuit, "parameters": parameters, "basis": basis}
    return named | {"shots": block["shots"], "counts": found, "blocks": [block]}


def sweep() -> list[dict[str, Any]]:
    """Two circuits under two parameter sets."""
    places = [(circuit, values) for circuit in (0, 1) for values in (0, 1)]
    return [item(number, *place, None, b0=60 + number, b1=40 - number) for number, place in enumerate(places)]


def energies() -> list[dict[str, Any]]:
    """One circuit in two bases."""
    return [item(0, 0, None, "XX", b00=50, b11=50), item(1, 0, None, "ZI", b0=70, b1=30)]


def made(items: list[dict[str, Any]], kind: str = "sampler", **members: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record of a program with these items, its sums as they are unless `members` says otherwise."""
    record_, contents = record("completed_full")
    del contents["source"]
    record_["artefacts"] = [part for part in record_["artefacts"] if part["name"] != "source"]
    circuit = SPEC["circuit"]
    program: dict[str, Any] = {"kind": kind, "circuits": [circuit, circuit]}
    program["parameters"] = [[{"name": "theta", "value": text}] for text in ("0.1", "0.2")]
    if kind == "estimator":
        program = {"kind": kind, "circuits": [circuit], "observables": ["0.5*XX - 1e-1*ZI", "II"]}
    spec = {name: value for name, value in SPEC.items() if name != "circuit"} | {"program": program}
    spec["execution"] = {"shots": SHOTS, "seed": 7}
    total = sum(one["shots"] for one in items)
    contents |= {"spec": dumps(spec), "result": dumps({"items": items, "shots": total})}
    for name in ("spec", "result"):
        artefact(record_, name, contents[name])
    record_["input_hash"], record_["output_hash"] = sha256(contents["spec"]), sha256(contents["result"])
    record_["submission"] |= {"shots": SHOTS}
    record_["execution_metadata"] |= {"shots_executed": total}
    tasks, shots = record_["cost"]["lines"]
    tasks |= {"quantity": str(len(items)), "amount": f"{0.3 * len(items):.4f}".rstrip("0")}
    shots |= {"quantity": str(total), "amount": f"{0.00008 * total:.4f}".rstrip("0")}
    amount = f"{0.3 * len(items) + round(0.00008 * total, 4):.4f}".rstrip("0")
    record_["cost"] |= {"amount": amount, "lines": [tasks, shots]}
    return record_ | members, contents


def bundles(plane: Plane) -> Iterator[tuple[str, bytes, str]]:
    """(name, file, the check that must fail or nothing)."""
    yield "sweep", plane.seal(*made(sweep())), ""
    yield "energies", plane.seal(*made(energies(), "estimator")), ""
    yield "sweep_partial", plane.seal(*made(sweep()[:3], partial="3 of 4 items finished: canceled on request")), ""

    def lie(name: str, items: list[dict[str, Any]], kind: str = "sampler", **members: Any) -> tuple[str, bytes, str]:
        return name, plane.seal(*made(items, kind, **members)), "shots_recomputed"

    items = sweep()
    items[2]["counts"] = {"0": 63, "1": 37}
    yield lie("count_moved", items)
    items = sweep()
    items[1] |= {"shots": 101}
    yield lie("shots_of_an_item_invented", items)
    yield lie("item_dropped", sweep()[1:])
    yield lie("item_twice", [*sweep(), item(4, 1, 1, None, b0=100)])
    yield lie("item_of_no_such_circuit", [*sweep()[:3], item(3, 2, 1, None, b0=100)])
    yield lie("items_out_of_order", [*sweep()[:2], sweep()[3], sweep()[2]])
    yield lie("item_short_unsaid", [*sweep()[:3], item(3, 1, 1, None, b0=99)])
    yield lie("item_longer_than_asked", [*sweep()[:3], item(3, 1, 1, None, b0=101)], partial="said")
    yield lie("basis_dropped", energies()[:1], "estimator")
    yield lie("outcome_of_another_basis", [energies()[0], item(1, 0, None, "ZI", b00=100)], "estimator")
    yield lie("basis_of_a_sampler", [one | {"basis": "Z"} for one in sweep()])
    members, contents = made(sweep())
    contents["result"] = dumps({"counts": {"0": 400}, "blocks": [], "shots": 400})
    artefact(members, "result", contents["result"])
    members["output_hash"] = sha256(contents["result"])
    yield "one_circuit_for_a_program", plane.seal(members, contents), "shots_recomputed"
    members, contents = record("completed_full")
    contents["result"] = dumps({"items": [item(0, 0, None, None, b0=1000)], "shots": 1000})
    artefact(members, "result", contents["result"])
    members["output_hash"] = sha256(contents["result"])
    yield "a_program_for_one_circuit", plane.seal(members, contents), "shots_recomputed"


def main() -> None:
    """Write the folder."""
    expected: dict[str, dict[str, str]] = {}
    for old in HERE.glob("*.json"):
        old.unlink()
    with tempfile.TemporaryDirectory() as room:
        plane = Plane(Path(room, "plane"), external=True)
        for name, data, check in bundles(plane):
            (HERE / f"{name}.json").write_bytes(data)
            expected[name] = {"verdict": "invalid" if check else "valid", "check": check}
        (HERE / "trust.json").write_bytes(plane.trust())
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
