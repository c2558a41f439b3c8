# SPDX-License-Identifier: Apache-2.0
"""How a service node misbehaves on purpose, so that tests and experiments can see the plane cope. Pure but for
:func:`read_faults`.

A fault has a name, the kind of request that it meets, how often it strikes, and where it needs one a number. They are
given by flag when a node starts, and in profile ``dev`` by a file in its home (``faults.json``, a list of these) that
is read anew whenever it changes. A node that was told of none has none.

=================  ===================================================================  ==================
name               what the node does                                                    value
=================  ===================================================================  ==================
drop               does what was asked and says nothing                                  —
deaf               neither does nor says anything                                        —
slow               works that many seconds longer, within its window                     seconds
late               does the work, answers that many seconds later                        seconds
wrong_shots        gives one row too few                                                 —
wrong_width        gives rows that are one byte too wide                                 —
stray_bits         sets bits in rows that the circuit doesn't have                       —
garbage            answers bytes that mean nothing                                       —
wrong_signature    answers with a signature that isn't its own                           —
other_request      names the hash of another request                                     —
other_epoch        answers for another epoch                                             —
twice              gives its answer a second time, unasked                               —
spike              its fidelities fall to this, and it says so                           average fidelity
overstate          its fidelities fall to this, and it does not say so                   average fidelity
refuse             rejects                                                               —
crash              ends its process before it answers                                    —
=================  ===================================================================  ==================
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

FaultName: TypeAlias = Literal[
    "drop",
    "deaf",
    "slow",
    "late",
    "wrong_shots",
    "wrong_width",
    "stray_bits",
    "garbage",
    "wrong_signature",
    "other_request",
    "other_epoch",
    "twice",
    "spike",
    "overstate",
    "refuse",
    "crash",
]
Meets: TypeAlias = Literal["execute", "reserve", "commit", "cancel", "ping", "any"]
FAULT_NAMES: tuple[FaultName, ...] = get_args(FaultName)
_VALUED = {"slow": 0.1, "late": 0.1, "spike": 0.6, "overstate": 0.9}
MOST_BYTES = 65_536
_FLAG = re.compile(r"([a-z_]+)(?::([0-9]+(?:\.[0-9]+)?))?(?:@([a-z]+))?(?:\*([0-9]+))?")


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. ``times`` None: always; ``after`` requests that it would have met pass unharmed first."""

    name: FaultName
    on: Meets = "execute"
    times: Annotated[int, Meta(ge=1)] | None = None
    after: Annotated[int, Meta(ge=0)] = 0
    value: Annotated[float, Meta(ge=0, le=3_600)] | None = None

    @property
    def number(self) -> float:
        """Its value, or what such a fault has by default."""
        return self.value if self.value is not None else _VALUED.get(self.name, 0.0)


def parse_fault(text: str) -> Fault:
    """A flag: ``NAME[:VALUE][@KIND][*TIMES]``, as ``late:0.5@execute*1``; raises ValueError."""
    found = _FLAG.fullmatch(text)
    if found is None:
        raise ValueError(f"a fault is NAME[:VALUE][@KIND][*TIMES], not {text[:64]!r}")
    name, value, kind, times = found.groups()
    given = {"name": name, "on": kind or "execute", "times": times and int(times), "value": value and float(value)}
    try:
        return msgspec.convert(given, Fault)
    except msgspec.ValidationError as error:
        raise ValueError(f"{text[:64]!r} is no fault: {error}") from None


class Faults:
    """The faults of one node and how often each has struck."""

    def __init__(self, given: tuple[Fault, ...] = ()) -> None:
        self._given = given
        self._met = [0] * len(given)

    def strike(self, kind: str) -> dict[FaultName, Fault]:
        """Those that strike this request; each is counted."""
        found: dict[FaultName, Fault] = {}
        for place, fault in enumerate(self._given):
            if fault.on not in (kind, "any"):
                continue
            self._met[place] += 1
            number = self._met[place] - fault.after
            if number >= 1 and (fault.times is None or number <= fault.times):
                found[fault.name] = fault
        return found


class FaultFile:
    """The file that switches faults while a node runs: a changed file starts its counts anew."""

    def __init__(self, path: Path | None, given: tuple[Fault, ...] = ()) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._faults = Faults(given)

    def now(self) -> Faults:
        """What holds now; a file that can't be read changes nothing."""
        if self._path is None:
            return self._faults
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino)
            if seen != self._seen:
                self._faults, self._seen = Faults(read_faults(self._path)), seen
        except (OSError, ValueError):
            return self._faults
        return self._faults


def read_faults(path: Path) -> tuple[Fault, ...]:
    """The faults in a file; raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES)
    return msgspec.json.decode(data, type=tuple[Fault, ...])


def write_faults(path: Path, faults: tuple[Fault, ...]) -> None:
    """Switch a running node's faults; the file appears whole."""
    part = path.with_name(f".{path.name}")
    part.write_bytes(msgspec.json.encode(faults))
    part.replace(path)
