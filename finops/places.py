# SPDX-License-Identifier: Apache-2.0
"""JSON with its lines: where each value of a file stands, so that a fault can name it.

Enters: text. Leaves: the value as plain objects, the line of each path (`$.prices[0].lines[2].rate`), and each member
that stands twice in its object, which other readers take silently. Raises `NoJson` with the line for what isn't JSON:
NaN and Infinity are none. A number with a fraction or an exponent stays a float. Pure.
"""

import json
import re
from typing import Any, Final

from msgspec import Struct

DEEPEST: Final = 64
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*+"')
_WORDS: Final = {"true": True, "false": False, "null": None}


class NoJson(Exception):
    """The text is no JSON: where, and what is wrong."""

    def __init__(self, detail: str, line: int) -> None:
        super().__init__(detail)
        self.detail, self.line = detail, line


class Placed(Struct, frozen=True):
    """A value and where its parts stand; `twice` are the paths of members that an object has more than once."""

    value: Any
    lines: dict[str, int]
    twice: tuple[str, ...]

    def line(self, path: str) -> int:
        """The line of a path, or of the nearest part around it that the file has."""
        while path not in self.lines and path != "$":
            path = path[: max(path.rfind("."), path.rfind("["))]
        return self.lines.get(path, 1)


def placed(data: bytes) -> Placed:
    """Read JSON in UTF-8; raises NoJson."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NoJson("not UTF-8", data[: error.start].count(b"\n") + 1) from error
    if text.startswith("\ufeff"):
        raise NoJson("begins with a byte order mark: save it as UTF-8 without one", 1)
    if not text.strip():
        raise NoJson("is empty", 1)
    reader = _Reader(text)
    value, end = reader.value(0, "$", 0)
    if (end := reader.space(end)) != len(text):
        raise reader.fault("something follows the document", end)
    return Placed(value, reader.lines, tuple(reader.twice))


class _Reader:
    """One walk over a text; each method takes a position and returns what it read and where that ends."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: dict[str, int] = {}
        self.twice: list[str] = []
        self._at, self._line = 0, 1

    def fault(self, detail: str, at: int) -> NoJson:
        return NoJson(detail, self.text.count("\n", 0, at) + 1)

    def space(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        return found.end() if found else at

    def value(self, at: int, path: str, depth: int) -> tuple[Any, int]:
        at = self.space(at)
        self._line += self.text.count("\n", self._at, at)
        self._at = at
        self.lines[path] = self._line
        if depth > DEEPEST:
            raise self.fault(f"nested deeper than {DEEPEST}", at)
        match self.text[at : at + 1]:
            case "{":
                return self._object(at + 1, path, depth)
            case "[":
                return self._array(at + 1, path, depth)
            case '"':
                return self._string(at)
        for word, meant in _WORDS.items():
            if self.text.startswith(word, at):
                return meant, at + len(word)
        found = _NUMBER.match(self.text, at)
        if found is None:
            raise self.fault("want a JSON value", at)
        if found[1] or found[2]:
            return float(found[0]), found.end()
        if len(found[0]) > 40:  # a count of anything fits; converting longer ones takes time for nothing
            raise self.fault("a number of more than 40 digits", at)
        return int(found[0]), found.end()

    def _string(self, at: int) -> tuple[str, int]:
        found = _STRING.match(self.text, at)
        if found is None:
            raise self.fault("want a text in double quotes", at)
        if "\\" not in found[0]:
            return found[0][1:-1], found.end()
        try:
            read = str(json.loads(found[0]))
            read.encode()
        except UnicodeEncodeError as error:
            raise self.fault("a text with half of a surrogate pair", at) from error
        except ValueError as error:
            raise self.fault("a text with a wrong escape", at) from error
        return read, found.end()

    def _object(self, at: int, path: str, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = self.space(at)
        if self.text[at : at + 1] == "}":
            return found, at + 1
        while True:
            name, at = self._string(self.space(at))
            if name in found:
                self.twice.append(f"{path}.{name}")
            at = self.space(at)
            if self.text[at : at + 1] != ":":
                raise self.fault("want a colon after a name", at)
            found[name], at = self.value(at + 1, f"{path}.{name}", depth + 1)
            at = self.space(at)
            match self.text[at : at + 1]:
                case ",":
                    at += 1
                case "}":
                    return found, at + 1
                case _:
                    raise self.fault("want a comma or a closing brace", at)

    def _array(self, at: int, path: str, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = self.space(at)
        if self.text[at : at + 1] == "]":
            return found, at + 1
        while True:
            one, at = self.value(at, f"{path}[{len(found)}]", depth + 1)
            found.append(one)
            at = self.space(at)
            match self.text[at : at + 1]:
                case ",":
                    at += 1
                case "]":
                    return found, at + 1
                case _:
                    raise self.fault("want a comma or a closing bracket", at)
