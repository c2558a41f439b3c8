# SPDX-License-Identifier: Apache-2.0
"""A program's items as one: what was compiled, what came of each, and what they took together. Pure.

Enter artefacts and ends of items, in the items' order; leave values of the driver's own kinds, so that a program is
judged, settled and proven as a circuit is. How items are run is `several`'s.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct

from control_plane.jobs.program import Item
from hal_drivers.base import Compiled, CompiledFacts, Outcome, Usage
from ledger.canonical import dumps, sha256

SOURCES: tuple[Literal["vendor", "measured", "estimated"], ...] = ("estimated", "measured", "vendor")


class Program(Compiled, frozen=True):
    """All items as they will run; `facts` are the largest of any, `artefact` is the whole as one document."""

    items: tuple[Compiled, ...] = ()


class Ended(Struct, frozen=True):
    """How one item ended: an outcome, or why there is none."""

    item: Item
    outcome: Outcome | None
    code: str | None = None
    detail: str | None = None


class Gathered(Outcome, frozen=True):
    """What all items gave; `counts` and `blocks` are those of each, and empty here."""

    items: tuple[Ended, ...] = ()


def built_program(backend: str, built: list[Compiled]) -> Program:
    """What the items are compiled to."""
    facts = [one.facts for one in built]
    return Program(
        backend=backend,
        artefact=compiled_bytes(built),
        format=built[0].format,
        qasm3=None,
        facts=CompiledFacts(
            qubits=max(one.qubits for one in facts),
            clbits=max(one.clbits for one in facts),
            depth=max(one.depth for one in facts),
            gates_before=max(one.gates_before for one in facts),
            gates_after=max(one.gates_after for one in facts),
            operations={},
            layout=None,
            measured_bits=(),
            method=", ".join(sorted({one.method for one in facts})),
            memory_bytes=max(one.memory_bytes for one in facts),
        ),
        versions=_merged([one.versions for one in built]),
        items=tuple(built),
    )


def compiled_bytes(built: Sequence[Compiled]) -> bytes:
    """The artefact `compiled.json` of a program: every different circuit once, and which item ran which."""
    circuits: dict[str, dict[str, Any]] = {}
    for one in built:
        name = sha256(one.artefact)
        if name not in circuits:
            text = base64.b64encode(one.artefact).decode()
            circuits[name] = {"sha256": name, "format": one.format, "artefact": text, "qasm3": one.qasm3}
    places = {name: place for place, name in enumerate(circuits)}
    return dumps({"circuits": list(circuits.values()), "items": [places[sha256(one.artefact)] for one in built]})


def _merged(versions: list[dict[str, str]]) -> dict[str, str]:
    return {name: version for one in versions for name, version in one.items()}


def accounting(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """By what the work is known where it ran; each name has what the items say of it."""
    named: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for name, value in outcome.accounting.items():
            named.setdefault(name, {})[value] = None
    return {name: ",".join(values) for name, values in named.items()}


def partial(ended: tuple[Ended, ...], halt: str | None) -> str | None:
    """Why there is less than was asked for; None where there isn't."""
    left = [one for one in ended if one.outcome is None]
    short = [one for one in ended if one.outcome is not None and one.outcome.partial is not None]
    if left:
        failed = next((one for one in left if one.code not in (None, "canceled")), None)
        why = f"{failed.item.where}: {failed.code}: {failed.detail}" if failed is not None and halt is None else halt
        why = why or (f"{failed.item.where}: {failed.code}" if failed is not None else "not run")
        return f"{len(ended) - len(left)} of {len(ended)} items finished: {why}"[:2000]
    if short:
        return f"{len(short)} of {len(ended)} items ran fewer shots: {short[0].outcome.partial}"[:2000]  # type: ignore[union-attr]
    return None


def total_usage(each: Sequence[Usage]) -> Usage:
    """What all took together; as certain as the least certain of them."""
    cpu, qpu = [one.cpu_s for one in each], [one.qpu_s for one in each]
    reserved = [one.reserved_s for one in each]
    peak = [one.peak_memory_bytes for one in each if one.peak_memory_bytes is not None]
    return Usage(
        wall_s=_sum([one.wall_s for one in each]),
        cpu_s=_sum([s for s in cpu if s is not None]) if None not in cpu else None,
        peak_memory_bytes=max(peak, default=None),
        qpu_s=_sum([s for s in qpu if s is not None]) if None not in qpu else None,
        source=min((one.source for one in each), key=SOURCES.index),
        reserved_s=_sum([s for s in reserved if s is not None]) if None not in reserved else None,
    )


def _sum(seconds: list[float]) -> float:
    return float(sum((Decimal(repr(s)) for s in seconds), Decimal(0)))
