# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: RFC 8785 on a restricted domain, so that the same value always has the same bytes.

Enters: null, bool, int with |n| <= 2^53-1, str of valid Unicode, list or tuple, dict with ASCII keys. Leaves:
UTF-8 bytes. Floats are outside the domain (RFC 8785 section 3.2.2.3 is where implementations differ):
decimals travel as strings. ASCII keys make UTF-16 order (section 3.2.3) equal to byte order, which is what
the encoder sorts by. `loads` refuses bytes that are not equal to the canonical form of what they mean, so no
two byte strings mean the same. Also here, because every hashed text uses them: the one way to write a time
and a hash. Pure: no clock, no I/O.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec

from ledger.errors import NotCanonical

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64  # far above any record of ours, far below what exhausts the stack

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_HASH = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else ord(" ") for byte in range(256))
_LONG_DIGITS = b"0" * 16  # in the text with each digit written 0: a fifth of what a regular expression takes


def _refuse_float(text: str) -> NoReturn:
    raise NotCanonical(f"a number with fraction or exponent: {text[:40]}")


_ALWAYS = frozenset({str, bool, type(None)})  # types whose every value lies in the domain, but for lone surrogates
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(float_hook=_refuse_float).decode


def check_domain(value: object, *, depth: int = 0) -> None:
    """Raise NotCanonical unless `value` lies in the domain."""
    kind = type(value)
    if kind in _ALWAYS:
        return
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]
            raise NotCanonical("an integer beyond 2^53-1")
        return
    if depth >= MAX_DEPTH:
        raise NotCanonical(f"nested deeper than {MAX_DEPTH}")
    # Most values are texts: no call for each, which is half of the walk's time.
    if isinstance(value, dict):
        for key, inner in value.items():
            if type(key) is not str or not key.isascii():
                raise NotCanonical(f"a key that is not ASCII text: {key!r:.40}")
            if type(inner) not in _ALWAYS:
                check_domain(inner, depth=depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            if type(inner) not in _ALWAYS:
                check_domain(inner, depth=depth + 1)
    else:
        raise NotCanonical(f"a value of type {kind.__name__}")


def dumps(value: object) -> bytes:
    """The canonical bytes of a value; NotCanonical outside the domain (lone surrogates included)."""
    check_domain(value)
    try:
        return _encode(value)
    except UnicodeEncodeError as error:
        raise NotCanonical("text with a lone surrogate") from error


def loads(data: bytes, *, what: str) -> Any:
    """The value of canonical bytes; anything but the canonical form of a value is refused, naming `what`."""
    try:
        value = _decode(data)
        same = _encode(value) == data
    except NotCanonical as error:
        raise NotCanonical(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:  # msgspec's DecodeError and UnicodeError are ValueErrors
        raise NotCanonical(f"{what}: not JSON in UTF-8") from error
    if not same:
        raise NotCanonical(f"{what}: not in canonical form")
    # All-ASCII text without a long run of digits has no bad key and no big integer: the usual record skips
    # the walk.
    if not data.isascii() or _LONG_DIGITS in data.translate(_DIGITS) or data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        try:
            check_domain(value)
        except NotCanonical as error:
            raise NotCanonical(f"{what}: {error}") from error
    return value


def dumps_closed(struct: msgspec.Struct, keys: Iterable[str]) -> bytes:
    """The canonical bytes of a struct that a decoder read; `keys` are those of its maps.

    Its types MUST hold no float, no integer beyond 2^53-1 and nothing nested without bound: then keys and lone
    surrogates, which the encoder refuses, are all that could lie outside the domain.
    """
    for key in keys:
        if not key.isascii():
            raise NotCanonical(f"a key that is not ASCII text: {key!r:.40}")
    try:
        return _encode(struct)
    except UnicodeEncodeError as error:
        raise NotCanonical("text with a lone surrogate") from error


def sha256(data: bytes) -> str:
    """`sha256:` and 64 lower-case hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_hash(text: object) -> bool:
    """Whether `text` has the form that `sha256` writes."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


def timestamp(at: datetime) -> str:
    """An aware time as UTC `YYYY-MM-DDTHH:MM:SS.mmmZ`, cut (not rounded) to the millisecond."""
    if at.tzinfo is None:
        raise NotCanonical("a time without a zone")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_time(text: object) -> datetime:
    """The time that `timestamp` wrote; any other spelling of a time is refused."""
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise NotCanonical(f"not a time in UTC with milliseconds: {text!r:.40}")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise NotCanonical(f"no such time: {text}") from error
