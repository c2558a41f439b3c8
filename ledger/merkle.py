# SPDX-License-Identifier: Apache-2.0
"""The tree of RFC 6962 section 2.1: hashing, growing, proving and checking, and its cut into C2SP tiles.

Enters: leaf bytes, node hashes, a `HashReader` that yields stored nodes. Leaves: roots and proofs (lists of
32-byte hashes, lowest node first). A node (level, index) covers the 2^level leaves from index·2^level; only
complete nodes exist, and they never change once written: the right edge is computed. Proofs take O(log n)
reads. Verifiers return None or raise ProofInvalid. A consistency proof from size 0 proves nothing and is
refused. Pure: no I/O of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from ledger.errors import NotInLog, ProofInvalid

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
_sha256 = hashlib.sha256
EMPTY_ROOT = hashlib.sha256(b"").digest()

HashReader: TypeAlias = Callable[[int, int], bytes]
Node: TypeAlias = tuple[int, int, bytes]  # level, index, hash


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 ‖ leaf)."""
    return _sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return _sha256(b"\x01" + left + right).digest()


def fold(peaks: Sequence[bytes]) -> bytes:
    """The root over complete subtrees given from left (largest) to right."""
    if not peaks:
        return EMPTY_ROOT
    found = peaks[-1]
    for peak in reversed(peaks[:-1]):
        found = node_hash(peak, found)
    return found


def root(hashes: Iterable[bytes]) -> bytes:
    """The root of a tree with these leaf hashes."""
    edge = Edge()
    for found in hashes:
        edge.append(found)
    return edge.root()


class Edge:
    """The compact range [0, size): the peaks that the next leaf needs, one for each set bit of size."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ProofInvalid(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(peaks)}")
        self.size = size
        self.peaks = list(peaks)

    def copy(self) -> Edge:
        """An edge that grows apart from this one."""
        return Edge(self.size, self.peaks)

    def append(self, found: bytes) -> list[Node]:
        """Add a leaf hash; the nodes that it completes, leaf first."""
        made: list[Node] = [(0, self.size, found)]
        level, index = 0, self.size
        while index & 1:
            found = node_hash(self.peaks.pop(), found)
            level, index = level + 1, index >> 1
            made.append((level, index, found))
        self.peaks.append(found)
        self.size += 1
        return made

    def grow(self, found: bytes) -> None:
        """Add a leaf hash, for whoever doesn't ask which nodes it completes."""
        index, peaks = self.size, self.peaks
        while index & 1:
            found = _sha256(b"\x01" + peaks.pop() + found).digest()
            index >>= 1
        peaks.append(found)
        self.size += 1

    def root(self) -> bytes:
        """The root at this size."""
        return fold(self.peaks)


def peaks(size: int) -> list[tuple[int, int]]:
    """(level, index) of the complete subtrees of a tree, largest first."""
    found, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            found.append((level, start >> level))
            start += 1 << level
    return found


def read_edge(size: int, read: HashReader) -> Edge:
    """The edge of a stored tree."""
    return Edge(size, [read(level, index) for level, index in peaks(size)])


def _range(start: int, end: int, read: HashReader) -> bytes:
    """The hash of leaves [start, end) of a subtree that begins at `start`, from complete nodes."""
    found = []
    for level, index in peaks(end - start):
        found.append(read(level, (start >> level) + index))
    return fold(found)


def inclusion_proof(index: int, size: int, read: HashReader) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1."""
    if not 0 <= index < size:
        raise NotInLog(f"no entry {index} in a tree of {size}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if index < middle:
            path.append(_range(middle, end, read))
            end = middle
        else:
            path.append(_range(start, middle, read))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, read: HashReader) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; sizes are in leaves, 0 < old <= new."""
    if not 0 < old <= new:
        raise NotInLog(f"no consistency proof from size {old} to {new}")
    path, start, end, whole = [], 0, new, True
    while old != end:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if old <= middle:
            path.append(_range(middle, end, read))
            end = middle
        else:
            path.append(_range(start, middle, read))
            start, whole = middle, False
    if not whole:
        path.append(_range(start, end, read))
    return path[::-1]


