# SPDX-License-Identifier: Apache-2.0
"""What a run asks of nodes, from its plan: tokens, seeds, windows, requests (N5, N6). Pure.

A node sees a token that is the hash of the plane's, so that nothing of a job's id, nor whether it is a job or a probe,
can be read from it. A fragment's seed doesn't depend on who runs it: a fallback computes with the same one.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from msgspec import Meta, Struct

from hal_drivers.p2p import rows
from hal_drivers.p2p.fragments import Part, parts
from hal_drivers.p2p.ir import Program
from hal_drivers.p2p.plan import Assignment, Fragment, Plan, PlanConfig
from hal_drivers.p2p.reservation import Wanted
from hal_drivers.p2p.wire import Commit, Execute, Given, Reserve

Seconds = Annotated[float, Meta(gt=0, le=3_600)]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """How long the runtime waits and how often it tries (N7, N11)."""

    reserve_s: Seconds = 2.0
    commit_s: Seconds = 2.0
    cancel_s: Seconds = 1.0
    execute_s: dict[str, Seconds] = {}
    """By operation class: the fragment's service type, ``whole`` or ``none``; its window lasts as long."""
    default_execute_s: Seconds = 5.0
    hold_s: Seconds = 10.0
    """How long a node keeps a window for the others of its plan to be got."""
    reask_s: Seconds = 0.3
    """After a broken connection the same attempt is asked for once more, for so long at most: work may be done."""
    retries: Annotated[int, Meta(ge=0, le=20)] = 1
    """More tries on one node, where its failure may pass by itself, before the next node has its turn."""
    rounds: Annotated[int, Meta(ge=1, le=100)] = 12
    """How often all windows of a plan are asked for, where some are taken."""
    backoff_s: Seconds = 0.02
    """Before the second try; doubled with each, between half of it and all of it, by the run's seed."""
    backoff_most_s: Seconds = 1.0

    def execute(self, service_type: str) -> float:
        """The limit of an operation class."""
        return self.execute_s.get(service_type, self.default_execute_s)

    def pause(self, seed: int, what: str, tries: int) -> float:
        """How long to wait before the next try after ``tries``."""
        drawn = hashlib.sha256(f"pause/{seed}/{what}/{tries}".encode()).digest()[0] / 255
        return min(self.backoff_s * float(1 << min(tries - 1, 20)), self.backoff_most_s) * (0.5 + drawn / 2)


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be run: :class:`office.Submit` without its clock."""

    token: str
    program: Program
    plan: Plan
    config: PlanConfig
    shots: int
    seed: int


def node_token(token: str) -> str:
    """What nodes know a run by."""
    return hashlib.sha256(b"qcos-run\0" + token.encode()).hexdigest()[:32]


def fragment_seed(seed: int, fragment_id: str) -> int:
    """Independent fragments must not share their randomness."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{fragment_id}".encode()).digest()[:6], "little")


class Sheet:
    """An order with all that is derived from it once."""

    def __init__(self, order: Order, limits: Limits) -> None:
        self.order, self.limits = order, limits
        self.token = node_token(order.token)
        self.fragments: dict[str, Fragment] = {one.fragment_id: one for one in order.plan.fragments}
        self.parts: dict[str, Part] = parts(order.program, order.plan.fragments)
        self.assigned: dict[str, Assignment] = {one.fragment_id: one for one in order.plan.assignments}

    def needed(self, fragment_id: str) -> set[str]:
        """All that must have been accepted before it."""
        found: set[str] = set()
        todo = [fragment_id]
        while todo:
            before = set(self.fragments[todo.pop()].depends_on) - found
            found |= before
            todo += before
        return found

    def nodes(self, fragment_id: str) -> tuple[str, ...]:
        """Who may run it, in their order: nobody outside the plan, which was made inside of what policy allows."""
        assigned = self.assigned[fragment_id]
        return (assigned.primary, *assigned.fallbacks)

    def duration_us(self, fragment_id: str) -> int:
        """How long its window lasts."""
        return int(self.limits.execute(self.fragments[fragment_id].service_type) * 1e6)

    def starts(self, chosen: dict[str, str]) -> dict[str, int]:
        """When each fragment's window starts, at the latest: after those it waits for, and one by one on a node."""
        ends: dict[str, int] = {}
        free: dict[str, int] = {}
        found: dict[str, int] = {}
        for fragment_id in (name for name in self.order.plan.order if name in chosen):
            before = [ends[other] for other in self.fragments[fragment_id].depends_on if other in ends]
            start = max([free.get(chosen[fragment_id], 0), *before])
            found[fragment_id] = start
            ends[fragment_id] = free[chosen[fragment_id]] = start + self.duration_us(fragment_id)
        return found

    def wanted(self, fragment_id: str, node_id: str, epoch: int, starts_in_us: int) -> Wanted:
        """The window of an attempt."""
        fragment = self.fragments[fragment_id]
        asked = [self.order.config.min_fidelity(service) for service in fragment.services]
        return Wanted(
            node_id=node_id,
            token=self.token,
            fragment_id=fragment_id,
            epoch=epoch,
            services=fragment.services,
            qubits=max(1, len(fragment.qubits)),
            starts_in_us=starts_in_us,
            duration_us=self.duration_us(fragment_id),
            hold_us=int(self.limits.hold_s * 1e6),
            min_fidelity_ppm=max(asked, default=0),
        )

    def execute(self, fragment_id: str, epoch: int, fence: int, done: dict[str, bytes]) -> Execute:
        """``done``: the rows of the fragments that it reads from, at least."""
        part, fragment, order = self.parts[fragment_id], self.fragments[fragment_id], self.order
        given = None
        if part.given:
            before = {name: done[name] for name in fragment.depends_on}
            given = Given(
                part.given, rows.pick(self.joined(before), order.program.bits, order.shots, fragment.bits_read)
            )
        return Execute(
            token=self.token,
            fragment_id=fragment_id,
            epoch=epoch,
            fence=fence,
            circuit=part.circuit,
            shots=order.shots,
            seed=fragment_seed(order.seed, fragment_id),
            given=given,
        )

    def joined(self, done: dict[str, bytes]) -> bytes:
        """The program's rows from those of fragments; bits of others are 0."""
        parted = [(self.parts[name].bits, data, self.parts[name].written) for name, data in sorted(done.items())]
        return rows.join(self.order.program.bits, self.order.shots, parted)


def reserve(wanted: Wanted, *, alone: bool = False) -> Reserve:
    """The request for a window; ``alone``: to be committed too, for no other is waited for."""
    return Reserve(
        token=wanted.token,
        fragment_id=wanted.fragment_id,
        epoch=wanted.epoch,
        services=wanted.services,
        qubits=wanted.qubits,
        duration_us=wanted.duration_us,
        hold_us=wanted.hold_us,
        starts_in_us=wanted.starts_in_us,
        alone=alone,
    )


def commit(wanted: Wanted, fence: int) -> Commit:
    """The request that takes it."""
    return Commit(wanted.token, wanted.fragment_id, wanted.epoch, fence)
