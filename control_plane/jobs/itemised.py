# SPDX-License-Identifier: Apache-2.0
"""What evidence keeps of a program: each item's circuit, counts and end, in few artefacts (G3, decision 12). Pure.

`result` has the measured integers of every finished item and their sum; `compiled.json` has the circuits as they ran,
each once; `execution` says of every item how it ended and under which seed and method. docs/evidence-format.md has the
members; `ledger.recompute` counts them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from control_plane.jobs.gathered import Ended, Gathered, Program
from finops import money
from hal_drivers.base import Compiled, Outcome
from ledger.canonical import dumps, timestamp


def blocks(outcome: Outcome) -> list[dict[str, Any]]:
    """Blocks of shots as the artefact `result` has them."""
    return [
        {"shots": b.shots, "counts": b.counts, "start": timestamp(b.start), "end": timestamp(b.end)}
        for b in outcome.blocks
    ]


def result_bytes(gathered: Gathered) -> bytes:
    """The `result` of a program; what didn't finish isn't in it."""
    done = [
        _named(one)
        | {
            "shots": one.outcome.shots_executed,
            "counts": one.outcome.counts,
            "blocks": blocks(one.outcome),
        }
        for one in gathered.items
        if one.outcome is not None
    ]
    return dumps({"items": done, "shots": gathered.shots_executed})


def executed(compiled: Program, gathered: Gathered, each: Sequence[Mapping[str, Decimal]] = ()) -> list[dict[str, Any]]:
    """The items of the artefact `execution`; `each` has what each that ran used, where its bill counts by task."""
    made = [_executed(one, built) for one, built in zip(gathered.items, compiled.items, strict=True)]
    if each:
        ran = (one for one, ended in zip(made, gathered.items, strict=True) if ended.outcome is not None)
        for one, used in zip(ran, each, strict=True):
            one["facts"] = [{"meter": meter, "quantity": money.text(used[meter])} for meter in sorted(used)]
    return made


def _executed(one: Ended, built: Compiled) -> dict[str, Any]:
    facts, outcome = built.facts, one.outcome
    status = "completed" if outcome is not None else "failed" if one.code not in (None, "canceled") else "canceled"
    said = _named(one) | {
        "status": status if one.code is not None or outcome is not None else "not_run",
        "error": {"code": one.code, "detail": one.detail} if one.code is not None else None,
        "layout": list(facts.layout) if facts.layout is not None else None,
        **({} if facts.final_layout is None else {"final_layout": list(facts.final_layout)}),
        "measured_bits": list(facts.measured_bits),
        "qubits": facts.qubits,
        "depth": facts.depth,
        "gates_before": facts.gates_before,
        "gates_after": facts.gates_after,
    }
    if outcome is None:
        return said
    return said | {
        "seed": outcome.seed,
        "method": outcome.method,
        "partial": outcome.partial,
        "start": timestamp(outcome.started_at),
        "end": timestamp(outcome.ended_at),
        "metadata": outcome.metadata,
    }


def _named(one: Ended) -> dict[str, Any]:
    item = one.item
    return {"item": item.number, "circuit": item.circuit, "parameters": item.parameters, "basis": item.basis}
