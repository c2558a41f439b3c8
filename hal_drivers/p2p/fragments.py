# SPDX-License-Identifier: Apache-2.0
"""How a program is cut into fragments, each of which one node runs at once (N4). Pure.

Operations that share a qubit belong to one group. A group that reads another's recorded bits depends on it and runs
after it, shot by shot on that shot's bits. Groups are made one where that would not be exact:

- they write the same bit (the last write counts, and who was last only one node knows);
- one reads a bit that the other writes again later (what is passed on are the bits at a fragment's end);
- they read each other's bits, through whomever.

A bit that nothing has written yet is 0: a condition on it is settled here. What leaves are :class:`Fragment` values in
the order of their first operations, and for each a :class:`Part`: the circuit that its node gets.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from hal_drivers.p2p.aliases import services_of
from hal_drivers.p2p.circles import circles
from hal_drivers.p2p.ir import Circuit, Operation, Program, Service
from hal_drivers.p2p.plan import Fragment, Mode


class Cut(Struct, frozen=True):
    """A program in fragments. ``order`` has each after what it depends on; ``reason`` says why they are these."""

    mode: Mode
    reason: str
    fragments: tuple[Fragment, ...]
    order: tuple[str, ...]


class Part(Struct, frozen=True):
    """What the node of a fragment gets. ``qubits`` and ``bits`` are the program's numbers of the circuit's own."""

    circuit: Circuit
    qubits: tuple[int, ...]
    bits: tuple[int, ...]
    given: tuple[int, ...]
    """Which of the circuit's bits come from other fragments."""
    written: tuple[int, ...]
    """Which of the circuit's bits this fragment writes."""


class _Groups:
    """Union-find over qubits."""

    def __init__(self, qubits: int) -> None:
        self._parent = list(range(qubits))

    def find(self, qubit: int) -> int:
        parent = self._parent
        while parent[qubit] != qubit:
            parent[qubit] = parent[parent[qubit]]
            qubit = parent[qubit]
        return qubit

    def unite(self, one: int, other: int) -> bool:
        """Whether they were two."""
        one, other = self.find(one), self.find(other)
        if one == other:
            return False
        self._parent[max(one, other)] = min(one, other)
        return True


def settled(program: Program) -> tuple[Operation | None, ...]:
    """The operations, by place, without conditions on bits that nothing has written: those are 0.

    None stands for an operation that can't happen.
    """
    written: set[int] = set()
    made: list[Operation | None] = []
    for operation in program.operations:
        kept: Operation | None = operation
        if operation.condition and not written.issuperset(bit for bit, _ in operation.condition):
            left = tuple(pair for pair in operation.condition if pair[0] in written)
            never = any(value for bit, value in operation.condition if bit not in written)
            kept = None if never else replace(operation, condition=left)
        if kept is not None:
            written.update(kept.bits)
        made.append(kept)
    return tuple(made)


def predecessors(program: Program) -> tuple[tuple[int, ...], ...]:
    """The dependency graph: for each operation those right before it on its qubits and bits.

    Who reads a bit stands behind its last write, who writes it behind all that read what was there.
    """
    on_qubit: dict[int, int] = {}
    wrote: dict[int, int] = {}
    readers: dict[int, list[int]] = defaultdict(list)
    made: list[tuple[int, ...]] = []
    for place, operation in enumerate(program.operations):
        before = {on_qubit[qubit] for qubit in operation.qubits if qubit in on_qubit}
        for bit in operation.bits:
            before.update(readers.pop(bit, ()))
            before.update([wrote[bit]] if bit in wrote else ())
        before |= {wrote[bit] for bit, _ in operation.condition if bit in wrote}
        made.append(tuple(sorted(before - {place})))
        for bit, _ in operation.condition:
            readers[bit].append(place)
        wrote |= dict.fromkeys(operation.bits, place)
        on_qubit |= dict.fromkeys(operation.qubits, place)
    return tuple(made)


def depth(program: Program) -> int:
    """The longest chain of operations that wait for one another."""
    deep: list[int] = []
    for before in predecessors(program):
        deep.append(1 + max((deep[place] for place in before), default=0))
    return max(deep, default=0)


def cut(program: Program, mode: Literal["auto", "whole", "product"] = "auto") -> Cut:
    """The fragments. ``whole`` puts everything on one node; else groups stand apart wherever that is exact."""
    groups = _Groups(program.qubits)
    for operation in program.operations:
        for qubit in operation.qubits[1:]:
            groups.unite(operation.qubits[0], qubit)
    operations = settled(program)
    if mode == "whole":
        used = sorted({qubit for operation in program.operations for qubit in operation.qubits})
        joined = [groups.unite(used[0], qubit) for qubit in used[1:]]
        reason = "everything runs on one node, as configured" if any(joined) else _WHOLE
    else:
        written, mixed = _one_writer(operations, groups)
        mutual = _no_circles(operations, groups, written)
        reason = _reason(written=mixed, mutual=mutual)
    fragments = _fragments(program, operations, groups)
    if len(fragments) > 1:
        apart = f"{len(fragments)} groups of operations share no qubit"
        return Cut("product", f"{apart}; {reason}" if reason else apart, fragments, _ordered(fragments))
    return Cut("whole", reason or _WHOLE, fragments, _ordered(fragments))


_WHOLE = "all qubits in use are joined by operations"


