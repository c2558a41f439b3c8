# SPDX-License-Identifier: Apache-2.0
"""Bytes become a job spec here, or `SpecInvalid`, which names every field that is at fault (G1, N13). Pure.

What a struct's own bounds can't say: which members exclude each other, products that grow too large, canonical base64,
finite numbers, no control characters.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from control_plane.jobs import observables
from control_plane.jobs.spec import (
    MAX_EXECUTIONS,
    MAX_ITEMS,
    MAX_STATES,
    JobSpec,
    Program,
    SpecInvalid,
    source_bytes,
)
from control_plane.strict import decode

_decoder = msgspec.json.Decoder(JobSpec)


def parse(body: bytes) -> JobSpec:
    """Read a job spec from JSON bytes; raises `Invalid` naming the field (G1, N13)."""
    spec = decode(body, _decoder, code="spec_invalid")
    faults = list(_faults(spec))
    if faults:
        raise SpecInvalid(faults)
    return spec


def _faults(spec: JobSpec) -> Any:
    if (spec.circuit is None) == (spec.program is None):
        yield "circuit", "exactly one of circuit and program is needed"
        return
    precision = spec.program.precision if spec.program is not None else None
    if (spec.execution.shots is None) == (precision is None):
        yield "execution.shots", "exactly one of shots and program.precision is needed"
    if spec.execution.session and spec.workflow is None:
        yield "execution.session", "a session is a workflow's: workflow.id is needed"
    if spec.program is not None:
        faults = list(_program_faults(spec.program))
        yield from faults
        if faults:
            return
    yield from _analysis_faults(spec)
    if spec.items > MAX_ITEMS:
        yield "program", f"{spec.items} items (circuits x parameter sets x bases), at most {MAX_ITEMS}"
    if spec.executions > MAX_EXECUTIONS:
        at = "execution.shots" if precision is None else "program.precision"
        yield at, f"{spec.executions} executions, at most {MAX_EXECUTIONS}"
    for index, circuit in enumerate(spec.circuits):
        where = "circuit" if spec.circuit is not None else f"program.circuits[{index}]"
        try:
            source_bytes(circuit, f"{where}.source")
        except SpecInvalid as fault:
            yield from ((row["field"], row["message"]) for row in fault.errors)
        yield from _not_finite(circuit.parameters, f"{where}.parameters")
    for index, values in enumerate(spec.program.parameters if spec.program else ()):
        yield from _not_finite(values, f"program.parameters[{index}]")
    yield from _control_characters(msgspec.to_builtins(spec), "")


def _analysis_faults(spec: JobSpec) -> Any:
    asked = spec.execution.analysis or ()
    if len(set(asked)) < len(asked):
        yield "execution.analysis", "a field is named twice"
    sets = len(spec.program.parameters) if spec.program is not None else 0
    if asked and (states := len(spec.circuits) * max(1, sets)) > MAX_STATES:
        yield "execution.analysis", f"{states} states (circuits x parameter sets), at most {MAX_STATES}"


def _program_faults(program: Program) -> Any:
    """What makes a program none; the rest of the checks counts its items."""
    first = program.circuits[0].format
    for index, circuit in enumerate(program.circuits):
        if circuit.format != first:
            yield f"program.circuits[{index}].format", f"a program's circuits have one format, here {first}"
    if program.kind == "sampler" and program.observables:
        yield "program.observables", "observables are estimated by a program of kind estimator"
    if program.kind == "estimator":
        yield from _observable_faults(program.observables)


def _observable_faults(texts: tuple[str, ...]) -> Any:
    if not texts:
        yield "program.observables", "an estimator needs an observable"
        return
    width, wrong = 0, False
    for index, text in enumerate(texts):
        where = f"program.observables[{index}]"
        try:
            letters = len(observables.parse(text)[0].pauli)
        except observables.ObservableInvalid as fault:
            yield where, str(fault)
            wrong = True
            continue
        width = width or letters
        if letters != width:
            yield where, f"{letters} letters where those before have {width}"
            wrong = True
    if wrong:
        return
    if (many := len(observables.strings(texts))) > observables.MAX_STRINGS:
        yield "program.observables", f"{many} Pauli strings, at most {observables.MAX_STRINGS}"
    elif not observables.bases(texts):
        yield "program.observables", "nothing to measure: the identity is 1 in every state"


def _not_finite(values: dict[str, float], field: str) -> Any:
    for name, value in values.items():
        if not math.isfinite(value):
            yield f"{field}.{name}", "not a finite number"


def _control_characters(value: Any, path: str) -> Any:
    # A pattern's `$` lets one trailing newline through, and NUL can't be stored: both are refused by name.
    match value:
        case str():
            if any(ord(c) < 32 and c not in "\n\t" for c in value) or (value != value.rstrip("\n")):
                yield path, "holds a control character"
        case dict():
            for key, item in value.items():
                if any(ord(c) < 32 for c in key):
                    yield path, "a key holds a control character"
                yield from _control_characters(item, f"{path}.{key}" if path else key)
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _control_characters(item, f"{path}[{index}]")
