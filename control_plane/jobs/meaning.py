# SPDX-License-Identifier: Apache-2.0
"""What measured integers mean: frequencies and expectations, each with its standard error (N15). Pure.

Enters the artefacts of an ended job, leaves the result payload. Everything made of counts is labelled `sampled` and
carries its error; everything computed from the circuit is labelled `exact_ideal` or `exact_noisy` and stands in the
artefact `analysis`, which `output_hash` doesn't cover (decision 12). Payloads are bounded: counts with more than
`INLINE_KEYS` outcomes are a file of their own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from control_plane.jobs import observables
from control_plane.jobs.gathered import Gathered
from control_plane.jobs.spec import MAX_SHOTS, JobSpec, needed

INLINE_KEYS = 10_000  # of all counts of a job together
COUNTS_FILE = "counts.json"
TOP = 16
SAMPLED = "sampled"


def estimated(spec: JobSpec, gathered: Gathered) -> dict[str, Any]:
    """The expectations of an estimator's observables in every state, and what is missing for which; else nothing."""
    program = spec.program
    if program is None or program.kind != "estimator":
        return {}
    among = observables.bases(program.observables)
    states: dict[tuple[int, int | None], dict[str, Mapping[str, int]]] = defaultdict(dict)
    for one in gathered.items:
        found = states[one.item.circuit, one.item.parameters]
        if one.outcome is not None and one.item.basis is not None:
            found[one.item.basis] = one.outcome.counts
    values: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for (circuit, parameters), counts in states.items():
        for text in program.observables:
            where = {"circuit": circuit, "parameters": parameters, "observable": text}
            got = observables.estimate(observables.parse(text), among, counts)
            if got is None:
                reason = "a basis that it needs has not been measured"
                refused.append({"field": "observable_expectations", "reason": reason} | where)
                continue
            error = {"standard_error": got.standard_error, "shots": got.shots, "label": SAMPLED}
            values.append(where | {"value": got.value} | error)
    made: dict[str, Any] = {"observable_expectations": values}
    return made | ({"refused": refused} if refused else {})


def precision(spec: JobSpec) -> dict[str, Any]:
    """What became of a precision that was asked for in place of shots; nothing where none was."""
    if spec.program is None or spec.program.precision is None:
        return {}
    wanted = needed(spec.program)
    bound = (
        "frequencies: 1/4 a shot" if spec.program.kind == "sampler" else "each basis: (sum of |coefficients|)^2 a shot"
    )
    asked = {"asked": spec.program.precision, "shots": spec.shots, "shots_needed": wanted, "variance_bound": bound}
    return {"precision": asked | {"capped": wanted > MAX_SHOTS}}


def frequencies(counts: Mapping[str, int], shots: int) -> dict[str, Any]:
    """Counts, their frequencies with standard errors, and the most frequent."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shares = {bits: n / shots for bits, n in counts.items()} if shots else {}
    return {
        "counts": dict(counts),
        "shots": shots,
        "measured_probabilities": shares,
        "top_basis_states": [{"state": bits, "count": n} for bits, n in ranked[:TOP]],
        "standard_errors": {"measured_probabilities": {bits: _error(share, shots) for bits, share in shares.items()}},
        "labels": dict.fromkeys(("counts", "measured_probabilities", "top_basis_states"), SAMPLED),
    }


def payload(
    job_id: str, raw: Mapping[str, Any], execution: Mapping[str, Any] | None, analysis: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The result of an ended job: `fragment_results` say what happened, `quantum_result` what it means."""
    items = raw.get("items")
    fragments: list[dict[str, Any]] = []
    if items is None:
        result = _bounded(raw["counts"], raw["shots"])
    else:
        result, fragments = _program(items, raw["shots"], (execution or {}).get("items", ()))
    return {"job_id": job_id, "quantum_result": _with(result, analysis or {}), "fragment_results": fragments}


def counts_file(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `counts.json`: all counts, of each item where there are several."""
    if "items" not in raw:
        return {"counts": raw["counts"], "shots": raw["shots"]}
    names = ("item", "circuit", "parameters", "basis", "shots", "counts")
    return {"items": [{name: one[name] for name in names} for one in raw["items"]], "shots": raw["shots"]}


def _program(items: list[dict[str, Any]], shots: int, ended: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    keys = sum(len(one["counts"]) for one in items)
    counts = {one["item"]: one["counts"] for one in items}
    shown = ("item", "circuit", "parameters", "basis")
    result = frequencies({}, 0) | {"shots": shots}
    if keys > INLINE_KEYS:
        result |= {"files": [_counts_file(keys)]}
        result["items"] = [{name: one[name] for name in (*shown, "shots")} for one in items]
        counts = {}
    else:
        result["items"] = [
            {name: one[name] for name in shown} | frequencies(one["counts"], one["shots"]) for one in items
        ]
    told = ("item", "circuit", "parameters", "basis", "status", "error", "partial", "seed", "method", "start", "end")
    sums = {one["item"]: one["shots"] for one in items}
    fragments = [
        {name: one[name] for name in told if name in one}
        | {"shots": sums.get(one["item"], 0)}
        | ({"counts": counts[one["item"]]} if one["item"] in counts else {})
        for one in ended
    ]
    return result, fragments


def _bounded(counts: Mapping[str, int], shots: int) -> dict[str, Any]:
    if len(counts) <= INLINE_KEYS:
        return frequencies(counts, shots)
    made = frequencies(counts, shots)
    empty: dict[str, Any] = {"counts": {}, "measured_probabilities": {}, "standard_errors": {}}
    return made | empty | {"files": [_counts_file(len(counts))]}


def _counts_file(keys: int) -> dict[str, Any]:
    return {"name": COUNTS_FILE, "of": "counts", "media_type": "application/json", "outcomes": keys}


def _with(result: dict[str, Any], analysis: Mapping[str, Any]) -> dict[str, Any]:
    """What was computed beside what was measured; one circuit's fields stand with the rest of its result."""
    files = [*result.get("files", ()), *analysis.get("files", ())]
    made = result | {name: value for name, value in analysis.items() if name not in ("version", "files", "states")}
    states = analysis.get("states", ())
    if "items" in result:
        made |= {"states": states} if states else {}
    else:
        for state in states:
            made |= {name: value for name, value in state.items() if name not in ("circuit", "parameters")}
    return made | ({"files": files} if files else {})


def _error(share: float, shots: int) -> float:
    return math.sqrt(share * (1 - share) / shots)
