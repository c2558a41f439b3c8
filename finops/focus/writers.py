# SPDX-License-Identifier: Apache-2.0
"""Lines become a file's bytes: CSV or Parquet, the same lines always the same bytes (G7).

Contract: a decimal in CSV has ten decimals, or as many as it needs, so that no reader takes a column for whole numbers;
a time is `YYYY-MM-DDTHH:MM:SSZ`; what is null is empty. Parquet has decimals, UTC times and texts as such, and says in
its metadata which FOCUS it has the shape of. A file without lines has its heading and is valid. Nothing else of the
moment or the machine is in a file. Pure but for the sink.
"""

import hashlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from finops import money
from finops.focus import shape
from finops.focus.columns import FORMATS
from finops.focus.errors import FocusRefused
from finops.focus.rows import GROUP
from finops.focus.shape import Parties

SHAPE: Final = b"focus_version"
MEDIA: Final = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_AT_ONCE: Final = 1 << 13  # a line of CSV is some thousand bytes
_ZERO: Final = f"0E-{money.DECIMALS}"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Sink(Protocol):
    """What takes bytes, in order."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


def write(sink: Sink, raws: Iterable[pa.Table], version: str, format_: str, parties: Parties) -> int:
    """Write the file of these rows (`rows.tables`) and return how many lines it has; raises FocusRefused."""
    if format_ not in FORMATS:
        raise FocusRefused(f"no format {format_[:16]}; there are {', '.join(FORMATS)}", field="format")
    schema = shape.schema(version)
    lines = (shape.lines(raw, version, parties) for raw in raws)
    return _csv(sink, schema, lines) if format_ == "csv" else _parquet(sink, schema, lines, version)


def digest(raws: Iterable[pa.Table], version: str, format_: str, parties: Parties) -> tuple[str, int]:
    """`sha256:…` of the file of these rows, and how many lines it has: what a month's statement says of its file."""
    hashed = Hashed()
    count = write(hashed, raws, version, format_, parties)
    return hashed.digest, count


class _Open:
    """A sink as Arrow wants one."""

    closed = False

    def __init__(self, sink: Sink) -> None:
        self.write = sink.write

    def flush(self) -> None:
        """Nothing is kept here."""


class Hashed:
    """A sink that keeps nothing but the hash of what it was given."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        """Take the next bytes."""
        self._hash.update(data)
        return len(data)

    @property
    def digest(self) -> str:
        """`sha256:…` of all that was written."""
        return "sha256:" + self._hash.hexdigest()


def _csv(sink: Sink, schema: pa.Schema, tables: Iterator[pa.Table]) -> int:
    sink.write((",".join(schema.names) + "\n").encode())
    count = 0
    for table in tables:
        for begin in range(0, table.num_rows, _AT_ONCE):
            part = table.slice(begin, _AT_ONCE)
            cells = [_cells(shape.one(part[name])) for name in schema.names]
            ended = [*cells[:-1], pc.binary_join_element_wise(cells[-1], "\n", "")]
            sink.write(_bytes(pc.binary_join_element_wise(*ended, ",")))
        count += table.num_rows
    return count


def _parquet(sink: Sink, schema: pa.Schema, tables: Iterator[pa.Table], version: str) -> int:
    words = [field.name for field in schema if field.name not in shape.UNIQUE]
    told = schema.with_metadata({SHAPE: version})
    count = 0
    with pq.ParquetWriter(
        pa.PythonFile(_Open(sink), mode="w"), told, compression="zstd", compression_level=1, use_dictionary=words
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=GROUP)
            count += table.num_rows
    return count


def _cells(column: Any) -> Any:
    """A column as CSV has it, a null as nothing; Arrow's writer knows one scale of decimals and quotes every text."""
    kind = column.type
    if pa.types.is_string(kind):
        return pc.fill_null(_quoted(column), "")
    # Few values are many lines': each is told once, then set out.
    coded = column if pa.types.is_dictionary(kind) else pc.dictionary_encode(column)
    values = coded.dictionary
    if pa.types.is_timestamp(kind):
        texts = pc.strftime(values, _TIME)
    elif pa.types.is_decimal(kind):
        texts = pc.replace_substring_regex(_plain(pc.cast(values, pa.string())), r"(\.[0-9]{10})00?$", r"\1")
    elif pa.types.is_dictionary(kind):
        texts = _quoted(values)
    else:
        texts = pc.cast(values, pa.string())
    return pc.fill_null(texts.take(coded.indices), "")


def _plain(texts: Any) -> Any:
    """Decimals as Arrow tells them, but for those below a millionth, and 0, which it tells with an exponent."""
    texts = pc.if_else(pc.equal(texts, _ZERO), f"{Decimal(_ZERO):f}", texts)
    tiny = pc.fill_null(pc.match_substring(texts, "E"), False)
    if not pc.any(tiny).as_py():
        return texts
    told = [f"{Decimal(text):f}" for text in texts.filter(tiny).to_pylist()]
    return pc.replace_with_mask(texts, tiny, pa.array(told, pa.string()))


def _quoted(texts: Any) -> Any:
    """Texts as RFC 4180 has them: in quotes where they must be, and where they are empty and yet not null."""
    special = pc.match_substring_regex(texts, r'^$|[,"\r\n]')
    if not pc.any(special).as_py():
        return texts
    doubled = pc.replace_substring(texts, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), texts)


def _bytes(texts: Any) -> bytes:
    """All texts one after the other, which is how Arrow keeps them."""
    if not len(texts):
        return b""
    ends = texts.cast(pa.large_string())
    _, offsets, data = ends.buffers()
    places = memoryview(offsets).cast("q")
    return bytes(memoryview(data)[places[ends.offset] : places[ends.offset + len(ends)]])
