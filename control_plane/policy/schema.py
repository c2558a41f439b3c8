# SPDX-License-Identifier: Apache-2.0
"""JSON Schema as far as policy data needs it: a schema and a value enter, places and complaints leave. Pure.

Known are type, enum, const, properties, required, additionalProperties, items, minItems, uniqueItems, minimum, maximum,
minLength, anyOf and `$ref` to `#/$defs/NAME`, and words that only describe. Any other word is an error and never
skipped: half a check reads like a whole one. There is no `pattern`, for a hostile one would take for ever, and nothing
is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str | int, ...]
Found: TypeAlias = tuple[Place, str]

MOST_STEPS = 1_000_000
"""A file of limits for 10,000 projects takes some 300,000."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_WORDS = {
    *("type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "uniqueItems"),
    *("minimum", "maximum", "minLength", "anyOf", "$ref"),
    *("$schema", "$id", "$defs", "$comment", "title", "description", "default", "examples"),
}


class SchemaInvalid(ValueError):
    """The schema itself can't be used."""


def check(schema: Any, value: Any) -> Iterator[Found]:
    """Each place of the value that the schema doesn't allow, and why; raises SchemaInvalid."""
    try:
        yield from _Check(schema).at((), schema, value)
    except RecursionError as fault:
        raise SchemaInvalid("it refers to itself without end") from fault
    except (TypeError, AttributeError) as fault:
        raise SchemaInvalid(f"a word of it has a value of another type: {fault}") from fault


def shown(place: Place) -> str:
    """A place as people write it: `limits.projects["q-lab"].max_shots`."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isidentifier():
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text


class _Check:
    def __init__(self, schema: Any) -> None:
        held = schema.get("$defs", {}) if isinstance(schema, dict) else {}
        self._defined: Mapping[str, Any] = held if isinstance(held, dict) else {}
        self._steps = 0

    def at(self, place: Place, schema: Any, value: Any) -> Iterator[Found]:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise SchemaInvalid("it takes too long to check by it")
        if schema is True:
            return
        if schema is False:
            yield place, "nothing may stand here"
            return
        if not isinstance(schema, dict):
            raise SchemaInvalid(f"a schema is an object, not {json.dumps(schema)[:80]}")
        if unknown := sorted(schema.keys() - _WORDS):
            raise SchemaInvalid(f"{unknown[0]} is no word that is checked here")
        if "$ref" in schema:
            yield from self.at(place, self._referred(schema["$ref"]), value)
        wrong = _wrong(schema, value)
        if wrong is not None:
            yield place, wrong
        elif "anyOf" in schema and not any(not list(self.at(place, one, value)) for one in schema["anyOf"]):
            yield place, f"{_short(value)} is of none of the forms that may stand here"
        elif isinstance(value, dict):
            yield from self._members(place, schema, value)
        elif isinstance(value, list):
            for number, one in enumerate(value):
                yield from self.at((*place, number), schema.get("items", True), one)

    def _members(self, place: Place, schema: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[Found]:
        for name in schema.get("required", ()):
            if name not in value:
                yield place, f"{name} is missing"
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, one in value.items():
            if name in properties:
                yield from self.at((*place, name), properties[name], one)
            elif others is False:
                known = ", ".join(properties)
                yield (*place, name), f"no such name is known here: {known}"
            else:
                yield from self.at((*place, name), others, one)

    def _referred(self, reference: Any) -> Any:
        name = str(reference).removeprefix("#/$defs/")
        if name not in self._defined:
            raise SchemaInvalid(f"{reference} is not among its $defs")
        return self._defined[name]


def _wrong(schema: Mapping[str, Any], value: Any) -> str | None:
    """What is wrong with the value itself, whatever is inside of it."""
    return next((message for message in _complaints(schema, value) if message), None)


def _complaints(schema: Mapping[str, Any], value: Any) -> Iterator[str | None]:
    if "type" in schema:
        yield _of_type(schema["type"], value)
    if "const" in schema and not _same(schema["const"], value):
        yield f"{_short(schema['const'])} alone may stand here, not {_short(value)}"
    if "enum" in schema and not any(_same(one, value) for one in schema["enum"]):
        yield f"{_short(value)} is none of {', '.join(_short(one) for one in schema['enum'])}"
    if isinstance(value, int) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield f"{value} is below {schema['minimum']}"
        if value > schema.get("maximum", value):
            yield f"{value} is above {schema['maximum']}"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield "an empty text" if not value else f"{_short(value)} is too short"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{len(value)} elements, at least {schema['minItems']} are needed"
        if schema.get("uniqueItems") and len({json.dumps(one, sort_keys=True) for one in value}) != len(value):
            yield "an element stands twice"


def _of_type(wanted: Any, value: Any) -> str | None:
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in _TYPES:
            raise SchemaInvalid(f"{name!r} is no type that is checked here: {', '.join(_TYPES)}")
        if isinstance(value, _TYPES[name]) and not (name == "integer" and isinstance(value, bool)):
            return None
    return f"{_short(value)} is no {' or '.join(names)}"


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
