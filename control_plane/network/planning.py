# SPDX-License-Identifier: Apache-2.0
"""A plan for somebody who only wants to see it: of the network as the fabric knows it now, written nowhere (N4).

The circuit is read by a guarded child of the API process, which has no secret and no network; the plan is made by the
same planner, from the same snapshot and configuration, as a job's. Policy judges a job at dispatch and may leave fewer
nodes than are shown here.
"""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import spec as specs
from control_plane.network.fabric import Fabric
from hal_drivers.base import CompileRequest
from hal_drivers.p2p.ir import Program
from hal_drivers.p2p.office import AskSnapshot, SnapshotIs
from hal_drivers.p2p.plan import Infeasible, Plan, PlanConfig, Snapshot
from hal_drivers.p2p.planner import in_order, plan
from hal_drivers.p2p.reader import Reader


async def draft(plane: Plane, fabric: Fabric, reader: Reader, spec: specs.JobSpec) -> dict[str, Any]:
    """The plan and what it was made from; raises Refused (network_off, fabric_…, plan_infeasible) or a DriverError."""
    fabric.on()
    circuit = spec.single
    if circuit is None:
        raise specs.ProgramUnsupported("program", "a plan is of one circuit")
    if circuit.format == "QPY" and not plane.settings.qpy_enabled:
        raise Refused("format_disabled", "QPY is switched off on this plane")
    request = CompileRequest(
        format=circuit.format,
        source=specs.source_bytes(circuit),
        parameters=circuit.parameters,
        backend="",
        shots=spec.shots,
        alias_model=circuit.alias_model or "discard",
    )
    program = await reader.read(request)
    snapshot = in_order((await fabric.ask(AskSnapshot(), SnapshotIs)).snapshot)
    config = plane.settings.network.planning()
    drawn = plan(program, snapshot, config, spec.execution.seed or 0, None, shots=spec.shots)
    return shown(drawn, program, snapshot, config)


def shown(drawn: Plan | Infeasible, program: Program, snapshot: Snapshot, config: PlanConfig) -> dict[str, Any]:
    """The answer; raises Refused plan_infeasible, which names each fragment and what it lacks."""
    if isinstance(drawn, Infeasible):
        errors = tuple({"field": gap.fragment_id, "message": gap.detail} for gap in drawn.gaps[:64])
        raise Refused("plan_infeasible", drawn.detail, errors=errors)
    return {
        "plan_id": drawn.plan_id,
        "plan": msgspec.to_builtins(drawn),
        "program": msgspec.to_builtins(program),
        "snapshot": msgspec.to_builtins(snapshot),
        "config": msgspec.to_builtins(config),
    }
