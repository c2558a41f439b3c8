# SPDX-License-Identifier: Apache-2.0
"""What a job used (G6): facts of what was compiled and what ran, each with who says so. Pure.

Enter the compiled artefact and the outcome, of one circuit or of a program's items; leaves one fact a meter, in a
fixed order, and a gap for each that ought to be known and isn't. Of a program what ran counts: items with an outcome,
with the shots that they executed. What nobody knows is absent, never zero and never a guess.

Who says so: times of a device and what it consumed are its driver's word (`vendor`, or `measured` in our own child);
what a far side compiled it has counted itself (`vendor`); all else the plane has measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from control_plane.jobs.asking import METER
from control_plane.jobs.gathered import Gathered, Program
from finops.facts import Fact, Source, fact
from finops.money import measured
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
_COUNTED = frozenset({*GATES, *SHOTS.values(), *(f"submitted_{name}" for name in GATES)})


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
    outcome, usage, by, ran = used.outcome, used.outcome.usage, job["backend"], _ran(used)
    whole = _summed([_alone(built, result) for built, result in ran])
    queued = max(0.0, (outcome.started_at - job["submitted_at"]).total_seconds())
    counted, counter = _counter(used.compiled, by)
    found = [
        fact("tasks", Decimal(len(ran)), "measured", "plane"),
        fact("shots", Decimal(outcome.shots_executed), "measured", "plane"),
        fact("queue_seconds", queued, "measured", "plane"),
        fact("circuit_depth", Decimal(used.compiled.facts.depth), counted, counter),
        *(fact(meter, quantity, counted, counter) for meter, quantity in whole.items() if meter in _COUNTED),
        fact("egress_bytes", Decimal(used.result_bytes), "measured", "plane"),
    ]
    if usage.qpu_s is not None:
        found.append(fact("qpu_seconds", whole["qpu_seconds"], usage.source, by))
    elif used.simulator:
        found.append(fact("simulator_seconds", whole["simulator_seconds"], usage.source, by))
    if (reserved_s := _reserved(job, used)) is not None:
        found.append(fact("reservation_seconds", reserved_s, "measured", "plane"))
    if used.fees is not None:
        found.append(fact(METER, used.fees, "measured", "plane"))
    if usage.cpu_s is not None:
        found.append(fact("simulator_cpu_seconds", usage.cpu_s, usage.source, by))
    if usage.peak_memory_bytes is not None:
        found.append(fact("simulator_peak_memory", Decimal(usage.peak_memory_bytes), usage.source, by))
    return found


def of_each_task(used: Used, told: Sequence[Fact], meters: Collection[str]) -> tuple[dict[str, Decimal], ...]:
    """What each of several tasks used of these meters, as far as facts tell of them: the sums are the facts.

    Empty for a job of one task, whose facts are that task's, and where no meters are asked for.
    """
    if not meters or not isinstance(used.compiled, Program):
        return ()
    known = {one.meter for one in told} & set(meters)
    each = (_alone(built, result) for built, result in _ran(used))
    return tuple({meter: quantity for meter, quantity in one.items() if meter in known} for one in each)


def most(compiled: Compiled, shots: int) -> dict[str, Decimal]:
    """The most that the compiled job can use of what compiling has counted, at so many shots a task.

    What one task's compiler doesn't tell is absent.
    """
    return {"circuit_depth": Decimal(compiled.facts.depth), **_summed(most_of_each(compiled, shots))}


def most_of_each(compiled: Compiled, shots: int) -> tuple[dict[str, Decimal], ...]:
    """As `most`, of each of its tasks alone."""
    built = compiled.items if isinstance(compiled, Program) else (compiled,)
    return tuple(_gates(one.facts, shots) for one in built)


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


def _ran(used: Used) -> list[tuple[CompiledFacts, Outcome]]:
    """Of each task that gave a result what was compiled and what came of it."""
    compiled, outcome = used.compiled, used.outcome
    if isinstance(compiled, Program) and isinstance(outcome, Gathered):
        pairs = zip(compiled.items, outcome.items, strict=True)
        return [(built.facts, one.outcome) for built, one in pairs if one.outcome is not None]
    return [(compiled.facts, outcome)]


def _alone(facts: CompiledFacts, outcome: Outcome) -> dict[str, Decimal]:
    """What one task used, of what is its own."""
    usage = outcome.usage
    own = {"tasks": Decimal(1), "shots": Decimal(outcome.shots_executed)}
    own["simulator_seconds"] = measured(usage.wall_s, "simulator_seconds")
    if usage.qpu_s is not None:
        own["qpu_seconds"] = measured(usage.qpu_s, "qpu_seconds")
    return own | _gates(facts, outcome.shots_executed)


def _summed(each: Sequence[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """The sums of what all tell: a sum without one of them would be too small, and would look like a sum."""
    return {
        meter: sum((one[meter] for one in each), Decimal(0)) for meter in each[0] if all(meter in one for one in each)
    }


def _counter(compiled: Compiled, backend: str) -> tuple[Source, str]:
    """Who has compiled and so counted: the far side where it gave a ticket for it, else a child of the plane's."""
    built = compiled.items if isinstance(compiled, Program) else (compiled,)
    return ("vendor", backend) if any(one.ticket is not None for one in built) else ("measured", "plane")


def _gates(facts: CompiledFacts, shots: int) -> dict[str, Decimal]:
    """The gates and measurements of one task that runs so many shots, as far as its compiler tells them."""
    found = {}
    for name, member in GATES.items():
        if isinstance(facts.submitted, Tally):
            found[f"submitted_{name}"] = Decimal(getattr(facts.submitted, member))
        if isinstance(facts.runs, Tally):
            found[name] = Decimal(getattr(facts.runs, member))
            found[SHOTS[name]] = found[name] * shots
    return found


def _reserved(job: Mapping[str, Any], used: Used) -> float | None:
    """What was kept for this job alone: the nodes' windows, or its seat in a session, from handing over to its end."""
    if used.outcome.usage.reserved_s is not None:
        return used.outcome.usage.reserved_s
    if not used.session:
        return None
    handed = next(event["at"] for event in reversed(job["history"]) if event["state"] == "EXECUTING")
    return max(0.0, (used.outcome.ended_at - parse_time(handed)).total_seconds())
