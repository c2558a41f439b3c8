# SPDX-License-Identifier: Apache-2.0
"""An invoice's file as rows of text: CSV (RFC 4180) or a JSON list of objects (G7).

Contract: UTF-8, with or without a byte order mark, or UTF-16 with one; each row has the line of the file on which it
begins (in JSON the number of the object). Cells are parted by the one of `,` `;` `|` and tab that parts the header
into most; a row without any text is none. A header that names a column twice, a row with more or fewer cells than the
header, a quote that never ends, a NUL, a number that is none: refused by line. A JSON number is kept by its own digits:
nothing becomes a float; what is nested is kept as its JSON text. A cell that begins like a spreadsheet's formula is
text here as any other; what writes it out again makes it harmless.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from finops.errors import InvoiceInvalid

MAX_BYTES: Final = 16 << 20
MAX_LINES: Final = 200_000
MAX_CELL: Final = 10_000
_SEPARATORS: Final = ",;|\t"
Format: TypeAlias = Literal["csv", "json", "focus"]
Cells: TypeAlias = Mapping[str, str]
Row: TypeAlias = tuple[int, Cells]


def rows(data: bytes, form: Format) -> Iterator[Row]:
    """Line and cells of each row, in order; raises InvoiceInvalid."""
    if len(data) > MAX_BYTES:
        raise InvoiceInvalid(f"the file has {len(data)} bytes, and at most {MAX_BYTES} are read")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvoiceInvalid(f"is not {'UTF-16' if wide else 'UTF-8'}", field=f"line {line}") from None
    if (at := text.find("\x00")) >= 0:
        raise InvoiceInvalid("holds a NUL", field=f"line {text[:at].count(chr(10)) + 1}")
    if not text.strip():
        raise InvoiceInvalid("the file is empty")
    is_list = text.lstrip()[:1] in "[{"
    return _objects(text) if form == "json" or (form == "focus" and is_list) else _cells(text)


def _cells(text: str) -> Iterator[Row]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
        header = next(reader)
        _check_header(header)
        # A quoted cell may hold line breaks: a row begins after the last line of the one before.
        line = reader.line_num + 1
        for row in reader:
            told = any(cell.strip() for cell in row)
            if told and len(row) != len(header):
                raise InvoiceInvalid(f"has {len(row)} cells, the header {len(header)}", field=f"line {line}")
            if told:
                yield line, _checked(line, dict(zip(header, row, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvoiceInvalid(f"is no CSV: {error}", field=f"line {reader.line_num}") from None


def _separator(text: str) -> str:
    """What parts the header into most cells; a comma where several do."""

    def cells(separator: str) -> int:
        return len(next(csv.reader(io.StringIO(text[: MAX_CELL * 100], newline=""), delimiter=separator), ()))

    return max(_SEPARATORS, key=cells)


def _check_header(header: list[str]) -> None:
    names = [name.strip() for name in header]
    if header != names or not all(names):
        raise InvoiceInvalid("a column has no name, or spaces around it", field="line 1")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvoiceInvalid("the header names this column twice", field=f"line 1, {name}")
        seen.add(name)


def _checked(line: int, row: dict[str, str]) -> dict[str, str]:
    for name, cell in row.items():
        if len(cell) > MAX_CELL:
            raise InvoiceInvalid(f"has more than {MAX_CELL} characters", field=f"line {line}, {name}")
    if line > MAX_LINES:
        raise InvoiceInvalid(f"more than {MAX_LINES} lines", field=f"line {line}")
    return row


def _objects(text: str) -> Iterator[Row]:
    try:
        read = json.loads(text, object_pairs_hook=_once, parse_float=str, parse_int=str, parse_constant=_NoNumber)
    except json.JSONDecodeError as error:
        raise InvoiceInvalid(f"is no JSON: {error.msg}", field=f"line {error.lineno}") from None
    except RecursionError:
        raise InvoiceInvalid("is nested too deeply") from None
    if not isinstance(read, list) or not all(isinstance(one, dict) for one in read):
        raise InvoiceInvalid("want a list of objects, one a line of the invoice")
    for number, row in enumerate(read, 1):
        yield number, _checked(number, {name: _text(number, name, cell) for name, cell in row.items()})


class _NoNumber(str):
    """NaN or Infinity, which are no JSON."""

    __slots__ = ()


def _text(number: int, name: str, cell: Any) -> str:
    match cell:
        case None:
            return ""
        case _NoNumber():
            raise InvoiceInvalid(f"{cell} is no number", field=f"line {number}, {name}")
        case str():
            return cell
        case bool():
            return "true" if cell else "false"
        case _:  # tags, as some tools nest them
            return json.dumps(cell, ensure_ascii=False)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvoiceInvalid("an object names this twice", field=twice)
    return found
