# SPDX-License-Identifier: Apache-2.0
"""Whether the data of policies has the shape that its readers need, by file, line and place.

`schemas/KEY.schema` describes what stands under KEY in `data/`. A set brings schemas of its own for what its rules
read; where it brings none, the shipped one holds. `limits` and `permissions` are read by the plane as well: for these
the shipped schema holds whatever the set brings, and what limits say is resolved once for each project, team and
department that they name. So it does for `obligations`, which the plane must be able to fulfil. The shipped schemas are
read from this installation; nothing else is opened.

The ending is `.schema` because `opa test FOLDER` would load each `.json` as data, and two schemas of one folder clash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from control_plane.policy import duties
from control_plane.policy.document import Limits
from control_plane.policy.fault import Fault
from control_plane.policy.limits import LimitsInvalid, combinations, resolve
from control_plane.policy.revision import default_folder
from control_plane.policy.schema import Place, SchemaInvalid, check, shown

OURS = ("limits", "permissions")
"""The keys that the plane itself reads: they must be there."""

MOST = 50
"""Faults told of one file."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def faults(files: Mapping[str, bytes]) -> list[Fault]:
    """All faults of `data/`, by path and line; what is no JSON object is `shape`'s to tell and skipped here."""
    schemas = {path: content for path, content in files.items() if path.startswith("schemas/")}
    found: list[Fault] = []
    held: set[str] = set()
    for path in sorted(files):
        if path.startswith("data/") and isinstance(value := _json(files[path]), dict):
            held |= value.keys()
            found += _file(path, files[path], value, schemas)
    found += [
        Fault(f"data/{key}.json", 1, "schema", f"no file of data/ has the key {key}") for key in OURS if key not in held
    ]
    return sorted(set(found), key=lambda fault: (fault.path, fault.line, fault.message))


def _file(path: str, content: bytes, value: Mapping[str, Any], schemas: Mapping[str, bytes]) -> Iterator[Fault]:
    lines: Mapping[Place, int] | None = None
    told = 0
    for key, inner in value.items():
        for home, complaint, place in _complaints(key, inner, schemas):
            if home is not None:
                yield Fault(home, 1, "schema", complaint)
                continue
            told += 1
            if told > MOST:
                yield Fault(path, 1, "schema", f"more than {MOST} faults")
                return
            lines = lines or places(content.decode())
            where = next(place[:end] for end in range(len(place), -1, -1) if place[:end] in lines)
            yield Fault(path, lines[where], "schema", f"{shown(place)}: {complaint}")


def _complaints(key: str, value: Any, schemas: Mapping[str, bytes]) -> Iterator[tuple[str | None, str, Place]]:
    """Complaints with their place, or with the schema's path where that is what is wrong."""
    clean = True
    for home, schema in _schemas(key, schemas):
        try:
            for place, complaint in check(schema, value):
                clean = False
                yield None, complaint, (key, *place)
        except SchemaInvalid as fault:
            clean = False
            yield home, str(fault), ()
        except RecursionError:
            clean = False
            yield home, "nested too deep to check", ()
    if clean and (further := _FURTHER.get(key)) is not None:
        for place, complaint in further(value):
            yield None, complaint, (key, *place)


def _schemas(key: str, carried: Mapping[str, bytes]) -> Iterator[tuple[str, Any]]:
    home = f"schemas/{key}.schema"
    if home in carried:
        yield home, _json(carried[home])
    if home not in carried or key in (*OURS, *_FURTHER):
        shipped = _shipped().get(home)
        if shipped is not None:
            yield home, shipped


def _resolved(limits: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    for project, team, department, tenant in combinations(limits):
        where = ("tenants", tenant) if tenant is not None else _whose(limits, project)
        try:
            msgspec.convert(resolve(limits, project, team, department, tenant), Limits)
        except LimitsInvalid as fault:
            yield where, fault.reason
        except msgspec.ValidationError as fault:
            yield where, str(fault)


_FURTHER: Mapping[str, Callable[[Mapping[str, Any]], Iterator[tuple[Place, str]]]] = {
    "limits": _resolved,
    "obligations": duties.faults,
}


def _whose(limits: Mapping[str, Any], project: str) -> Place:
    return ("projects", project) if project in limits["projects"] else ("default",)


@cache
def _shipped() -> Mapping[str, Any]:
    folder = default_folder() / "schemas"
    return {f"schemas/{path.name}": json.loads(path.read_bytes()) for path in folder.glob("*.schema")}


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def places(text: str) -> dict[Place, int]:
    """The line of each member and element of a sound JSON text, by its place."""
    found: dict[Place, int] = {(): 1}
    stack: list[tuple[Place, int | None]] = []  # each open container's place; the next number where it is a list
    place: Place = ()
    key: str | None = None
    line, at = 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", at, token.start())
        at = token.start()
        word = token.group()
        if word in {"}", "]"}:
            stack.pop()
        elif word == ",":
            if stack[-1][1] is not None:
                stack[-1] = (stack[-1][0], stack[-1][1] + 1)
            else:
                key = None
        elif word == ":":
            pass
        elif stack and stack[-1][1] is None and key is None:
            key = json.loads(word)
            found[(*stack[-1][0], str(key))] = line
        else:
            if stack:
                step = key if stack[-1][1] is None else stack[-1][1]
                place = (*stack[-1][0], step if step is not None else 0)
                found.setdefault(place, line)
            key = None
            if word in {"{", "["}:
                stack.append((place, None if word == "{" else 0))
    return found
