# SPDX-License-Identifier: Apache-2.0
"""A job spec as a command is given it: a file, standard input, or a circuit alone; and where it is sent from (G6)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_plane.commands._plane import read

_OLD = re.compile(rb"(?:\s|//[^\r\n]*+|/\*.*?\*/)*+OPENQASM\s++2\b", re.DOTALL)
"""A source of OpenQASM 2, by its first statement: what stands in comments is nobody's version."""


def alias_model(parser: argparse.ArgumentParser) -> None:
    """Add `--alias-model`."""
    parser.add_argument(
        "--alias-model",
        choices=("discard", "swap"),
        help="how a network reads `teleport a, b`: b is discarded and receives a, or the two are swapped",
    )


def read_body(client: Any, path: Path, model: str | None = None) -> bytes:
    """A job spec's bytes; a bare circuit is wrapped with the caller's project and 1,000 shots.

    With an alias model each of its circuits is read by it.
    """
    import base64
    import json
    import sys

    from control_plane.errors import Refused

    data = sys.stdin.buffer.read() if str(path) == "-" else read(path)
    piped = str(path) == "-" and data.lstrip().startswith((b"OPENQASM", b"QISKIT"))
    if path.suffix not in (".qasm", ".qpy") and not piped:
        return _read_by(data, model) if model is not None else data
    binary = path.suffix == ".qpy" or data.startswith(b"QISKIT")
    circuit_format = "QPY" if binary else "QASM2" if _OLD.match(data) else "QASM3"
    who = client.ask("GET", "/api/v1/whoami")
    if not who["projects"]:
        raise Refused("usage", f"{path} alone names no project, and you have a role in none: submit a job spec")
    spec = {
        "circuit": {"format": circuit_format, "source": base64.b64encode(data).decode()},
        "execution": {"shots": 1000},
        "governance": {"project": _own(who), "classification": "internal", "purpose": "benchmark"},
    }
    made = json.dumps(spec).encode()
    return _read_by(made, model) if model is not None else made


def accounted(body: bytes, environment: Mapping[str, str]) -> bytes:
    """The spec with the Slurm job in which this runs, where it runs in one and the spec says nothing of it.

    All else of it stays as it was written, for the plane to judge.
    """
    import json

    names = {"account": "SLURM_JOB_ACCOUNT", "cluster": "SLURM_CLUSTER_NAME"}
    told = {name: environment[variable] for name, variable in names.items() if environment.get(variable)}
    if slurm_job_id := _slurm_job_id(environment):
        told = {"slurm_job_id": slurm_job_id} | told
    try:
        spec = json.loads(body)
    except ValueError:
        return body
    if "slurm_job_id" not in told or not isinstance(spec, dict) or not spec or "accounting" in spec:
        return body
    opening = body.index(b"{") + 1
    return body[:opening] + b'"accounting": ' + json.dumps(told).encode() + b", " + body[opening:]


def _slurm_job_id(environment: Mapping[str, str]) -> str | None:
    """As sacct names the job: a task of an array is ARRAY_TASK there, a part of a heterogeneous job LEADER+PART."""
    mine = environment.get("SLURM_JOB_ID")
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    if mine and array and task:
        return f"{array}_{task}"
    parts = environment.get("SLURM_HET_SIZE", "")
    for part in range(min(int(parts), 1000) if parts.isdecimal() else 0):
        if mine and environment.get(f"SLURM_JOB_ID_HET_GROUP_{part}") == mine:
            return f"{environment.get('SLURM_JOB_ID_HET_GROUP_0', mine)}+{part}"
    return mine or None


def _own(who: dict[str, Any]) -> str:
    """The caller's project: the one named like the tenant where there is one among several."""
    projects: list[str] = who["projects"]
    return who["tenant"] if who["tenant"] in projects else projects[0]


def _read_by(body: bytes, model: str) -> bytes:
    """The spec with the alias model in its circuits; what is no spec stays for the plane to refuse."""
    import json

    try:
        spec = json.loads(body)
        program = spec.get("program") or {}
        for circuit in [spec.get("circuit") or {}, *program.get("circuits", ())]:
            if circuit:
                circuit["alias_model"] = model
    except (ValueError, AttributeError, TypeError):
        return body
    return json.dumps(spec).encode()
