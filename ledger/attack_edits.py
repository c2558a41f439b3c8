# SPDX-License-Identifier: Apache-2.0
"""Attacks that need no key: each value and bit changed, parts stripped, added, cut, re-ordered, spelled otherwise.

Enters: the bundle's bytes and tree. Leaves: changed copies, each with its place. No copy is told from another by
anything but what was changed. What repairs the record's own hashes after a change is here too, since anybody can do
that: only signatures and the log then stand against it. Not here: attacks with keys (`ledger.attack_forge`), the
verdict (`ledger.attack`). Pure; chance enters as an argument.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import timedelta
from hashlib import sha256
from itertools import accumulate
from random import Random
from typing import Any, TypeVar

from ledger.attack_shape import (
    OPEN,
    Place,
    binary,
    branches,
    closed,
    found,
    leaves,
    members,
    put,
    spelled,
    without,
    written,
)
from ledger.canonical import parse_time, timestamp
from ledger.errors import LedgerError

Copy = tuple[str, bytes]  # where it was changed, and the file

_HASH = re.compile(r"(sha256:)?[0-9a-f]{64}")
_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_ADDED: tuple[tuple[str, Any], ...] = (
    ("verified", True),
    ("x", None),
    ("public_key", "MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
)


_T = TypeVar("_T")


class Pick:
    """At most so many of a class's places: all of them, or a sample that the seed decides."""

    def __init__(self, seed: str, most: int) -> None:
        self._chance = Random(seed)  # noqa: S311 - a sample, no secret
        self._most = most

    def __call__(self, items: Sequence[_T], *, each: int = 1) -> list[_T]:
        """The places to change, where one makes `each` copies; a sample is in no order, so that any part is one."""
        most = max(1, self._most // each)
        if len(items) <= most:
            return list(items)
        return [items[at] for at in self._chance.sample(range(len(items)), most)]

    def byte(self) -> bytes:
        """A byte."""
        return bytes([self._chance.randrange(256)])


def bits(data: bytes, pick: Pick) -> Iterator[Copy]:
    """Single bits of the file: every one, or a sample of all."""
    for bit in pick(range(len(data) * 8)):
        copy = bytearray(data)
        copy[bit >> 3] ^= 1 << (bit & 7)
        yield f"byte {bit >> 3}, bit {bit & 7}", bytes(copy)


def octets(data: bytes, pick: Pick) -> Iterator[Copy]:
    """Bytes dropped, doubled, put in, swapped with the next."""
    for at in pick(range(len(data)), each=4):
        for what, copy in (
            ("dropped", data[:at] + data[at + 1 :]),
            ("doubled", data[: at + 1] + data[at:]),
            ("put in", data[:at] + pick.byte() + data[at:]),
            ("swapped", data[:at] + data[at : at + 2][::-1] + data[at + 2 :]),
        ):
            yield f"byte {at} {what}", copy


def hidden_bits(tree: Any, pick: Pick) -> Iterator[Copy]:
    """Single bits of what lies in base64 (signatures, tokens, hashes, the entry), written in its one form again."""
    parts = [(at, data) for at, value in leaves(tree, inside=False) if at[0] != "contents" and (data := binary(value))]
    note = found(tree, ("proof", "checkpoint"))
    parts += [(("proof", "checkpoint", number), data) for number, data in enumerate(_note_parts(note))]
    ends = list(accumulate(len(data) * 8 for _, data in parts))
    for place in pick(range(ends[-1])):
        part = bisect_right(ends, place)
        at, data = parts[part]
        bit = place - (ends[part - 1] if part else 0)
        copy = bytearray(data)
        copy[bit >> 3] ^= 1 << (bit & 7)
        yield f"{spelled(at)}, bit {bit}", written(_rewritten(tree, at, bytes(copy)))


def values(tree: Any, pick: Pick, *, inside: bool) -> Iterator[Copy]:
    """Every leaf value replaced in several ways; `inside` those within artefacts and the entry, and no others."""
    for at, value in pick([leaf for leaf in leaves(tree, inside=inside) if (OPEN in leaf[0]) == inside], each=8):
        for other in _others(value):
            yield f"{spelled(at)} = {other!r:.40}", written(put(tree, at, other))


def repaired(tree: Any, pick: Pick) -> Iterator[Copy]:
    """Every value within an artefact changed, and the record's hashes, sizes and sums made to agree with it."""
    within = [leaf for leaf in leaves(tree, inside=True) if leaf[0][0] == "contents" and leaf[0].count(OPEN) == 1]
    for at, value in pick(within, each=2):
        for other in _others(value)[:2]:
            copy = with_hashes(put(tree, at, other), str(at[1]))
            yield f"{spelled(at)} = {other!r:.40}, hashes repaired", written(copy)


def with_hashes(tree: Any, name: str) -> Any:
    """The tree whose record names the carried bytes of an artefact, as an attacker without keys can write it."""
    data = binary(tree["contents"][name]) or b""
    digest = "sha256:" + sha256(data).hexdigest()
    for number, part in enumerate(tree.get("artefacts", ())):
        if part.get("name") == name:
            tree = put(tree, ("artefacts", number), part | {"sha256": digest, "size": len(data)})
    field = {"spec": "input_hash", "result": "output_hash"}.get(name)
    if field:
        tree = put(tree, (field,), digest)
    if name == "rate_card" and tree.get("cost"):
        tree = put(tree, ("cost", "rate_card"), digest)
    return tree


def stripped(tree: Any, pick: Pick) -> Iterator[Copy]:
    """Every member and element left out, nulled or emptied; the proofs also together and with their level."""
    places = list(members(tree))
    near = [one for one in places if len(one[0]) <= 2]
    for place, value in near + pick([one for one in places if len(one[0]) > 2], each=3):
        yield f"{spelled(place)} left out", written(without(tree, place))
        if value is not None:
            yield f"{spelled(place)} = null", written(put(tree, place, None))
        if value and isinstance(value, (dict, list, str)):
            yield f"{spelled(place)} emptied", written(put(tree, place, type(value)()))
    for names in (
        ("signatures", "proof"),
        ("signatures", "proof", "contents"),
        ("signatures", "evidence_level"),
        ("input_hash", "output_hash", "artefacts"),
        ("history", "route", "provenance", "gaps"),
    ):
        rest = {name: value for name, value in tree.items() if name not in names}
        yield f"{', '.join(names)} left out", written(rest)
        yield f"{', '.join(names)} = null", written(tree | dict.fromkeys(names))


def downgraded(tree: Any) -> Iterator[Copy]:
    """Another level claimed, with the signatures and tokens that such a level has."""
    signed = tree.get("signatures") or {}
    stamps = signed.get("timestamp_authority") or []
    forms: dict[str, dict[str, Any]] = {
        "as they are": signed,
        "without ECDSA": signed | {"ecdsa_p256_signature": None},
        "without ML-DSA": signed | {"qcos_signature": None},
        "without signatures": signed | {"ecdsa_p256_signature": None, "qcos_signature": None},
        "without tokens": signed | {"timestamp_authority": []},
        "with half the tokens": signed | {"timestamp_authority": stamps[: len(stamps) // 2]},
        "with nothing": {"ecdsa_p256_signature": None, "qcos_signature": None, "timestamp_authority": []},
    }
    for level in ("full", "standard", "sealed", "none", "FULL", ""):
        for what, form in forms.items():
            copy = tree | {"evidence_level": level, "signatures": form}
            if copy != tree:
                yield f"evidence_level = {level!r}, {what}", written(copy)


def added(tree: Any, trust: Any, pick: Pick) -> Iterator[Copy]:
    """An unknown member in every object, an element more in every list, and the trust material carried inside."""
    for at, branch in pick(list(branches(tree)), each=3):
        if isinstance(branch, dict):
            for name, value in _ADDED:
                yield f"{spelled((*at, name))} added", written(put(tree, (*at, name), value))
        elif branch:
            for where, copy in (("first", [branch[0], *branch]), ("last", [*branch, branch[-1]])):
                yield f"{spelled(at)}: its {where} doubled", written(put(tree, at, copy))
    for name in ("trust", "keys", "log", "evidence", "tsa", "certificates", "verdict", "revoked"):
        value = trust.get(name, trust) if isinstance(trust, dict) else trust
        yield f"{name} beside the evidence", written(tree | {name: value})
        yield f"{name} among the signatures", written(put(tree, ("signatures", name), value))
        yield f"{name} in the proof", written(put(tree, ("proof", name), value))
        if "contents" in tree:
            yield f"{name} among the contents", written(put(tree, ("contents", name), closed(value)))


def cut(tree: Any, data: bytes, pick: Pick) -> Iterator[Copy]:
    """Tails and heads of every list, of the entry, the note, the proofs, of the file itself."""
    for at, branch in pick([one for one in branches(tree) if isinstance(one[1], list) and one[1]], each=4):
        for keep in sorted({0, 1, len(branch) // 2, len(branch) - 1} - {len(branch)}):
            yield f"{spelled(at)} cut to {keep}", written(put(tree, at, branch[:keep]))
        yield f"{spelled(at)} without its first", written(put(tree, at, branch[1:]))
    for at, value in pick(list(leaves(tree, inside=False)), each=4):
        inner = binary(value)
        if inner and len(inner) > 1:
            yield f"{spelled(at)} without its last byte", written(put(tree, at, closed(inner[:-1])))
            yield f"{spelled(at)} without its first byte", written(put(tree, at, closed(inner[1:])))
            yield f"{spelled(at)} half", written(put(tree, at, closed(inner[: len(inner) // 2])))
            yield f"{spelled(at)} and a byte more", written(put(tree, at, closed(inner + b"\0")))
    note = found(tree, ("proof", "checkpoint"))
    lines = note.split("\n")
    for number in range(len(lines)):
        yield (
            f"proof.checkpoint without line {number + 1}",
            written(put(tree, ("proof", "checkpoint"), "\n".join(lines[:number] + lines[number + 1 :]))),
        )
    for parts in range(1, 64):
        yield f"the file cut after {len(data) * parts // 64} bytes", data[: len(data) * parts // 64]
    yield "the file without its last byte", data[:-1]


def reordered(tree: Any, pick: Pick) -> Iterator[Copy]:
    """Every list reversed, and its neighbours swapped."""
    lists = [one for one in branches(tree) if isinstance(one[1], list) and len(one[1]) > 1]
    for at, branch in pick(lists, each=8):
        yield f"{spelled(at)} reversed", written(put(tree, at, branch[::-1]))
        for number in range(min(len(branch) - 1, 16)):
            copy = [*branch[:number], *branch[number : number + 2][::-1], *branch[number + 2 :]]
            yield f"{spelled(at)}: {number} and {number + 1} swapped", written(put(tree, at, copy))


def renamed(tree: Any) -> Iterator[Copy]:
    """Another profile, plane, tenant, job or person, in the record alone or wherever the name stands."""
    names: list[tuple[Place, tuple[str, ...]]] = [
        (("scope", "profile"), ("dev", "saas", "dedicated", "onprem", "airgapped")),
        (("scope", "plane"), ("prod", "plane", "PLANE-1")),
        (("scope", "tenant"), ("other", "_plane", "")),
        (("job_id",), ("qcos-job-another",)),
        (("bundle_id",), ("00000000-0000-4000-8000-000000000000",)),
        (("governance_record", "actor"), ("user:somebody@else",)),
        (("governance_record", "project"), ("another",)),
        (("state",), ("COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN")),
        (("month",), ("2001-01", "2099-12")),
    ]
    for at, others in names:
        if at[0] not in tree:
            continue
        before = found(tree, at)
        for other in others:
            if other != before:
                yield f"{spelled(at)} = {other!r}", written(put(tree, at, other))
                yield f"{spelled(at)} = {other!r} everywhere", written(_everywhere(tree, str(before), other))
    note = found(tree, ("proof", "checkpoint"))
    origin = note.partition("\n")[0]
    for other in (origin + "2", "another.example/log", origin.upper()):
        yield f"the log called {other}", written(put(tree, ("proof", "checkpoint"), note.replace(origin, other)))


def redated(tree: Any, pick: Pick) -> Iterator[Copy]:
    """Each time moved, all times moved alike, and dates put beside the evidence that nobody signed."""
    times = [(at, value) for at, value in leaves(tree, inside=True) if _time(value) is not None]
    for at, value in pick(times, each=8):
        for seconds in (-31_536_000, -86_400, -3600, -1, 1, 3600, 86_400, 31_536_000):
            yield f"{spelled(at)} moved by {seconds} s", written(put(tree, at, _moved(value, seconds)))
    for seconds in (-315_360_000, -86_400, -60, 60, 86_400):
        moved = tree
        for at, value in times:
            if OPEN not in at:
                moved = put(moved, at, _moved(value, seconds))
        yield f"all times moved by {seconds} s", written(moved)
        for at, value in times:
            if at[:2] == ("proof", "leaf"):
                moved = put(moved, at, _moved(value, seconds))
        yield f"all times and the entry's moved by {seconds} s", written(moved)
    for name in ("signed_at", "timestamp", "issued_at", "time", "valid_until"):
        yield f"{name} beside the evidence", written(tree | {name: "2001-01-01T00:00:00.000Z"})
    undated = put(tree, ("signatures", "timestamp_authority"), [])
    yield "no tokens, a date instead", written(put(undated, ("signatures", "signed_at"), "2001-01-01T00:00:00.000Z"))
    stamps = found(tree, ("signatures", "timestamp_authority"))
    for number, stamp in enumerate(stamps):
        der = binary(stamp["token"]) or b""
        for match in re.finditer(rb"20[0-9]{12}Z", der):
            for year in (b"2001", b"2099"):
                copy = der[: match.start()] + year + der[match.start() + 4 :]
                yield (
                    f"the date at {match.start()} in token {number} = {year.decode()}",
                    written(put(tree, ("signatures", "timestamp_authority", number, "token"), closed(copy))),
                )
        for other in ("self", "external"):
            if other != stamp["operator"]:
                yield (
                    f"token {number} called {other}",
                    written(put(tree, ("signatures", "timestamp_authority", number, "operator"), other)),
                )
    if stamps:
        alike = [stamp | {"token": stamps[0]["token"]} for stamp in stamps]
        if alike != stamps:
            yield "one token for all", written(put(tree, ("signatures", "timestamp_authority"), alike))


def _others(value: Any) -> list[Any]:
    """Values to put in a leaf's place: near ones first."""
    if isinstance(value, bool):
        return [not value, int(value), None, "true"]
    if isinstance(value, int):
        return [value + 1, value - 1, -value or 7, str(value), None, 2**53]
    if value is None:
        return ["x", 0, False, [], {}]
    if not isinstance(value, str):
        return [None]
    near: list[Any] = []
    if _HASH.fullmatch(value):
        near = [value[:-1] + ("0" if value[-1] != "0" else "1"), value[:-64] + "0" * 64, value.upper()]
    elif _time(value) is not None:
        near = [_moved(value, -60), _moved(value, 60)]
    elif _AMOUNT.fullmatch(value):
        near = [_next_digit(value), value + ("0" if "." in value else ".0"), "-" + value]
    elif (data := binary(value)) is not None and len(value) >= 16:
        near = [closed(bytes([data[0] ^ 1]) + data[1:]), closed(data[:-1] + bytes([data[-1] ^ 128]))]
    near += [value[:-1] + ("b" if value[-1:] != "b" else "c"), value.swapcase(), value + "x", " " + value, "", None, 0]
    return [other for other in near if other != value]


def _next_digit(text: str) -> str:
    return text[:-1] + str((int(text[-1]) + 1) % 10)


def _time(value: object) -> str | None:
    if not isinstance(value, str) or len(value) != 24:
        return None
    try:
        parse_time(value)
    except LedgerError:
        return None
    return value


def _moved(text: str, seconds: int) -> str:
    try:
        return timestamp(parse_time(text) + timedelta(seconds=seconds))
    except OverflowError:
        return "0001-01-01T00:00:00.000Z"


def _everywhere(tree: Any, before: str, after: str) -> Any:
    for at, value in list(leaves(tree, inside=True)):
        if value == before:
            tree = put(tree, at, after)
    return tree


def _note_parts(note: str) -> list[bytes]:
    """The root and each signature of a checkpoint, as bytes."""
    return [binary(line.rpartition(" ")[2]) or b"" for line in note.split("\n")[2:]]


def _rewritten(tree: Any, at: Place, data: bytes) -> Any:
    if at[:2] != ("proof", "checkpoint") or len(at) < 3:
        return put(tree, at, closed(data))
    lines = tree["proof"]["checkpoint"].split("\n")
    number = 2 + int(at[2])
    before, space, _ = lines[number].rpartition(" ")
    lines[number] = before + space + closed(data)
    return put(tree, at[:2], "\n".join(lines))
