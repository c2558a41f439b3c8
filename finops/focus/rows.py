# SPDX-License-Identifier: Apache-2.0
"""The charged lines of a selection: one query, copied out as CSV, and that read into Arrow tables of one size (G7).

Contract: the lines come in the order of (charged_at, entry_id, line), each with its job's bundle and queue time, its
entry's index where that is sealed, and of a correction or refund the month in which the job's use counts. The tables
have `GROUP` rows each, the last one fewer, so that what is written of them does not depend on how the database cut its
answer. Whoever runs the query has set the tenant; row-level security does the rest.
"""

import io
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv

from finops import money
from finops.focus.selection import Selection
from finops.focus.shape import RAW, RAW_SCHEMA

GROUP: Final = 1 << 15
_BLOCK: Final = 4 << 20


def query(tenant: str, selection: Selection) -> tuple[str, dict[str, object]]:
    """The statement that copies the lines out, and its values."""
    values = {name: getattr(selection, name) for name in _WANTED}
    wanted = "".join(f" AND {clause}" for name, clause in _WANTED.items() if values[name] is not None)
    return _COPY.format(wanted=wanted), {"tenant": tenant, **values}


def tables(pieces: Iterator[bytes]) -> Iterator[pa.Table]:
    """The lines in these pieces of CSV."""
    reader = _reader(pieces)
    if reader is None:
        return
    kept: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        kept.append(batch)
        rows += batch.num_rows
        while rows >= GROUP:
            whole = pa.Table.from_batches(kept, RAW_SCHEMA)
            yield whole.slice(0, GROUP).unify_dictionaries()
            kept, rows = whole.slice(GROUP).to_batches(), rows - GROUP
    if rows:
        yield pa.Table.from_batches(kept, RAW_SCHEMA).unify_dictionaries()


def _reader(pieces: Iterator[bytes]) -> Any:
    source = _Joined(pieces)
    if not source.peek():
        return None  # Arrow takes a CSV of no bytes for a fault
    return pyarrow.csv.open_csv(
        source,
        read_options=pyarrow.csv.ReadOptions(column_names=list(RAW), block_size=_BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=RAW_SCHEMA, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


class _Joined(io.RawIOBase):
    """Pieces read as a file: exactly as many bytes as asked for, so that blocks are cut alike each time."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._kept = bytearray()

    def peek(self) -> bool:
        self._fill(1)
        return bool(self._kept)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._fill(size)
        size = len(self._kept) if size < 0 else size
        found = bytes(self._kept[:size])
        del self._kept[:size]
        return found

    def _fill(self, size: int) -> None:
        while size < 0 or len(self._kept) < size:
            piece = next(self._pieces, None)
            if piece is None:
                return
            self._kept += piece


_WANTED: Final = {
    "month": "c.month = %(month)s",
    "since": "c.charged_at >= %(since)s",
    "until": "c.charged_at < %(until)s",
    "project": "c.project = %(project)s",
}
_SHOWN: Final = {
    "product": f"CASE WHEN c.category = 'usage' THEN round(c.quantity * c.rate, {money.DECIMALS}) END",
    "bundle_id": "j.bundle_id",
    "queue_s": "ceil(j.queue_s::numeric * 1000000) / 1000000",
    "index": 'e."index"',
    "corrects": """CASE WHEN c.category IN ('correction', 'refund') THEN (
            SELECT u.month FROM finops.charge AS u
            WHERE u.tenant = c.tenant AND u.job_id = c.job_id AND u.category = 'usage'
            ORDER BY u.charged_at, u.entry_id, u.line LIMIT 1) END""",
}
_COPY: Final = f"""
    COPY (
        SELECT {", ".join(_SHOWN.get(name, f"c.{name}") for name in RAW)}
        FROM finops.charge AS c
        LEFT JOIN jobs.job AS j ON j.tenant = c.tenant AND j.job_id = c.job_id
        LEFT JOIN ledger.entry AS e ON e.entry_id = c.entry_id
        WHERE c.tenant = %(tenant)s{{wanted}}
        ORDER BY c.charged_at, c.entry_id, c.line
    ) TO STDOUT (FORMAT csv)
"""
