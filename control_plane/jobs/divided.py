# SPDX-License-Identifier: Apache-2.0
"""What happened to each fragment of a network job, and what that says of the result: its payload (N6, N15). Pure.

Enters: the artefacts `plan` and `network`. Leaves: how the plan divided the circuit; `fragment_results`, each with
node, attempts, times and observed fidelity, of ends without a result too; and an estimate of the whole result's
fidelity. The estimate is the product of the fragments': for each the smaller of what its node says of this run and what
the plan judged of that node. It is no tomography and is called an estimate; the fidelity to the ideal state, where it
was asked for, is `fidelity`, and a thing apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from hal_drivers.p2p.asking import fragment_seed

PPM = 1_000_000
NOTE = "the product of what was reported and judged of each fragment: an estimate, no tomography of the state"


def fragment_results(plan: Mapping[str, Any] | None, network: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One for each fragment, in the plan's order; without a plan, which a gap of the evidence then says, untyped."""
    kinds = {one["fragment_id"]: one["service_type"] for one in plan["plan"]["fragments"]} if plan is not None else {}
    return [_fragment(one, kinds.get(one["fragment_id"]), network) for one in network["run"]["fragments"]]


def drawn(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The member `plan` of a result: how it was divided, and what of it is abstract or not exact."""
    made = plan["plan"]
    return {name: made[name] for name in ("plan_id", "mode", "mode_reason", "alias_model", "approximations")}


def estimate(plan: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    """The member `fidelity_estimate` of a result."""
    judged = {
        (one["fragment_id"], candidate["node_id"]): candidate["fidelity_ppm"]
        for one in plan["plan"]["assignments"]
        for candidate in one["candidates"]
    }
    known = []
    for fragment in network["run"]["fragments"]:
        ppm = judged.get((fragment["fragment_id"], fragment["node_id"]))
        known.append(min(_reported(fragment), 1.0 if ppm is None else ppm / PPM))
    return {"value": math.prod(known), "label": "estimated", "kind": "product of fragments", "note": NOTE}


def _reported(fragment: Mapping[str, Any]) -> float:
    """What the node whose answer was accepted says of the whole fragment in this run."""
    accepted = next(one for one in fragment["attempts"] if one["status"] == "accepted")
    for answer in accepted["answers"]:
        words = msgspec.json.decode(msgspec.convert(answer["body"], bytes))
        if words["type"] == "executed":
            return float(words["fidelity"])
    return 0.0


def _fragment(fragment: Mapping[str, Any], service_type: str | None, network: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "fragment_id": fragment["fragment_id"],
        "service_type": service_type,
        "status": fragment["status"],
        "node": fragment["node_id"],
        "shots": network["shots"] if fragment["node_id"] is not None else 0,
        "seed": fragment_seed(network["seed"], fragment["fragment_id"]),
        "start": fragment["started_at"],
        "end": fragment["ended_at"],
        "observed_fidelity": _share(fragment["observed_ppm"]),
        "error": _error(fragment),
        "attempts": [
            {
                "node": one["node_id"],
                "epoch": one["epoch"],
                "status": one["status"],
                "start": one["started_at"],
                "end": one["ended_at"],
                "observed_fidelity": _share(one["observed_ppm"]),
                "error": _error(one),
            }
            for one in fragment["attempts"]
        ],
    }


def _error(said: Mapping[str, Any]) -> dict[str, Any] | None:
    return None if said["code"] is None else {"code": said["code"], "detail": said["detail"] or ""}


def _share(ppm: int | None) -> float | None:
    return None if ppm is None else ppm / PPM
