# SPDX-License-Identifier: Apache-2.0
"""CBOR, as much of it as a COSE_Sign1 has, in its one deterministic form (RFC 8949 section 4.2.1).

Enters: bytes, or integers, byte strings, text, lists, maps and tags. Leaves the other. What another reader could read
otherwise is refused: heads that aren't the shortest, lengths without end, keys twice or out of order, anything after
the item. Not here: floats, simple values, whatever an envelope has no use for. Written by hand because the verifier
that works without a plane reads it too, and must not read it differently. Pure.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from ledger.errors import NotCanonical

MAX_DEPTH = 8
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)


class Tag(Struct, frozen=True):
    """A tagged item."""

    number: int
    item: Item


Key: TypeAlias = int | bytes | str
Item: TypeAlias = "int | bytes | str | list[Item] | dict[Key, Item] | Tag"


def encode(item: Item) -> bytes:
    """The bytes of an item; integers MUST fit 64 bits."""
    match item:
        case int():
            return _head(_UNSIGNED, item) if item >= 0 else _head(_NEGATIVE, -1 - item)
        case bytes():
            return _head(_BYTES, len(item)) + item
        case str():
            data = item.encode()
            return _head(_TEXT, len(data)) + data
        case list():
            return _head(_ARRAY, len(item)) + b"".join(encode(one) for one in item)
        case dict():
            members = sorted((encode(key), encode(one)) for key, one in item.items())
            return _head(_MAP, len(item)) + b"".join(key + one for key, one in members)
        case Tag():
            return _head(_TAG, item.number) + encode(item.item)


def decode(data: bytes) -> Item:
    """The one item that these bytes are; NotCanonical for anything but what `encode` writes."""
    reader = _Reader(data)
    try:
        item = reader.item(0)
    except UnicodeDecodeError as error:
        raise NotCanonical("CBOR: text that is not UTF-8") from error
    if reader.at != len(data):
        raise NotCanonical(f"CBOR: {len(data) - reader.at} bytes after the item")
    return item


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major << 5 | argument,))
    for code, octets in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * octets:
            return bytes((major << 5 | code,)) + argument.to_bytes(octets, "big")
    raise NotCanonical("CBOR: a number beyond 64 bits")


class _Reader:
    """Reads from one place on; what a length promises must be there before anything is taken by it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def item(self, depth: int) -> Item:
        if depth > MAX_DEPTH:
            raise NotCanonical(f"CBOR: nested deeper than {MAX_DEPTH}")
        major, argument = self._argument()
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major in (_BYTES, _TEXT):
            data = self._take(argument)
            return data if major == _BYTES else data.decode()
        if major == _TAG:
            return Tag(argument, self.item(depth + 1))
        if argument > len(self.data) - self.at:  # an item is a byte at least
            raise NotCanonical("CBOR: cut short")
        if major == _ARRAY:
            return [self.item(depth + 1) for _ in range(argument)]
        return self._map(argument, depth)

    def _map(self, count: int, depth: int) -> dict[Key, Item]:
        members: dict[Key, Item] = {}
        before = b""
        for _ in range(count):
            start = self.at
            key = self.item(depth + 1)
            written = self.data[start : self.at]
            if not isinstance(key, int | bytes | str):
                raise NotCanonical("CBOR: a key that is neither a number nor a string")
            if written <= before:
                raise NotCanonical("CBOR: a key twice, or out of order")
            before = written
            members[key] = self.item(depth + 1)
        return members

    def _argument(self) -> tuple[int, int]:
        first = self._take(1)[0]
        major, low = first >> 5, first & 31
        if major > _TAG:
            raise NotCanonical("CBOR: a float or simple value")
        if low < 24:
            return major, low
        if low > 27:
            raise NotCanonical("CBOR: a length without end, or a reserved one")
        octets = 1 << low - 24
        argument = int.from_bytes(self._take(octets), "big")
        if argument < (24 if octets == 1 else 1 << 4 * octets):
            raise NotCanonical("CBOR: a head that is not the shortest")
        return major, argument

    def _take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise NotCanonical("CBOR: cut short")
        self.at += count
        return self.data[self.at - count : self.at]
