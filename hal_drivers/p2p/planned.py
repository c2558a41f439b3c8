# SPDX-License-Identifier: Apache-2.0
"""The compiled artefact of a network job: the program and its plan, with all that the plan is a function of (I9). Pure.

Canonical JSON of :class:`Planned`. Whoever has it can plan anew and compare: the plan names the hashes of program,
snapshot and configuration. ``kept`` is what is stored of it while the job runs, because the program is read anew from
its source and the registry has moved on.
"""

from __future__ import annotations

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

    @property
    def nodes(self) -> frozenset[str]:
        """Everybody who may receive anything."""
        assigned = self.plan.assignments
        return frozenset(node for one in assigned for node in (one.primary, *one.fallbacks))


class Kept(Struct, frozen=True, forbid_unknown_fields=True):
    """A plan that was made before, without its program."""

    plan: Plan
    snapshot: Snapshot
    config: PlanConfig | None


_planned: msgspec.json.Decoder[Planned] = msgspec.json.Decoder(Planned)
_kept: msgspec.json.Decoder[Kept] = msgspec.json.Decoder(Kept)


def make(
    program: Program, snapshot: Snapshot, config: PlanConfig, shots: int, seed: int, allowed: frozenset[str] | None
) -> Planned | Infeasible:
    """Plan the program; ``allowed`` None: every enrolled node."""
    known = in_order(snapshot)
    made = plan(program, known, config, seed, allowed, shots=shots)
    return made if isinstance(made, Infeasible) else Planned(program, made, known, config)


def within(before: Planned, allowed: frozenset[str]) -> Planned | Infeasible:
    """The same program on the same registry, planned anew inside of what policy allows (I8)."""
    if before.config is None:
        raise ValueError("a plan whose configuration is lost is not made anew")
    return make(before.program, before.snapshot, before.config, before.plan.shots, before.plan.seed, allowed)


def kept(made: Plan, snapshot: Snapshot, config: PlanConfig) -> bytes:
    """For ``CompileRequest.plan``: a stored plan, with the configuration if it still is the plan's."""
    return canonical(Kept(made, snapshot, config if digest(config) == made.config_sha256 else None))


def restored(program: Program, data: bytes) -> Planned:
    """A stored plan with its program; raises ValueError where they don't belong together."""
    before = _kept.decode(data)
    if digest(program) != before.plan.program_sha256:
        raise ValueError("the plan was made for another program")
    return Planned(program, before.plan, before.snapshot, before.config)


def artefact(made: Planned) -> bytes:
    """Its bytes."""
    return canonical(made)


def read(data: bytes) -> Planned:
    """The artefact of a network job; raises ValueError for anything else."""
    return _planned.decode(data)
