# SPDX-License-Identifier: Apache-2.0
"""Obligations as the policy said them, made into what the plane knows, or refused (G2, I5).

Enters the list of an engine's answer; leave known obligations, and what they leave of the backends. One of a kind or
with a value that isn't known here is no decision, and the error names it: nothing is stored, nothing runs. `faults`
says the same of a data document before it is put in force. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from control_plane.policy.decision import (
    BackendClass,
    EvidenceLevel,
    Notify,
    Obligation,
    PolicyUnavailable,
    Reason,
    SecondPerson,
)
from control_plane.policy.document import Backend

LEVELS = ("standard", "full")
"""From the weaker to the stronger."""

SECOND = "second-person"
NETWORK = "p2p"  # the provider whose backends go to nodes


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """One obligation as the rules say it; `backends` are those of a class, and empty of other kinds."""

    kind: str
    value: str
    because: str
    rule: str
    backends: tuple[str, ...]


def read(said: Sequence[Said], location: Callable[[str], str]) -> tuple[Obligation, ...]:
    """The obligations, in one order whatever the engine's; raises PolicyUnavailable that names an unknown one."""
    return tuple(_known(one, location(one.rule)) for one in sorted(said, key=lambda one: (one.kind, one.because)))


def _known(said: Said, rule: str) -> Obligation:
    match said.kind:
        case "evidence_level" if said.value in LEVELS:
            return EvidenceLevel(value="full" if said.value == "full" else "standard", because=said.because, rule=rule)
        case "backend_class":
            return BackendClass(
                value=said.value, because=said.because, rule=rule, backends=tuple(sorted(said.backends))
            )
        case "notify":
            return Notify(value=said.value, because=said.because, rule=rule)
        case "approval" if said.value == SECOND:
            return SecondPerson(value="second-person", because=said.because, rule=rule)
        case _:
            raise unknown(said.kind, said.value, said.because)


def unknown(kind: str, value: str, because: str) -> PolicyUnavailable:
    """The refusal to go on with what this plane can't fulfil."""
    return PolicyUnavailable(f"the policy obliges to {kind} {value}, which this plane does not know ({because})")


def narrow(
    obligations: Sequence[Obligation], offered: Sequence[Backend], backends: tuple[str, ...], nodes: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Reason, ...]]:
    """The backends that all obliged classes leave, the nodes that are still of use, and why none is left."""
    left, unmet = set(backends), list[Reason]()
    for one in obligations:
        if isinstance(one, BackendClass):
            if left and not left & set(one.backends):
                unmet.append(_unmet(one, sorted(left)))
            left &= set(one.backends)
    if left == set(backends):
        return backends, nodes, ()
    network = any(backend.provider == NETWORK for backend in offered if backend.id in left)
    return tuple(sorted(left)), nodes if network else (), tuple(unmet)


def _unmet(one: BackendClass, left: Sequence[str]) -> Reason:
    of_class = ", ".join(one.backends) or "none that is offered"
    return Reason(
        code="backend_class_unmet",
        level="hard",
        message=f"obligations: {one.because}; class {one.value} is {of_class}, policy leaves {', '.join(left)}",
        rule=one.rule,
        want=f"a backend of class {one.value}",
        have=", ".join(left),
        fix=f"let the job run on {' or '.join(one.backends)}" if one.backends else "ask for a backend of that class",
    )


def approvals(obligations: Sequence[Obligation], reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """What somebody must approve because it is obliged; nothing where a hard reason denies anyway."""
    if any(reason.level == "hard" for reason in reasons):
        return ()
    return tuple(
        Reason(
            code="approval_required",
            level="soft",
            message=f"obligations: {one.because}",
            rule=one.rule,
            want="the approval of a second person",
            have="none",
            fix="have it approved: qcos approvals list",
        )
        for one in obligations
        if isinstance(one, SecondPerson)
    )


def level(asked: str, obligations: Sequence[Obligation]) -> str:
    """The stronger of the asked evidence level and what is obliged."""
    obliged = [one.value for one in obligations if isinstance(one, EvidenceLevel)]
    return max([asked, *obliged], key=LEVELS.index)


def faults(held: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Places and complaints of data that their schema found sound: values that this plane could not fulfil."""
    for name, rule in held["rules"].items():
        place, value = ("rules", name, "value"), rule["value"]
        if rule["kind"] == "evidence_level" and value not in LEVELS:
            yield place, f"{value} is no level: {' or '.join(LEVELS)}"
        elif rule["kind"] == "approval" and value != SECOND:
            yield place, f"{value} is nobody who approves: {SECOND}"
        elif rule["kind"] == "backend_class" and value not in held["backend_classes"]:
            yield place, f"{value} is none of backend_classes"
    for name, demands in held["backend_classes"].items():
        if not demands:
            yield ("backend_classes", name), "it demands nothing, and every backend would be of it"
