# SPDX-License-Identifier: Apache-2.0
"""`qcos plan`: which node of the network would run which part of a circuit, in words, as JSON and as a picture (N4)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane, write
from control_plane.commands._spec import alias_model

LIMIT_S = 30.0


def register(groups: Any) -> None:
    """Add the command."""
    plan = groups.add_parser("plan", help="plan a circuit over the network, without a job")
    plan.add_argument(
        "file", metavar="FILE", type=Path, help="a job spec or a circuit (.qasm, .qpy); - is standard input"
    )
    plan.add_argument("--svg", metavar="FILE", type=Path, help="where its picture goes; - is standard output")
    alias_model(plan)
    plan.add_argument("--json", action="store_true", help="one document")
    plan.set_defaults(run=_plan)


def _plan(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.commands._spec import read_body

    client = plane()
    body = read_body(client, arguments.file, arguments.alias_model)
    found = client.ask("POST", "/api/v1/plans", body, limit_s=LIMIT_S)
    if arguments.svg is not None:
        _draw(found, arguments.svg)
    if arguments.json:
        tables.document(found)
    elif str(arguments.svg) != "-":
        _tell(found["plan"])


def _draw(found: dict[str, Any], path: Path) -> None:
    import sys

    import msgspec

    from hal_drivers.p2p.draw import svg
    from hal_drivers.p2p.ir import Program
    from hal_drivers.p2p.plan import Plan

    picture = svg(msgspec.convert(found["plan"], Plan), msgspec.convert(found["program"], Program))
    if str(path) == "-":
        sys.stdout.write(picture)
        return
    write(path, picture.encode())


def _tell(plan: dict[str, Any]) -> None:
    from control_plane import tables

    facts = [("plan", plan["plan_id"]), ("mode", f"{plan['mode']}: {plan['mode_reason']}")]
    facts += [("aliases", plan["alias_model"]), ("snapshot", plan["snapshot_sha256"])]
    facts += [("note", said) for said in plan["approximations"]]
    facts.append(("note", "policy judges a job at its dispatch, and may allow fewer nodes than are planned with here"))
    tables.facts(facts)
    chosen = {one["fragment_id"]: one for one in plan["assignments"]}
    by_id = {one["fragment_id"]: one for one in plan["fragments"]}
    tables.table(
        ("fragment", "qubits", "services", "after", "node", "fallbacks"),
        [
            (
                name,
                len(by_id[name]["qubits"]),
                ",".join(by_id[name]["services"]),
                ",".join(by_id[name]["depends_on"]),
                chosen[name]["primary"],
                ",".join(chosen[name]["fallbacks"]),
            )
            for name in plan["order"]
        ],
    )
