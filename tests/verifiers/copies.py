# SPDX-License-Identifier: Apache-2.0
"""Changed copies of a file, each with the name of what was changed: what a verifier that accepts it doesn't cover.

Pure. JSON is changed member by member: a bit in bytes that are written as base64, each part of a signed note, a
character of other text; each member left out, each list's element doubled, a member added. DER is changed a bit at a
time.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from cryptography.hazmat import asn1

from ledger import cms
from ledger.timestamp import parse

NOTE = ("origin", "size", "root")
TOKEN, TOKEN_BITS = "signedTimestamp", 60  # a member that is DER, and about how many of its bits are changed


class Copy(NamedTuple):
    """A changed file; `change` says what and where."""

    change: str
    data: bytes


def of_json(data: bytes) -> Iterator[Copy]:
    """Every change of every member."""
    tree = json.loads(data)
    for path in _paths(tree):
        where = ".".join(map(str, path))
        for how, value in _others(path[-1], _at(tree, path)):
            changed = copy.deepcopy(tree)
            _at(changed, path[:-1])[path[-1]] = value
            yield Copy(f"{where}: {how}", _written(changed))
        changed = copy.deepcopy(tree)
        del _at(changed, path[:-1])[path[-1]]
        yield Copy(f"{where}: left out", _written(changed))
    for path in [(), *_paths(tree)]:
        changed = copy.deepcopy(tree)
        found = _at(changed, path)
        where = ".".join(map(str, path)) or "the file"
        if isinstance(found, dict):
            found["unknown"] = "x"
            yield Copy(f"{where}: a member added", _written(changed))
        elif isinstance(found, list) and found:
            found.append(found[-1])
            yield Copy(f"{where}: the last element twice", _written(changed))


def of_der(response: bytes, step: int) -> Iterator[Copy]:
    """One bit of every `step`-th byte, named by the part of the token that it lies in."""
    parts = list(_parts(response))
    for at in range(0, len(response), step):
        changed = bytearray(response)
        changed[at] ^= 1 << at % 8
        name = next((name for name, start, end in parts if start <= at < end), "framing and names of algorithms")
        yield Copy(name, bytes(changed))


def of_pdf(pdf: bytes, count: int) -> Iterator[Copy]:
    """One bit of so many bytes, evenly, named by whether the first signature covers it."""
    found = re.search(rb"/ByteRange\s*\[\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", pdf)
    assert found is not None
    first, until, again, more = (int(number) for number in found.groups())
    for number in range(count):
        at = (2 * number + 1) * len(pdf) // (2 * count)
        changed = bytearray(pdf)
        changed[at] ^= 1 << number % 8
        covered = first <= at < first + until or again <= at < again + more
        yield Copy(
            "what the signature covers" if covered else "the signature's place, and what was added after it",
            bytes(changed),
        )


def _parts(response: bytes) -> Iterator[tuple[str, int, int]]:
    token = parse(_token(response))
    (signer,) = token.content.signer_infos.as_list()
    wanted = [("what is stamped", token.content.content.content), ("signature", signer.signature)]
    wanted += [("certificates", cms.whole(one)) for one in token.content.certificates or ()]
    wanted += [
        ("signed attributes", cms.whole(value))
        for one in signer.signed_attributes.as_list()
        for value in one.values.as_list()
    ]
    for name, part in wanted:
        start = response.rfind(part)
        yield name, start, start + len(part)


def _token(response: bytes) -> bytes:
    return cms.whole(asn1.decode_der(cms.Grant, response).token)


def _others(name: str | int, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, str):
        return
    if "\n\n" in value:
        yield from _notes(value)
    elif (data := _bytes(value)) is not None and name == TOKEN:
        for one in of_der(data, len(data) // TOKEN_BITS):
            yield one.change, base64.b64encode(one.data).decode()
    elif data is not None:
        for name, at in (("first", 0), ("middle", len(data) // 2), ("last", len(data) - 1)):
            changed = bytearray(data)
            changed[at] ^= 1
            yield f"a bit of the {name} byte", base64.b64encode(changed).decode()
    elif value.isdecimal():
        yield "another number", str(int(value) + 1)
    else:
        yield "another character", value[:-1] + chr(ord(value[-1]) ^ 1)


def _notes(note: str) -> Iterator[tuple[str, str]]:
    lines = note.split("\n")
    for at, name in enumerate(NOTE):
        yield name, _line(lines, at, lines[at][:-1] + ("A" if lines[at][-1] != "A" else "B"))
    for number, at in enumerate(range(len(NOTE) + 1, len(lines) - 1), 1):
        dash, name, signature = lines[at].split(" ")
        data = bytearray(base64.b64decode(signature))
        data[-1] ^= 1
        changed = base64.b64encode(data).decode()
        yield f"signature line {number}: a bit", _line(lines, at, f"{dash} {name} {changed}")
        yield f"signature line {number}: its name", _line(lines, at, f"{dash} {name}x {signature}")
        yield f"signature line {number}: left out", "\n".join(lines[:at] + lines[at + 1 :])


def _line(lines: list[str], at: int, line: str) -> str:
    return "\n".join([*lines[:at], line, *lines[at + 1 :]])


def _bytes(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return data if len(data) > 16 else None


def _paths(tree: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in members:
        yield (*before, name)
        yield from _paths(value, (*before, name))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _written(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":"), sort_keys=True).encode()
