# SPDX-License-Identifier: Apache-2.0
"""The compiled artefact of a network job: the program and its plan, with all that the plan is a function of (I9). Pure.

Canonical JSON of :class:`Planned`. Whoever has it can plan anew and compare: the plan names the hashes of program,
snapshot and configuration. ``kept`` is what is stored of it while the job runs, because the program is read anew from
its source and the registry has moved on.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from hal_drivers.p2p.ir import Program, canonical, digest
from hal_drivers.p2p.plan import Infeasible, Plan, PlanConfig, Snapshot
from hal_drivers.p2p.planner import in_order, plan


class Planned(Struct, frozen=True, forbid_unknown_fields=True):
    """``config`` is None where a plane that was set up anew no longer knows it; its hash stands in the plan."""

    program: Program
    plan: Plan
    snapshot: Snapshot
    config: PlanConfig | None
    allowed: tuple[str, ...] | None
    """Who could be planned with, sorted; None: everybody who is enrolled."""

    @property
    def nodes(self) -> frozenset[str]:
        """Everybody who may receive anything."""
        assigned = self.plan.assignments
        return frozenset(node for one in assigned for node in (one.primary, *one.fallbacks))

    @property
    def places(self) -> tuple[str, str]:
        """Regions and compliance zones of everybody who may receive anything, by their enrolment."""
        there = [node for node in self.snapshot.nodes if node.node_id in self.nodes]
        regions, zones = {node.region for node in there}, {node.compliance_zone for node in there}
        return ", ".join(sorted(regions)), ", ".join(sorted(zones))


class Kept(Struct, frozen=True, forbid_unknown_fields=True):
    """A plan that was made before, without its program."""

    plan: Plan
    snapshot: Snapshot
    config: PlanConfig | None


_planned: msgspec.json.Decoder[Planned] = msgspec.json.Decoder(Planned)
_kept: msgspec.json.Decoder[Kept] = msgspec.json.Decoder(Kept)


def make(
    program: Program,
    snapshot: Snapshot,
    config: PlanConfig,
    shots: int,
    allowed: Iterable[str] | None = None,
    seed: int = 0,
) -> Planned | Infeasible:
    """Plan the program inside of what policy allows (I8)."""
    known, inside = in_order(snapshot), None if allowed is None else tuple(sorted(allowed))
    made = plan(program, known, config, seed, None if inside is None else frozenset(inside), shots=shots)
    return made if isinstance(made, Infeasible) else Planned(program, made, known, config, inside)


def kept(made: Plan, snapshot: Snapshot, config: PlanConfig) -> bytes:
    """For ``CompileRequest.plan``: a stored plan, with the configuration if it still is the plan's."""
    return canonical(Kept(made, snapshot, config if digest(config) == made.config_sha256 else None))


def restored(program: Program, data: bytes, allowed: Iterable[str] | None = None) -> Planned:
    """A stored plan with its program; raises ValueError where they don't belong together."""
    before = _kept.decode(data)
    if digest(program) != before.plan.program_sha256:
        raise ValueError("the plan was made for another program")
    inside = None if allowed is None else tuple(sorted(allowed))
    return Planned(program, before.plan, before.snapshot, before.config, inside)


def artefact(made: Planned) -> bytes:
    """Its bytes."""
    return canonical(made)


def read(data: bytes) -> Planned:
    """The artefact of a network job; raises ValueError for anything else."""
    return _planned.decode(data)
