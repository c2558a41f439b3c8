# SPDX-License-Identifier: Apache-2.0
"""Request bodies, read strictly: bytes and a decoder enter, a struct leaves, or `Invalid` that names the fields.

What two readers could read differently is refused before it is decoded, because policy, hash and evidence must speak of
the document that its writer meant (I6, N13). Pure. Not here: what a request may ask for.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from control_plane.errors import Refused

MAX_NESTING = 32
MAX_VALUES = 300_000
"""Brackets and commas in a body: the largest job spec that fits two megabytes has fewer."""
MAX_FAULTS = 20
_MAX_SHOWN = 256
_HARMLESS = frozenset({int, bool, type(None)})
_TOO_DEEP = f"nested deeper than {MAX_NESTING}"

T = TypeVar("T")
Reason = Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
"""Why somebody decided so: kept in the ledger."""
_AT = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)
_FIELD = re.compile(r"(unknown|missing required) field `(?P<name>[^`]*)`")


class Invalid(Refused):
    """A body that isn't what was wanted; `errors` lists {field, message}."""

    def __init__(self, faults: list[tuple[str, str]], *, code: str = "malformed_json") -> None:
        """Keep one row a fault: a field is a dotted path from the document's root, or empty for the whole."""
        # What the caller wrote is quoted, but an answer isn't longer for a longer mistake.
        faults = [(field[:_MAX_SHOWN], message[:_MAX_SHOWN]) for field, message in faults[:MAX_FAULTS]]
        detail = "; ".join(f"{field}: {message}" if field else message for field, message in faults)
        rows = tuple({"field": field, "message": message} for field, message in faults)
        super().__init__(code, detail, errors=rows)


def decode(body: bytes, decoder: msgspec.json.Decoder[T], *, code: str) -> T:
    """The struct in a JSON body; raises `Invalid` with `malformed_json`, or with `code` where a field is wrong."""
    _refuse_ambiguous(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid([_fault(str(error))], code=code) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid([("", str(error))]) from None


def want_json(content_type: str) -> None:
    """Refuse a body that its own header calls something else than JSON in UTF-8 (RFC 8259, section 8.1)."""
    kind, *rest = (part.strip() for part in content_type.split(";"))
    if kind.lower() != "application/json":
        raise Refused(
            "unsupported_media_type", f"wanted application/json, got {kind.lower() or 'no content type'}"[:200]
        )
    for parameter in rest:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            raise Refused("unsupported_media_type", f"wanted UTF-8, got {parameter}"[:200])


def _fault(message: str) -> tuple[str, str]:
    found = _AT.search(message)
    path = found["path"].lstrip(".") if found else ""
    detail = message[: found.start()] if found else message
    named = _FIELD.search(detail)
    if named:
        path = f"{path}.{named['name']}" if path else named["name"]
    return path.replace("[...]", "[]"), detail


def _refuse_ambiguous(body: bytes) -> None:
    """Refuse what two readers could read differently, by field, and nesting that no request needs.

    That is: a name twice, NaN and Infinity, numbers beyond a double, half a surrogate pair.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise Invalid([("", f"more than {MAX_VALUES} values")])
    try:
        # Whole numbers are left to the decoder, which names the field of one that is too large; int() would refuse
        # thousands of digits without saying where.
        document = json.loads(body.decode(), object_pairs_hook=tuple, parse_int=len, parse_constant=float)
    except UnicodeDecodeError:
        raise Invalid([("", "not UTF-8")]) from None
    except RecursionError:
        raise Invalid([("", _TOO_DEEP)]) from None
    except ValueError as error:
        raise Invalid([("", str(error))]) from None
    faults: list[tuple[str, str]] = []
    _ambiguous(document, "", 0, faults)
    if faults:
        raise Invalid(faults)


def _ambiguous(value: Any, path: str, depth: int, faults: list[tuple[str, str]]) -> None:
    """Add the ambiguous places of parsed JSON, in which an object is a tuple of its members as they were written."""
    # One call a container and a path only where it is needed: a body may hold hundreds of thousands of values.
    kind = type(value)
    if kind is float and not math.isfinite(value):
        faults.append((path, f"{value} is not a finite number"))
    elif kind is str and not _is_text(value):
        faults.append((path, "holds half a surrogate pair"))
    elif kind not in (list, tuple):
        return
    elif depth == MAX_NESTING:
        faults.append((path, _TOO_DEEP))
    elif kind is list:
        for index, item in enumerate(value):
            if type(item) not in _HARMLESS:
                _ambiguous(item, f"{path}[{index}]", depth + 1, faults)
            if len(faults) >= MAX_FAULTS:
                return
    else:
        _members(value, path, depth, faults)


def _members(members: tuple[tuple[str, Any], ...], path: str, depth: int, faults: list[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for key, item in members:
        if not _is_text(key):
            faults.append((path, "a key holds half a surrogate pair"))
            continue
        where = f"{path}.{key}" if path else key
        if key in seen:
            faults.append((where, "appears twice"))
        seen.add(key)
        _ambiguous(item, where, depth + 1, faults)
        if len(faults) >= MAX_FAULTS:
            return


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
