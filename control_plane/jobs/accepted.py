# SPDX-License-Identifier: Apache-2.0
"""A job spec as it was accepted, in the canonical domain that entries and evidence are hashed in (I6). Pure.

What `canonical` writes `from_canonical` reads back to an equal spec, whatever the caller's JSON looked like.
"""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.jobs.spec import JobSpec


def canonical(spec: JobSpec) -> dict[str, Any]:
    """The spec as accepted, in the canonical domain (I6).

    Absent members are left out, fractions are shortest round-trip decimal strings, and a set of parameters is a list
    of {name, value} by name, because a name may hold any letter and a canonical key may not.
    """
    document: dict[str, Any] = _in_domain(msgspec.to_builtins(spec))
    return document


def from_canonical(data: bytes) -> JobSpec:
    """The spec that `canonical` wrote; it was checked when it was accepted."""
    return msgspec.convert(_out_of_domain(msgspec.json.decode(data)), JobSpec)


def workflow_of(spec: JobSpec) -> dict[str, Any] | None:
    """What the job's row and its admission say of the workflow; absent members are left out."""
    return None if spec.workflow is None else dict(_in_domain(msgspec.to_builtins(spec.workflow)))


def accounting_of(spec: JobSpec) -> dict[str, Any] | None:
    """What they say of the batch job that submitted it, likewise."""
    return None if spec.accounting is None else dict(_in_domain(msgspec.to_builtins(spec.accounting)))


def _in_domain(value: Any) -> Any:
    match value:
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
        case dict():
            return {key: _member(key, item) for key, item in value.items() if item is not None}
        case list() | tuple():
            return [_in_domain(item) for item in value]
        case _:
            return value


def _member(key: str, value: Any) -> Any:
    if key != "parameters":
        return _in_domain(value)
    if isinstance(value, dict):
        return [{"name": name, "value": repr(float(value[name]))} for name in sorted(value)]
    return [_member(key, values) for values in value]


def _out_of_domain(value: Any) -> Any:
    match value:
        case dict():
            several = "kind" in value  # a program has a list of parameter sets where a circuit has one set
            return {key: _restored(key, item, several=several) for key, item in value.items()}
        case list():
            return [_out_of_domain(item) for item in value]
        case _:
            return value


def _restored(key: str, value: Any, *, several: bool) -> Any:
    if key == "precision":
        return float(value)
    if key != "parameters":
        return _out_of_domain(value)
    return [_parameters(values) for values in value] if several else _parameters(value)


def _parameters(pairs: list[dict[str, str]]) -> dict[str, float]:
    return {pair["name"]: float(pair["value"]) for pair in pairs}
