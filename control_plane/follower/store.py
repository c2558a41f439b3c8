# SPDX-License-Identifier: Apache-2.0
"""What a follower keeps: one SQLite file, each step of catching up one transaction, so that a kill loses none of it.

`entry` has what was fetched in its order: of the whole log by index, of a tenant by the tenant's own number. Entries up
to `verified` are proven to lie under the note `head`; those after it are staged: fetched, judged with the next head.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, place INTEGER NOT NULL, leaf BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS record (number INTEGER, position INTEGER, pending BLOB NOT NULL,
    PRIMARY KEY (number, position));
"""


class Kept(Struct, frozen=True):
    """An entry: its number among those that are followed, its place in the log, its leaf, the records it folds."""

    number: int
    place: int
    leaf: bytes
    records: tuple[bytes, ...]


class Store:
    """The follower's file."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def value(self, name: str) -> bytes | None:
        """What is kept under a name."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def number(self, name: str) -> int:
        """The same as a number; 0 where there is none."""
        return int(self.value(name) or b"0")

    def put(self, values: dict[str, bytes]) -> None:
        """Keep all of them, or none."""
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def stage(self, entries: Sequence[Kept]) -> None:
        """Keep a page of entries."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO entry VALUES (?, ?, ?)", [(one.number, one.place, one.leaf) for one in entries]
            )
            self._db.executemany(
                "INSERT INTO record VALUES (?, ?, ?)",
                [(one.number, at, row) for one in entries for at, row in enumerate(one.records)],
            )

    def drop_from(self, number: int) -> None:
        """Forget staged entries from this one on: they are not those of the log."""
        with self._transaction():
            self._db.execute("DELETE FROM entry WHERE number >= ?", (number,))
            self._db.execute("DELETE FROM record WHERE number >= ?", (number,))

    def count(self) -> int:
        """How many entries are kept, staged ones too."""
        found: int = self._db.execute("SELECT coalesce(max(number) + 1, 0) FROM entry").fetchone()[0]
        return found

    def entries(self, start: int, below_place: int) -> Iterator[Kept]:
        """Entries from a number on that lie below a place of the log, in order."""
        rows = self._db.execute(
            "SELECT number, place, leaf FROM entry WHERE number >= ? AND place < ? ORDER BY number",
            (start, below_place),
        )
        for number, place, leaf in rows:
            kept = self._db.execute("SELECT pending FROM record WHERE number = ? ORDER BY position", (number,))
            yield Kept(number, place, bytes(leaf), tuple(bytes(row[0]) for row in kept))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind is not None else "COMMIT")