def _reason(*, written: int, mutual: int) -> str:
    said = []
    if written:
        said.append("some were made one because one writes a bit that the other writes or reads before its last value")
    if mutual:
        said.append("some were made one because they read each other's bits")
    return "; ".join(said)


def _one_writer(operations: Iterable[Operation | None], groups: _Groups) -> tuple[dict[int, int], int]:
    """Make one what isn't exact apart for a bit's sake; the qubit of each bit's writers, and how many were joined."""
    kept = [operation for operation in operations if operation is not None]
    writes: dict[int, int] = defaultdict(int)
    writer: dict[int, int] = {}
    joined = 0
    for operation in kept:
        for bit in operation.bits:
            writes[bit] += 1
            joined += groups.unite(writer.setdefault(bit, operation.qubits[0]), operation.qubits[0])
    seen: dict[int, int] = defaultdict(int)
    for operation in kept:
        for bit, _ in operation.condition:
            if seen[bit] < writes[bit]:
                joined += groups.unite(writer[bit], operation.qubits[0])
        for bit in operation.bits:
            seen[bit] += 1
    return writer, joined


def _no_circles(operations: Iterable[Operation | None], groups: _Groups, writer: dict[int, int]) -> int:
    """Make one the groups that wait for one another; how many were joined."""
    waits: dict[int, set[int]] = defaultdict(set)
    for operation in operations:
        if operation is not None and operation.condition:
            here = groups.find(operation.qubits[0])
            waits[here] |= {groups.find(writer[bit]) for bit, _ in operation.condition} - {here}
    joined = 0
    for circle in circles(waits):
        for other in circle[1:]:
            joined += groups.unite(circle[0], other)
    return joined


def _fragments(program: Program, operations: tuple[Operation | None, ...], groups: _Groups) -> tuple[Fragment, ...]:
    members: dict[int, list[int]] = defaultdict(list)
    for place, operation in enumerate(program.operations):
        members[groups.find(operation.qubits[0])].append(place)
    owner = {
        bit: groups.find(operation.qubits[0])
        for operation in operations
        if operation is not None
        for bit in operation.bits
    }
    names = {group: f"f{number}" for number, group in enumerate(members, 1)}
    made = []
    for group, places in members.items():
        mine = [operations[place] for place in places]
        happening = [operation for operation in mine if operation is not None]
        services = services_of(happening)
        read = {bit for operation in happening for bit, _ in operation.condition if owner[bit] != group}
        made.append(
            Fragment(
                fragment_id=names[group],
                service_type=services[0] if len(services) == 1 else "whole" if services else "none",
                services=services,
                qubits=tuple(sorted({q for place in places for q in program.operations[place].qubits})),
                bits_read=tuple(sorted(read)),
                bits_written=tuple(sorted({bit for operation in happening for bit in operation.bits})),
                operations=tuple(program.operations[place].id for place in places),
                depends_on=tuple(sorted({names[owner[bit]] for bit in read}, key=_number)),
            )
        )
    return tuple(made)


def _number(fragment_id: str) -> int:
    return int(fragment_id[1:])


def _ordered(fragments: tuple[Fragment, ...]) -> tuple[str, ...]:
    """Each after what it depends on, and of those that are ready the lowest number first."""
    waits_for = {fragment.fragment_id: len(fragment.depends_on) for fragment in fragments}
    followers: dict[str, list[str]] = defaultdict(list)
    for fragment in fragments:
        for other in fragment.depends_on:
            followers[other].append(fragment.fragment_id)
    ready = [_number(name) for name, others in waits_for.items() if not others]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = f"f{heapq.heappop(ready)}"
        order.append(name)
        for follower in followers[name]:
            waits_for[follower] -= 1
            if not waits_for[follower]:
                heapq.heappush(ready, _number(follower))
    return tuple(order)


def parts(program: Program, fragments: Iterable[Fragment]) -> dict[str, Part]:
    """By fragment id the circuit that its node runs."""
    operations = {kept.id: kept for kept in settled(program) if kept is not None}
    return {fragment.fragment_id: _part(program, fragment, operations) for fragment in fragments}


def _part(program: Program, fragment: Fragment, operations: dict[int, Operation]) -> Part:
    bits = tuple(sorted({*fragment.bits_read, *fragment.bits_written}))
    qubit_of = {qubit: local for local, qubit in enumerate(fragment.qubits)}
    bit_of = {bit: local for local, bit in enumerate(bits)}
    happening = [operations[number] for number in fragment.operations if number in operations]
    local = tuple(
        replace(
            operation,
            id=place,
            qubits=tuple(qubit_of[qubit] for qubit in operation.qubits),
            bits=tuple(bit_of[bit] for bit in operation.bits),
            condition=tuple((bit_of[bit], value) for bit, value in operation.condition),
        )
        for place, operation in enumerate(happening)
    )
    return Part(
        circuit=Circuit(len(qubit_of), len(bits), local, program.alias_model),
        qubits=fragment.qubits,
        bits=bits,
        given=tuple(bit_of[bit] for bit in fragment.bits_read),
        written=tuple(bit_of[bit] for bit in fragment.bits_written),
    )


def used(program: Program, fragment: Fragment) -> dict[Service, int]:
    """How often the fragment uses each of its services."""
    names = [program.operations[number].name for number in fragment.operations]
    return {service: names.count(service) for service in fragment.services}
