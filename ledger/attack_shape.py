# SPDX-License-Identifier: Apache-2.0
"""A bundle as an attacker sees it: a tree of values, in which base64 of JSON opens into more of the tree.

Enters: the file's bytes. Leaves: the tree, the places in it, and the bytes again after a change. A place is a tuple of
keys and numbers; `OPEN` in it steps into the JSON that a text holds in base64 (an artefact, the entry, a node's words).
What is written here is the canonical form of what it means wherever that exists, so that an attack isn't found for its
white space alone. Pure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

OPEN: Final = "\N{RIGHTWARDS ARROW}"
MAX_OPENED = 3  # a file, an artefact in it, a node's words in that
Place = tuple[str | int, ...]

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


def written(value: object) -> bytes:
    """The bytes of a tree, canonical where its values are in that domain."""
    return _encode(value)


def read(data: bytes) -> Any:
    """The tree of a file's bytes."""
    return _decode(data)


def opened(text: object) -> Any:
    """The JSON object or list that a text holds in base64; None where it holds none."""
    data = binary(text)
    if data is None or data[:1] not in (b"{", b"["):
        return None
    try:
        return _decode(data)
    except (ValueError, RecursionError):  # msgspec's DecodeError is a ValueError
        return None


def binary(text: object) -> bytes | None:
    """The bytes that a text holds in base64; None where it holds none."""
    if not isinstance(text, str) or len(text) < 4 or len(text) % 4:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def closed(value: object) -> str:
    """The text that `opened` reads as this value."""
    return base64.b64encode(value if isinstance(value, bytes) else _encode(value)).decode()


def leaves(value: Any, *, inside: bool, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every leaf value with its place; `inside` also those within texts that open."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, inside=inside, at=(*at, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, inside=inside, at=(*at, number))
    else:
        yield at, value
        if inside and at.count(OPEN) < MAX_OPENED and (within := opened(value)) is not None:
            yield from leaves(within, inside=True, at=(*at, OPEN))


def branches(value: Any, *, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every object and list with its place, those within texts that open included."""
    if isinstance(value, (dict, list)):
        yield at, value
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from branches(inner, at=(*at, name))
    elif at.count(OPEN) < MAX_OPENED and (within := opened(value)) is not None:
        yield from branches(within, at=(*at, OPEN))


def members(tree: Any) -> Iterator[tuple[Place, Any]]:
    """Every member and element, at any depth, with its place."""
    for at, branch in branches(tree):
        for name, value in branch.items() if isinstance(branch, dict) else enumerate(branch):
            yield (*at, name), value


def found(tree: Any, at: Place) -> Any:
    """The value at a place."""
    for step in at:
        tree = opened(tree) if step == OPEN else tree[step]
    return tree


def changed(tree: Any, at: Place, change: Callable[[Any], Any]) -> Any:
    """The tree with `change` applied at a place; what doesn't lie on the way is shared, not copied."""
    if not at:
        return change(tree)
    step, rest = at[0], at[1:]
    if step == OPEN:
        return closed(changed(opened(tree), rest, change))
    if isinstance(tree, dict):
        return tree | {step: changed(tree.get(step), rest, change)}
    return [changed(inner, rest, change) if number == step else inner for number, inner in enumerate(tree)]


def put(tree: Any, at: Place, value: Any) -> Any:
    """The tree with a value at a place."""
    return changed(tree, at, lambda _: value)


def without(tree: Any, at: Place) -> Any:
    """The tree without a member or element."""

    def drop(branch: Any) -> Any:
        if isinstance(branch, dict):
            return {name: value for name, value in branch.items() if name != at[-1]}
        return [value for number, value in enumerate(branch) if number != at[-1]]

    return changed(tree, at[:-1], drop)


def spelled(at: Place) -> str:
    """A place as a person reads it."""
    return ".".join(str(step) for step in at) or "the file"
