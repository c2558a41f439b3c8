# SPDX-License-Identifier: Apache-2.0
"""The tree against RFC 6962's vectors, and against the RFC's own recursive definition, written slowly (G5, I4)."""

from __future__ import annotations

import base64
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.errors import NotInLog, ProofInvalid

SIZES = st.integers(1, 600)


def leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(str(index).encode()) for index in range(size)]


def slow_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return sha256(b"\x01" + slow_root(hashes[:k]) + slow_root(hashes[k:])).digest()


def slow_path(m: int, hashes: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if m < k:
        return [*slow_path(m, hashes[:k]), slow_root(hashes[k:])]
    return [*slow_path(m - k, hashes[k:]), slow_root(hashes[:k])]


def slow_proof(m: int, hashes: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if m == len(hashes):
        return [] if whole else [slow_root(hashes)]
    k = split(len(hashes))
    if m <= k:
        return [*slow_proof(m, hashes[:k], whole=whole), slow_root(hashes[k:])]
    return [*slow_proof(m - k, hashes[k:], whole=False), slow_root(hashes[:k])]


def split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


class Tiles:
    """Tiles as a store keeps them, at some size."""

    def __init__(self, size: int) -> None:
        self.rows: dict[tuple[int, int], bytes] = {}
        edge = merkle.Edge()
        for found in leaves(size):
            for level, index, made in edge.append(found):
                if level % merkle.TILE_HEIGHT == 0:
                    tile_level, tile, place = merkle.tile_of(level, index)
                    row = self.rows.get((tile_level, tile), b"")
                    assert len(row) == place * 32  # hashes arrive in the order in which a tile keeps them
                    self.rows[tile_level, tile] = row + made
        self.read = merkle.tile_reader(lambda level, index: self.rows.get((level, index), b""))


@given(st.integers(0, 600))
def test_the_growing_edge_has_the_root_of_the_definition(size: int) -> None:
    assert merkle.root(leaves(size)) == slow_root(leaves(size))


@given(SIZES, st.data())
def test_inclusion_from_tiles_is_the_definitions_and_verifies(size: int, data: st.DataObject) -> None:
    index, later = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 300))
    tiles = Tiles(size + later)  # an older size is proved from the tiles of a larger log
    path = merkle.inclusion_proof(index, size, tiles.read)
    assert path == slow_path(index, leaves(size))
    merkle.verify_inclusion(index=index, size=size, leaf=leaves(size)[index], path=path, root=slow_root(leaves(size)))
    assert merkle.tiles_of_inclusion(index, size) <= tiles.rows.keys()


@given(SIZES, st.data())
def test_consistency_from_tiles_is_the_definitions_and_verifies(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    path = merkle.consistency_proof(old, new, Tiles(new).read)
    assert path == slow_proof(old, leaves(new))
    roots = {"old_root": slow_root(leaves(old)), "new_root": slow_root(leaves(new))}
    merkle.verify_consistency(old=old, new=new, path=path, **roots)


@given(st.integers(2, 300), st.data())
def test_no_changed_proof_verifies(size: int, data: st.DataObject) -> None:
    """I4: a bit, a hash more, a hash less, two swapped, another index or size."""
    hashes, index = leaves(size), data.draw(st.integers(0, size - 1))
    path, root = slow_path(index, hashes), slow_root(hashes)
    at = data.draw(st.integers(0, len(path) - 1))
    bent = [*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]]
    cases: list[tuple[int, int, list[bytes]]] = [
        (index, size, bent),
        (index, size, [*path, path[0]]),
        (index, size, path[:-1]),
        (index, size, [*path[:-1], path[-1][:31]]),
        (-1, size, path),
        (size, size, path),
    ]
    for wrong, of, given_path in cases:
        with pytest.raises(ProofInvalid):
            merkle.verify_inclusion(index=wrong, size=of, leaf=hashes[index], path=given_path, root=root)


@given(SIZES)
def test_the_edge_is_read_back_from_tiles(size: int) -> None:
    """I2: what a restarted sealer goes on from."""
    tiles = Tiles(size)
    edge = merkle.read_edge(size, tiles.read)
    assert (edge.size, edge.root()) == (size, slow_root(leaves(size)))
    assert merkle.tiles_of_edge(size) <= tiles.rows.keys()
    assert {(level, index): width * 32 for level, index, width in merkle.tile_sizes(size)} == {
        place: len(row) for place, row in tiles.rows.items()
    }


def test_growth_from_nothing_proves_nothing() -> None:
    """Facts: consistency with size1 = 0 must be refused."""
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(old=0, new=1, old_root=merkle.EMPTY_ROOT, new_root=leaves(1)[0], path=[])
    with pytest.raises(NotInLog):
        merkle.consistency_proof(0, 1, Tiles(1).read)
    with pytest.raises(ProofInvalid):
        merkle.Edge(3, leaves(1))
    with pytest.raises(NotInLog):
        merkle.inclusion_proof(0, 2, Tiles(1).read)


def vectors(name: str) -> list[Any]:
    folder = os.environ.get("QCOS_VECTORS")
    if not folder or not (Path(folder) / "rfc6962").is_dir():
        said = "QCOS_VECTORS names no folder that has rfc6962" if folder else "QCOS_VECTORS is not set"
        reason = f"{said}: the RFC 6962 vectors of transparency-dev/merkle"
        return [pytest.param(None, id="unset", marks=pytest.mark.skip(reason=reason))]
    lines = (Path(folder) / "rfc6962" / f"{name}.jsonl").read_text().splitlines()
    return [pytest.param(case, id=case["name"]) for case in map(json.loads, lines)]


def decoded(case: dict[str, Any], *names: str) -> list[bytes]:
    return [base64.b64decode(case[name] or "") for name in names]


@pytest.mark.parametrize("case", vectors("inclusion"))
def test_inclusion_vectors(case: dict[str, Any]) -> None:
    leaf, root = decoded(case, "leafHash", "root")
    path = [base64.b64decode(part) for part in case["proof"] or []]
    values = {"index": case["leafIdx"], "size": case["treeSize"], "leaf": leaf, "path": path, "root": root}
    if case["wantErr"]:
        with pytest.raises(ProofInvalid):
            merkle.verify_inclusion(**values)
    else:
        merkle.verify_inclusion(**values)


@pytest.mark.parametrize("case", vectors("consistency"))
def test_consistency_vectors(case: dict[str, Any]) -> None:
    old_root, new_root = decoded(case, "root1", "root2")
    path = [base64.b64decode(part) for part in case["proof"] or []]
    values = {"old": case["size1"], "new": case["size2"], "old_root": old_root, "new_root": new_root}
    if case["wantErr"] or case["size1"] == 0:
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(path=path, **values)
    else:
        merkle.verify_consistency(path=path, **values)
