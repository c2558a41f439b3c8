# SPDX-License-Identifier: Apache-2.0
"""Obligations as the policy said them, made into what the plane knows, or refused (G2, I5).

Enters the list of an engine's answer; leave known obligations, and what they leave of the backends. One of a kind or
with a value that isn't known here is no decision, and the error names it: nothing is stored, nothing runs. `faults`
says the same of a data document before it is put in force. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from msgspec import Struct

from control_plane.policy.decision import (
    OBLIGATIONS,
    BackendClass,
    EvidenceLevel,
    Obligation,
    PolicyUnavailable,
    Reason,
)
from control_plane.policy.document import Backend

LEVELS = ("standard", "full")
"""From the weaker to the stronger."""

CONDITIONS = ("classifications", "departments", "projects", "purposes", "price_at_least_micros")
DEMANDS = ("backends", "providers", "regions", "sovereign", "zones")
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


def level(asked: str, obligations: Sequence[Obligation]) -> str:
    """The stronger of the asked evidence level and what is obliged."""
    obliged = [one.value for one in obligations if isinstance(one, EvidenceLevel)]
    return max([asked, *obliged], key=LEVELS.index)


def faults(data: Mapping[str, object]) -> Iterator[str]:
    """What of the document `obligations` this plane could not fulfil or would misread, each by where it stands."""
    held = data.get("obligations")
    rules, classes = _object(held, "rules"), _object(held, "backend_classes")
    if rules is None or classes is None:
        yield "obligations: rules and backend_classes must be objects"
        return
    for name, rule in rules.items():
        for fault in _rule_faults(rule, classes):
            yield f"obligations.rules.{name}: {fault}"
    for name, demands in classes.items():
        if not isinstance(demands, dict) or not demands or set(demands) - set(DEMANDS):
            yield f"obligations.backend_classes.{name}: a class demands one or more of {', '.join(DEMANDS)}"


def _rule_faults(rule: object, classes: Mapping[str, object]) -> Iterator[str]:
    if not isinstance(rule, dict):
        yield "not an object"
        return
    if strange := sorted(set(rule) - {"kind", "value", "because", "when"}):
        yield f"{', '.join(strange)}: a rule has kind, value, because, when"
    kind, value = rule.get("kind"), rule.get("value")
    if kind not in OBLIGATIONS:
        yield f"kind {kind!r}: this plane knows {', '.join(OBLIGATIONS)}"
    elif not isinstance(value, str) or not value:
        yield "value: a text"
    elif kind == "evidence_level" and value not in LEVELS:
        yield f"value {value!r}: a level is {' or '.join(LEVELS)}"
    elif kind == "backend_class" and value not in classes:
        yield f"value {value!r}: not one of backend_classes"
    if not isinstance(rule.get("because"), str) or not rule["because"]:
        yield "because: a text that says why"
    yield from _condition_faults(rule.get("when", {}))


def _condition_faults(when: object) -> Iterator[str]:
    if not isinstance(when, dict):
        yield "when: an object of conditions"
        return
    for name, wanted in when.items():
        if name not in CONDITIONS:
            yield f"when.{name}: a condition is one of {', '.join(CONDITIONS)}"
        elif name == "price_at_least_micros":
            if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
                yield f"when.{name}: a whole number of millionths"
        elif not isinstance(wanted, list) or not wanted:
            yield f"when.{name}: a list that isn't empty"


def _object(held: object, key: str) -> dict[str, object] | None:
    found = held.get(key) if isinstance(held, dict) else None
    return cast("dict[str, object]", found) if isinstance(found, dict) else None
