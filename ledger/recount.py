# SPDX-License-Identifier: Apache-2.0
"""The measured result counted again: one circuit's, or each item's of a program, against what the job asked for.

Enters a parsed `Bundle` whose artefact `result` is carried. Leaves how many shots were counted, or EvidenceInvalid
saying which count doesn't agree. A program's items are circuit x parameter set x basis: unless the record is partial
every one is there, and with every shot. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise, product
from typing import Any

import msgspec

from ledger import canonical
from ledger.bundle import Bundle
from ledger.errors import EvidenceInvalid

MOST_ITEMS = 100_000  # no plane takes so many; a file could claim any number
_PAULI = re.compile(r"[IXYZ]+")


class _Block(msgspec.Struct, frozen=True):
    shots: int
    counts: dict[str, int]


class _Result(msgspec.Struct, frozen=True):
    counts: dict[str, int]
    blocks: list[_Block]
    shots: int


class _Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    item: int
    circuit: int
    parameters: int | None
    basis: str | None
    shots: int
    counts: dict[str, int]
    blocks: list[_Block]

    @property
    def place(self) -> tuple[int, int | None, str | None]:
        """Which of the program's items it is."""
        return self.circuit, self.parameters, self.basis


class _Program(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: list[_Item]
    shots: int


def recount(bundle: Bundle, content: bytes, spec: bytes | None) -> int:
    """The shots of the result; raises EvidenceInvalid unless every sum agrees."""
    value = canonical.loads(content, what="result")
    asked = _asked(spec)
    if isinstance(value, dict) and "items" in value:
        if asked is not None and not isinstance(asked.get("program"), dict):
            raise EvidenceInvalid("result: items of a job that asked for one circuit")
        counted = _program(bundle, _convert(value, _Program), asked["program"] if asked is not None else None)
    else:
        if asked is not None and isinstance(asked.get("program"), dict) and len(_product(asked["program"], None)) != 1:
            raise EvidenceInvalid("result: one circuit's counts for a program of several")
        result = _convert(value, _Result)
        counted = _counted(result.counts, result.blocks, result.shots, "the result's shots")
    _same(counted, bundle.execution_metadata.shots_executed, "shots_executed")
    return counted


def _program(bundle: Bundle, result: _Program, asked: dict[str, Any] | None) -> int:
    counted = 0
    for one in result.items:
        what = f"item {one.item}"
        counted += _counted(one.counts, one.blocks, one.shots, f"{what}: its shots")
        if one.shots > bundle.submission.shots:
            raise EvidenceInvalid(f"{what}: {one.shots} shots where {bundle.submission.shots} were asked for")
        if one.shots < bundle.submission.shots and bundle.partial is None:
            raise EvidenceInvalid(f"{what}: {one.shots} of {bundle.submission.shots} shots, and no reason in partial")
        letters = None if one.basis is None else len(one.basis.replace("I", ""))
        if letters is not None and any(len(bits) != letters or bits.strip("01") for bits in one.counts):
            raise EvidenceInvalid(f"{what}: an outcome that isn't one of basis {one.basis}")
    if any(later.item <= earlier.item for earlier, later in pairwise(result.items)):
        raise EvidenceInvalid("result: items whose numbers do not rise")
    if len({one.place for one in result.items}) < len(result.items):
        raise EvidenceInvalid("result: two items of one circuit, parameter set and basis")
    if asked is not None:
        _as_asked(bundle, result, asked)
    _same(counted, result.shots, "the result's shots against the sum of its items")
    return counted


def _as_asked(bundle: Bundle, result: _Program, asked: dict[str, Any]) -> None:
    bases = tuple(dict.fromkeys(one.basis for one in result.items))
    expected = _product(asked, bases)
    known = frozenset(expected)
    for one in result.items:
        if one.place not in known:
            raise EvidenceInvalid(f"item {one.item}: no such circuit, parameter set or basis was asked for")
    if bundle.partial is not None:
        return
    for number, (one, place) in enumerate(zip(result.items, expected, strict=False)):
        if one.item != number or one.place != place:
            raise EvidenceInvalid(f"item {one.item}: where {number} should be, and no reason in partial")
    if len(result.items) < len(expected):
        raise EvidenceInvalid(f"{len(result.items)} of {len(expected)} items, and no reason in partial")
    texts = asked.get("observables") or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise EvidenceInvalid("spec: observables that are no texts")
    for text in texts:
        for pauli in _PAULI.findall(re.sub(r"[0-9.]+[eE]?[+-]?[0-9]*", "", text)):
            if not any(_covers(basis, pauli) for basis in bases):
                raise EvidenceInvalid(f"{pauli} was measured in no basis, and no reason in partial")


def _product(asked: dict[str, Any], bases: tuple[str | None, ...] | None) -> tuple[tuple[Any, ...], ...]:
    """The items of the program in their order; the bases are those that were measured."""
    try:
        sets = tuple(range(len(asked.get("parameters") or ()))) or (None,)
        among = (bases or ("",)) if asked["kind"] == "estimator" else (None,)
        circuits = range(len(asked["circuits"]))
        if len(circuits) * len(sets) * len(among) > MOST_ITEMS:
            raise EvidenceInvalid(f"spec: a program of more than {MOST_ITEMS} items")
        found = tuple(product(circuits, sets, among))
    except (KeyError, TypeError) as error:
        raise EvidenceInvalid("spec: not a program") from error
    return found if asked["kind"] == "sampler" or bases is not None else (*found, ())


def _covers(basis: str | None, pauli: str) -> bool:
    if not pauli.strip("I"):
        return True
    return (
        basis is not None and len(basis) == len(pauli) and all(p in ("I", b) for b, p in zip(basis, pauli, strict=True))
    )


def _counted(counts: dict[str, int], blocks: list[_Block], shots: int, what: str) -> int:
    """Σ counts = Σ of each block = the shots."""
    total: Counter[str] = Counter()
    for block in blocks:
        _same(sum(block.counts.values()), block.shots, "the shots of a block")
        total.update(block.counts)
    counted = sum(counts.values())
    if min((0, *counts.values(), *(n for block in blocks for n in block.counts.values()))) < 0:
        raise EvidenceInvalid("a negative count")
    if blocks:
        _same(dict(+total), dict(+Counter(counts)), "the counts of the blocks")
    _same(counted, shots, what)
    return counted


def _asked(spec: bytes | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    try:
        value = msgspec.json.decode(spec)
    except (ValueError, RecursionError) as error:
        raise EvidenceInvalid("spec: not JSON") from error
    return value if isinstance(value, dict) else {}


def _convert(value: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise EvidenceInvalid(f"result: {error}") from error


def _same(got: object, want: object, what: str) -> None:
    if got != want:
        raise EvidenceInvalid(f"{what}: {got} is not {want}")
