# SPDX-License-Identifier: Apache-2.0
"""The form of policy files before any engine sees them: places, sizes, texts, packages, JSON. Pure.

Files of a revision enter, faults leave. What is refused here is what engines and editors read differently, or what
would make one file speak for another: bytes that are no text, a byte order mark, line ends of Windows, a package
outside of its folder, a key that stands twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from control_plane.policy.fault import Fault

LARGEST_FILE = 8 * 1024 * 1024
"""Limits of 10,000 projects are some 3 MB."""

LARGEST_SET = 16 * 1024 * 1024
MOST_FILES = 1000

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_PACKAGE = re.compile(r"^package[ \t]+(\S+)", re.MULTILINE)
_DEEPEST = 100


def in_place(path: str) -> str | None:
    """What is wrong with where a file stands, or None."""
    parts = path.split("/")
    if len(path) > 400 or not all(_PLAIN.fullmatch(part) for part in parts):
        return "a path is of plain names: letters, digits, _ . -"
    if path.endswith(".rego"):
        return None if parts[0] == "qcos" and len(parts) == 3 else "rules stand in qcos/PACKAGE/FILE.rego"
    if parts[0] == "schemas" and len(parts) > 1 and path.endswith((".json", ".schema")):
        if path.endswith(".schema") or path == "schemas/input.json":
            return None
        return "a schema beside input.json ends in .schema: opa test would load two .json as data that clash"
    if path.endswith(".json"):
        if parts[0] == "data" and len(parts) == 2:
            return None
        return "data stands in data/FILE.json, a schema below schemas/; OPA would read this one as data of its own"
    return "OPA would load it and the plane would not take it: rules are .rego, data is .json"


def faults(files: Mapping[str, bytes]) -> list[Fault]:
    """All that is wrong with their form, by path and line."""
    found = list(_sizes(files))
    if found:
        return found
    texts: dict[str, str] = {}
    for path in sorted(files):
        place = in_place(path)
        if place is not None:
            found.append(Fault(path, 1, "place", place))
            continue
        told = list(_text(path, files[path]))
        found += told
        if not told:
            texts[path] = files[path].decode()
    found += _packages({path: text for path, text in texts.items() if path.endswith(".rego")})
    found += _documents({path: text for path, text in texts.items() if path.endswith((".json", ".schema"))})
    if not any(path.startswith("qcos/") for path in files):
        found.append(Fault("qcos", 1, "place", "no rules: they stand in qcos/PACKAGE/FILE.rego"))
    return sorted(found, key=lambda fault: (fault.path, fault.line))


def line_of(text: str, position: int) -> int:
    """The line in which a position stands, from 1."""
    return text.count("\n", 0, position) + 1


def _sizes(files: Mapping[str, bytes]) -> Iterator[Fault]:
    if len(files) > MOST_FILES:
        yield Fault(sorted(files)[MOST_FILES], 1, "size", f"{len(files)} files; a revision has at most {MOST_FILES}")
    for path in sorted(files):
        if len(files[path]) > LARGEST_FILE:
            yield Fault(path, 1, "size", f"{len(files[path])} bytes; a file has at most {LARGEST_FILE}")
    whole = sum(map(len, files.values()))
    if whole > LARGEST_SET:
        largest = max(files, key=lambda path: len(files[path]))
        yield Fault(largest, 1, "size", f"{whole} bytes in all files; a revision has at most {LARGEST_SET}")


def _text(path: str, content: bytes) -> Iterator[Fault]:
    if b"\0" in content:
        yield Fault(path, content.count(b"\n", 0, content.index(b"\0")) + 1, "encoding", "binary: it has a NUL byte")
        return
    if content.startswith(b"\xef\xbb\xbf"):
        yield Fault(path, 1, "encoding", "begins with a byte order mark; save it as UTF-8 without one")
        return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        yield Fault(path, line, "encoding", f"no UTF-8: byte 0x{content[error.start]:02x}")
        return
    if "\r" in text:
        yield Fault(path, line_of(text, text.index("\r")), "encoding", "a carriage return; lines end by \\n alone")


def _packages(modules: Mapping[str, str]) -> Iterator[Fault]:
    homes: dict[str, str] = {}
    for path, text in modules.items():
        folder = path.split("/")[1]
        wanted = f"qcos.{folder}_test" if path.endswith("_test.rego") else f"qcos.{folder}"
        stated = _PACKAGE.search(text)
        if stated is None:
            yield Fault(path, 1, "package", f"states no package; here it is {wanted}")
            continue
        name, line = stated.group(1), line_of(text, stated.start())
        if name == wanted:
            homes.setdefault(name, path)
        elif name in homes:
            yield Fault(path, line, "package", f"package {name} is that of {homes[name]} already; here it is {wanted}")
        else:
            yield Fault(path, line, "package", f"package {name} stands in another folder; here it is {wanted}")


def _documents(documents: Mapping[str, str]) -> Iterator[Fault]:
    held: dict[str, str] = {}
    for path, text in documents.items():
        try:
            value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            yield Fault(path, error.lineno, "json", f"{error.msg}, at column {error.colno}")
            continue
        except _TwiceError as error:
            yield Fault(path, _last_line(text, error.key), "json", f"the key {json.dumps(error.key)} stands twice")
            continue
        except RecursionError:
            yield Fault(path, 1, "json", f"nested deeper than {_DEEPEST}")
            continue
        except ValueError as error:
            yield Fault(path, 1, "json", str(error))
            continue
        if not isinstance(value, dict):
            yield Fault(path, 1, "json", "not an object")
        elif _depth(value) > _DEEPEST:
            yield Fault(path, 1, "json", f"nested deeper than {_DEEPEST}")
        elif path.startswith("data/"):
            for key in value:
                if key in held:
                    message = f"the key {json.dumps(key)} is that of {held[key]} already"
                    yield Fault(path, _last_line(text, key), "json", message)
                held.setdefault(key, path)


class _TwiceError(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, held in pairs:
        if key in value:
            raise _TwiceError(key)
        value[key] = held
    return value


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no number of JSON")


def _last_line(text: str, key: str) -> int:
    return line_of(text, max(0, text.rfind(json.dumps(key, ensure_ascii=False) + ":")))


def _depth(value: object) -> int:
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        deepest = max(deepest, depth)
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        waiting += [(part, depth + 1) for part in inner]
    return deepest
