# SPDX-License-Identifier: Apache-2.0
"""A program as the list of what is run: circuit x parameter set x basis, each one task (G1). Pure.

Enters a parsed spec; leaves its items in their order, numbered from 0. Item N runs under the client token `TOKEN.N`
and, where the spec names a seed, under seed + N (modulo 2 to the 31), so that items are independent of one another and
each can be run again. A spec of one circuit, short or long, is no program here: it runs as it always did.
"""

from __future__ import annotations

from msgspec import Struct

from control_plane.jobs import observables
from control_plane.jobs.spec import Circuit, JobSpec

SEEDS = 2**31


class Item(Struct, frozen=True):
    """One circuit with its parameters, in one basis: what one task runs."""

    number: int
    circuit: int
    parameters: int | None
    basis: str | None
    values: dict[str, float]

    @property
    def where(self) -> str:
        """The item in words, for errors."""
        said = [f"circuit {self.circuit}"]
        said += [f"parameters {self.parameters}"] if self.parameters is not None else []
        said += [f"basis {self.basis}"] if self.basis is not None else []
        return f"item {self.number} ({', '.join(said)})"


def items(spec: JobSpec) -> tuple[Item, ...]:
    """What the program runs; nothing where it is one circuit."""
    program = spec.program
    if program is None or spec.single is not None:
        return ()
    sets = tuple(enumerate(program.parameters)) or ((None, {}),)
    among = observables.bases(program.observables) if program.kind == "estimator" else (None,)
    product = (
        (place, number, basis, circuit.parameters | values)
        for place, circuit in enumerate(program.circuits)
        for number, values in sets
        for basis in among
    )
    return tuple(Item(number, *one) for number, one in enumerate(product))


def tasks(spec: JobSpec) -> int:
    """How many tasks the job is: what a price a task is multiplied by."""
    return max(1, len(items(spec)))


def circuit_of(spec: JobSpec, item: Item) -> Circuit:
    """The circuit as it is run, its parameters those of the item."""
    return spec.circuits[item.circuit]


def token(job_token: str, number: int) -> str:
    """The client token of one item."""
    return f"{job_token}.{number}"


def seed(spec: JobSpec, number: int) -> int | None:
    """The seed of one item; None lets the driver choose and report one."""
    asked = spec.execution.seed
    return None if asked is None else (asked + number) % SEEDS
