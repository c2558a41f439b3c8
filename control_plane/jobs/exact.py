# SPDX-License-Identifier: Apache-2.0
"""What a spec's `execution.analysis` asks for, computed beside the run: exact values, each with its label (N15).

A driver of this worker computes them in a guarded child from the circuit as submitted, for each circuit under each
parameter set; the job's own driver if it can, so that a backend's noise model counts, else another. What can't be given
stands in `refused` with its reason: it costs the job nothing else. Measured integers aren't touched (decision 12).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from control_plane.jobs import observables
from control_plane.jobs import spec as specs
from control_plane.jobs.gathered import Gathered
from control_plane.jobs.spec import Circuit, JobSpec
from hal_drivers.base import Analyst, Driver, Exact, ExactRequest, Outcome
from hal_drivers.errors import BackendUnavailable, DriverError

ORDER = "index and letters in Qiskit's order: qubit 0 is the lowest bit, and the last letter"
NPY = "application/x-npy"
NOTES = {
    "fidelity": "a consistency reference: measured frequencies against the exact ones, no tomography of the state",
    "entanglement_entropy": "of each qubit with the rest; of a noisy state it counts the noise as well",
}


class Computed(Struct, frozen=True):
    """The members of the artefact `analysis`, and the files beside it."""

    members: dict[str, Any] = {}
    files: tuple[tuple[str, bytes], ...] = ()


class _Place(Struct, frozen=True):
    """One circuit under one parameter set."""

    circuit: int
    parameters: int | None
    source: Circuit
    values: dict[str, float]
    counts: dict[str, int]

    @property
    def named(self) -> dict[str, Any]:
        """Which one it is, as payloads say it."""
        return {"circuit": self.circuit, "parameters": self.parameters}


async def compute(drivers: Mapping[str, Driver], backend: str, spec: JobSpec, outcome: Outcome) -> Computed:
    """All that was asked for, of every state; nothing where nothing was."""
    asked = spec.execution.analysis or ()
    if not asked:
        return Computed()
    analyst = await _analyst(drivers, backend)
    states: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    files: list[tuple[str, bytes]] = []
    expectations: list[dict[str, Any]] = []
    for place in _places(spec, outcome):
        found = await _one(analyst, spec, place)
        if isinstance(found, str):
            refused += [{"field": field, "reason": found} | place.named for field in asked]
            continue
        refused += [{"field": field, "reason": reason} | place.named for field, reason in sorted(found.refused.items())]
        states.append(_state(found, place, spec, files))
        expectations += [
            {"observable": text, "value": value, "label": found.label} | place.named
            for text, value in found.expectations
        ]
    members: dict[str, Any] = {"states": states}
    members |= {"observable_expectations": expectations} if expectations else {}
    members |= {"refused": refused} if refused else {}
    named = [{"name": name, "of": name.split(".")[0].split("-")[0], "media_type": NPY} for name, _ in files]
    return Computed(members | ({"files": named} if named else {}), tuple(files))


async def _analyst(drivers: Mapping[str, Driver], backend: str) -> tuple[Analyst, str] | None:
    """Who computes, and for which backend: the job's own if it can."""
    for name in sorted(drivers, key=lambda name: (name != backend, name)):
        driver = drivers[name]
        if isinstance(driver, Analyst):
            for device in await driver.devices():
                if device.id == name and device.capabilities.exact and (await driver.status(name)).online:
                    return driver, name
    return None


async def _one(analyst: tuple[Analyst, str] | None, spec: JobSpec, place: _Place) -> Exact | str:
    if analyst is None:
        return "no driver of this worker computes exact states"
    driver, backend = analyst
    program = spec.program
    texts = program.observables if program is not None else ()
    request = ExactRequest(
        format=place.source.format,
        source=specs.source_bytes(place.source),
        parameters=place.values,
        backend=backend,
        fields=spec.execution.analysis or (),
        observables=tuple(
            (text, tuple((float(term.coefficient), term.pauli) for term in observables.parse(text))) for text in texts
        ),
        counts=place.counts,
        alias_model=place.source.alias_model or "discard",
    )
    try:
        return await driver.analyse(request)
    except BackendUnavailable as error:
        return f"{backend} is away: {error.detail}"
    except DriverError as error:
        return error.detail


def _places(spec: JobSpec, outcome: Outcome) -> list[_Place]:
    if spec.single is not None:
        return [_Place(0, None, spec.single, spec.single.parameters, outcome.counts)]
    if not isinstance(outcome, Gathered):
        return []
    found: dict[tuple[int, int | None], _Place] = {}
    for one in outcome.items:
        item = one.item
        counts = one.outcome.counts if one.outcome is not None and item.basis is None else {}
        key = item.circuit, item.parameters
        found.setdefault(key, _Place(*key, spec.circuits[item.circuit], item.values, counts))
    return list(found.values())


def _state(exact: Exact, place: _Place, spec: JobSpec, files: list[tuple[str, bytes]]) -> dict[str, Any]:
    """The payload's fields of one state; large arrays become files."""

    def filed(name: str, data: bytes) -> dict[str, Any]:
        ending = (
            ""
            if spec.single is not None
            else f"-{place.circuit}" + (f"-{place.parameters}" if place.parameters is not None else "")
        )
        files.append((f"{name}{ending}.npy", data))
        return {"file": files[-1][0]}

    label = {"label": exact.label}
    made: dict[str, Any] = place.named | {
        "qubits": exact.qubits,
        "measured_qubits": exact.measured_qubits,
        "order": ORDER,
    }
    if exact.amplitudes or exact.amplitudes_file:
        held = (
            filed("statevector", exact.amplitudes_file) if exact.amplitudes_file else {"amplitudes": exact.amplitudes}
        )
        made["statevector"] = {"label": "exact_ideal"} | held  # a noisy state is no vector
    if exact.probabilities or exact.probabilities_file:
        held = (
            filed("probabilities", exact.probabilities_file)
            if exact.probabilities_file
            else {"values": exact.probabilities}
        )
        made["probabilities"] = label | held
    if exact.outcomes:
        made["measured_probabilities_exact"] = label | {"values": exact.outcomes}
    if exact.reduced:
        matrices = [(one[:2], one[2:]) for one in exact.reduced]
        made["reduced_density_matrices"] = label | {"of": "each qubit, 0 first", "matrices": matrices}
    if exact.bloch:
        made["bloch_vectors"] = label | {"of": "each qubit, 0 first", "vectors": exact.bloch}
    if exact.entropies:
        entropy = {"unit": "bits", "of_each_qubit": exact.entropies, "of_the_upper_half": exact.half_entropy}
        made["entanglement_entropy"] = label | entropy | {"note": NOTES["entanglement_entropy"]}
    if exact.agreement is not None:
        value, error = exact.agreement
        said = {"label": "sampled", "value": value, "standard_error": error, "reference": exact.label}
        made["fidelity"] = said | {"kind": "(sum of sqrt(p q))^2 of outcome distributions", "note": NOTES["fidelity"]}
    if exact.top:
        ranked = [{"state": bits, "probability": share} for bits, share in exact.top]
        made["top_basis_states_exact"] = label | {"states": ranked}
    return made