def verify_inclusion(*, index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Raise ProofInvalid unless the path leads from the leaf *hash* at `index` to the root of `size` leaves.

    RFC 9162 section 2.1.3.2, with the length of the path checked first.
    """
    if not 0 <= index < size:
        raise ProofInvalid(f"no entry {index} in a tree of {size}")
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    _check_hashes(path, inner + border, leaf, root)
    found = _chain(leaf, path[:inner], index)
    for left in path[inner:]:
        found = node_hash(left, found)
    if found != root:
        raise ProofInvalid("the path leads to another root", expected=root, got=found)


def verify_consistency(*, old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    """Raise ProofInvalid unless the tree of `new` leaves begins with the tree of `old` leaves (RFC 9162
    2.1.4.2).
    """
    if not 0 < old <= new:
        raise ProofInvalid(f"no consistency from size {old} to {new}")
    if old == new:
        _check_hashes(path, 0)
        if old_root != new_root:
            raise ProofInvalid("two roots of one size", expected=old_root, got=new_root)
        return
    shift = (old & -old).bit_length() - 1
    inner = (old - 1 ^ new - 1).bit_length() - shift
    border = (old - 1 >> inner + shift).bit_count()
    # A power of two is a node of the new tree itself, so its proof leaves the seed out.
    whole = old == 1 << shift
    _check_hashes(path, inner + border + (0 if whole else 1), old_root, new_root)
    seed, rest = (old_root, path) if whole else (path[0], path[1:])
    mask = old - 1 >> shift
    older, newer = seed, _chain(seed, rest[:inner], mask)
    for level, sibling in enumerate(rest[:inner]):
        if mask >> level & 1:
            older = node_hash(sibling, older)
    for left in rest[inner:]:
        older, newer = node_hash(left, older), node_hash(left, newer)
    if older != old_root:
        raise ProofInvalid("the path leads to another old root", expected=old_root, got=older)
    if newer != new_root:
        raise ProofInvalid("the path leads to another new root", expected=new_root, got=newer)


def _chain(seed: bytes, path: Sequence[bytes], index: int) -> bytes:
    found = seed
    for level, sibling in enumerate(path):
        found = node_hash(sibling, found) if index >> level & 1 else node_hash(found, sibling)
    return found


def _check_hashes(path: Sequence[bytes], count: int, *others: bytes) -> None:
    if len(path) != count:
        raise ProofInvalid(f"a path of {len(path)} hashes where {count} are due")
    if any(len(found) != HASH_BYTES for found in (*path, *others)):
        raise ProofInvalid("a hash that is not 32 bytes long")


def tile_of(level: int, index: int) -> tuple[int, int, int]:
    """Where a complete node lies: (tile level, tile index, place of the node's first hash in the tile's row).

    A tile stores one row of up to 256 hashes, of every eighth level (C2SP tlog-tiles); nodes between are
    computed.
    """
    tile_level, within = divmod(level, TILE_HEIGHT)
    first = index << within
    return tile_level, first // TILE_WIDTH, first % TILE_WIDTH


def tile_reader(row: Callable[[int, int], bytes]) -> HashReader:
    """Read nodes from tiles; `row(tile level, tile index)` gives the joined hashes that the tile has."""

    def read(level: int, index: int) -> bytes:
        tile_level, tile_index, place = tile_of(level, index)
        count = 1 << level % TILE_HEIGHT
        data = row(tile_level, tile_index)[place * HASH_BYTES : (place + count) * HASH_BYTES]
        if len(data) != count * HASH_BYTES:
            raise NotInLog(f"tile {tile_level}/{tile_index} does not reach node {level}/{index}")
        hashes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        while len(hashes) > 1:
            hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
        return hashes[0]

    return read


def tiles_of_inclusion(index: int, size: int) -> set[tuple[int, int]]:
    """The (level, index) of every tile that `inclusion_proof` reads: what to fetch before proving."""
    return _tiles_read(lambda read: inclusion_proof(index, size, read))


def tiles_of_consistency(old: int, new: int) -> set[tuple[int, int]]:
    """The (level, index) of every tile that `consistency_proof` reads."""
    return _tiles_read(lambda read: consistency_proof(old, new, read))


def tiles_of_edge(size: int) -> set[tuple[int, int]]:
    """The (level, index) of every tile that `read_edge` reads."""
    return {tile_of(level, index)[:2] for level, index in peaks(size)}


def _tiles_read(prove: Callable[[HashReader], object]) -> set[tuple[int, int]]:
    seen: set[tuple[int, int]] = set()

    def read(level: int, index: int) -> bytes:
        seen.add(tile_of(level, index)[:2])
        return EMPTY_ROOT

    prove(read)
    return seen


def tile_sizes(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, index, width) of every tile of a tree, the last of a row partial when width < 256."""
    level, width = 0, size
    while width:
        full, rest = divmod(width, TILE_WIDTH)
        yield from ((level, index, TILE_WIDTH) for index in range(full))
        if rest:
            yield level, full, rest
        level, width = level + 1, full
