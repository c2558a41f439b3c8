# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of the job spec, made from its structs, with what structs can't say (G1, N13). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.jobs.spec import JobSpec


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the job spec, made from the structs."""
    document = msgspec.json.schema(JobSpec)
    document["$defs"]["JobSpec"] = closed(document["$defs"]["JobSpec"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "QCOS job spec",
        **document,
    }


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """The spec's schema with the either-or of `reading`: one circuit or a program, shots or a precision."""
    null = {"type": "null"}
    shots = {"required": ["shots"], "properties": {"shots": {"type": "integer"}}}
    precise = {"required": ["precision"], "properties": {"precision": {"type": "number"}}}
    short = {
        "required": ["circuit"],
        "properties": {"circuit": {"type": "object"}, "program": null, "execution": shots},
    }
    program = {
        "required": ["program"],
        "properties": {"circuit": null, "program": {"type": "object", "not": precise}, "execution": shots},
    }
    exact = {
        "required": ["program"],
        "properties": {
            "circuit": null,
            "program": {"type": "object", **precise},
            "execution": {"properties": {"shots": null}},
        },
    }
    return document | {"oneOf": [short, program, exact]}
