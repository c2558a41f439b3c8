# SPDX-License-Identifier: Apache-2.0
"""What a job used (G6): facts of what was compiled and what ran, each with who says so. Pure.

Enter the compiled artefact and the outcome, of one circuit or of a program's items; leaves one fact a meter, in a
fixed order, and a gap for each that ought to be known and isn't. Of a program what ran counts: items with an outcome,
with the shots that they executed. What nobody knows is absent, never zero and never a guess.

Who says so: times of a device and what it consumed are its driver's word (`vendor`, or `measured` in our own child);
what a far side compiled it has counted itself (`vendor`); all else the plane has measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct

from control_plane.jobs.asking import METER
from control_plane.jobs.gathered import Gathered, Program
from finops.facts import Fact, Source, fact
from hal_drivers.base import Compiled, CompiledFacts, Outcome, Tally
from ledger.canonical import parse_time
from ledger.predicate import Gap

GATES = {
    "one_qubit_gates": "one_qubit",
    "two_qubit_gates": "two_qubit",
    "multi_qubit_gates": "multi_qubit",
    "measurements": "measurements",
}
"""Meter → what a tally calls it. Before compilation `submitted_` stands before it, and its shots have a meter too."""
SHOTS = {name: name.removesuffix("s") + "_shots" for name in GATES}


class Used(Struct, frozen=True):
    """A job that gave a result: what was compiled, what came of it, and what the facts need beside."""

    compiled: Compiled
    outcome: Outcome
    simulator: bool
    """Whether its device is one: only then are its seconds simulated ones."""
    result_bytes: int
    session: bool = False
    """Whether it ran in a session that its workflow has at the device."""
    fees: Decimal | None = None


def facts(job: Mapping[str, Any], used: Used) -> list[Fact]:
    """Of each meter one, at most."""
    outcome, usage, by = used.outcome, used.outcome.usage, job["backend"]
    queued = max(0.0, (outcome.started_at - job["submitted_at"]).total_seconds())
    counted, counter = _counter(used.compiled, by)
    found = [
        fact("tasks", Decimal(len(_ran(used))), "measured", "plane"),
        fact("shots", Decimal(outcome.shots_executed), "measured", "plane"),
        fact("queue_seconds", queued, "measured", "plane"),
        fact("circuit_depth", Decimal(used.compiled.facts.depth), counted, counter),
        *_gates(used, counted, counter),
        fact("egress_bytes", Decimal(used.result_bytes), "measured", "plane"),
    ]
    if usage.qpu_s is not None:
        found.append(fact("qpu_seconds", usage.qpu_s, usage.source, by))
    elif used.simulator:
        found.append(fact("simulator_seconds", usage.wall_s, usage.source, by))
    if (reserved_s := _reserved(job, used)) is not None:
        found.append(fact("reservation_seconds", reserved_s, "measured", "plane"))
    if used.fees is not None:
        found.append(fact(METER, used.fees, "measured", "plane"))
    if usage.cpu_s is not None:
        found.append(fact("simulator_cpu_seconds", usage.cpu_s, usage.source, by))
    if usage.peak_memory_bytes is not None:
        found.append(fact("simulator_peak_memory", Decimal(usage.peak_memory_bytes), usage.source, by))
    return found


def most(compiled: Compiled, shots: int) -> dict[str, Decimal]:
    """The most that the compiled job can use of what compiling has counted, at so many shots a task.

    What one task's compiler doesn't tell is absent.
    """
    built = compiled.items if isinstance(compiled, Program) else (compiled,)
    counted = {"circuit_depth": Decimal(compiled.facts.depth)}
    before = [one.facts.submitted for one in built if isinstance(one.facts.submitted, Tally)]
    after = [one.facts.runs for one in built if isinstance(one.facts.runs, Tally)]
    for name, member in GATES.items():
        if len(before) == len(built):
            counted[f"submitted_{name}"] = Decimal(sum(getattr(one, member) for one in before))
        if len(after) == len(built):
            counted[name] = Decimal(sum(getattr(one, member) for one in after))
            counted[SHOTS[name]] = counted[name] * shots
    return counted


def gaps(used: Used) -> list[Gap]:
    """Which gates could not be counted, and why."""
    found = []
    for field, name in (("submitted_gates", "submitted"), ("gates", "runs")):
        missing = [facts for facts, _ in _ran(used) if not isinstance(getattr(facts, name), Tally)]
        if missing:
            why = missing[0].uncounted
            found.append(
                Gap(field=f"facts.{field}", reason=why if isinstance(why, str) else "its compiler does not say")
            )
    if used.outcome.usage.qpu_s is None and not used.simulator:
        found.append(Gap(field="facts.qpu_seconds", reason="the device does not report its own seconds"))
    return found


def _ran(used: Used) -> list[tuple[CompiledFacts, int]]:
    """Of each task that gave a result what was compiled and how many shots were executed."""
    compiled, outcome = used.compiled, used.outcome
    if isinstance(compiled, Program) and isinstance(outcome, Gathered):
        pairs = zip(compiled.items, outcome.items, strict=True)
        return [(built.facts, one.outcome.shots_executed) for built, one in pairs if one.outcome is not None]
    return [(compiled.facts, outcome.shots_executed)]


def _counter(compiled: Compiled, backend: str) -> tuple[Source, str]:
    """Who has compiled and so counted: the far side where it gave a ticket for it, else a child of the plane's."""
    built = compiled.items if isinstance(compiled, Program) else (compiled,)
    return ("vendor", backend) if any(one.ticket is not None for one in built) else ("measured", "plane")


def _gates(used: Used, source: Source, by: str) -> list[Fact]:
    """Sums over what ran; none of a kind where one task's count is unknown."""
    ran, found = _ran(used), []
    for name, member in GATES.items():
        before = [getattr(facts.submitted, member) for facts, _ in ran if isinstance(facts.submitted, Tally)]
        after = [(getattr(facts.runs, member), shots) for facts, shots in ran if isinstance(facts.runs, Tally)]
        if len(before) == len(ran):
            found.append(fact(f"submitted_{name}", Decimal(sum(before)), source, by))
        if len(after) == len(ran):
            found.append(fact(name, Decimal(sum(count for count, _ in after)), source, by))
            found.append(fact(SHOTS[name], Decimal(sum(count * shots for count, shots in after)), source, by))
    return found


def _reserved(job: Mapping[str, Any], used: Used) -> float | None:
    """What was kept for this job alone: the nodes' windows, or its seat in a session, from handing over to its end."""
    if used.outcome.usage.reserved_s is not None:
        return used.outcome.usage.reserved_s
    if not used.session:
        return None
    handed = next(event["at"] for event in reversed(job["history"]) if event["state"] == "EXECUTING")
    return max(0.0, (used.outcome.ended_at - parse_time(handed)).total_seconds())
