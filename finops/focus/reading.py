# SPDX-License-Identifier: Apache-2.0
"""A FOCUS file of ours read back, CSV or Parquet: every line or none (G7).

Contract: enters a file's bytes; leaves its version and a table of that version's columns, with the types that `shape`
gives them. Rows and columns may stand in another order, lines end as they like, a byte order mark is no matter, and an
empty text is none. A column too few or too many, a number that is none, NaN, 10^30, a time that isn't UTC as FOCUS
writes it: FocusRefused with line and field; line 1 is the first after the heading. Pure.
"""

import csv
import io
from collections.abc import Sequence
from mmap import mmap
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from finops import money
from finops.focus import columns, shape
from finops.focus.columns import VERSIONS, Version
from finops.focus.errors import FocusRefused, at

Mapped: TypeAlias = bytes | mmap
NEEDED: Final = ("BilledCost", "BillingCurrency", "BillingPeriodStart", "x_Category", "x_ChargedAt")
PLACE: Final = ("x_LedgerEntryId", "x_LedgerLine")
_MAGIC: Final = b"PAR1"
_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_MOST: Final = pa.scalar(money.CEILING, pa.decimal128(38, money.DECIMALS))
# What a text of each kind must look like, and how that is said.
_FORMS: Final = {
    "decimal": (r"^-?[0-9]{1,26}(\.[0-9]{1,12})?$", "want a plain decimal with at most 12 decimals"),
    "time": (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$", "want YYYY-MM-DDTHH:MM:SSZ"),
    "moment": (
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z$",
        "want YYYY-MM-DDTHH:MM:SS.mmmZ",
    ),
    "integer": (r"^[0-9]{1,18}$", "want a whole number"),
}


def table(data: Mapped) -> tuple[Version, pa.Table]:
    """The version and the lines of a file; raises FocusRefused."""
    names, read = _parquet(data) if data[:4] == _MAGIC else _csv(data)
    version = _version(names)
    wanted = columns.of(version)
    found = pa.table(
        [_typed(column, read[column.name]) for column in wanted],
        schema=shape.schema(version),
    )
    for name in (*NEEDED, *PLACE):
        if found[name].null_count:
            raise at(_first(pc.is_null(found[name])), name, "is empty")
    if pc.any(
        nobodys := pc.and_(pc.equal(shape.plain(found["x_Category"]), "usage"), pc.is_null(found["x_JobId"]))
    ).as_py():
        raise at(_first(nobodys), "x_JobId", "is empty")
    return version, found


def _version(names: Sequence[str]) -> Version:
    """Which version has these columns."""
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise FocusRefused(f"not a file of ours: {doubled[0][:64]!r} is there twice", field="heading")
    version: Version = "1.2" if "ProviderName" in names or "ServiceProviderName" not in names else VERSIONS[-1]
    wanted = [column.name for column in columns.of(version)]
    if lacking := [name for name in wanted if name not in names]:
        raise FocusRefused(f"not a file of ours: it has no {lacking[0]}", field="heading")
    if unknown := [name for name in names if name not in wanted]:
        raise FocusRefused(
            f"not a file of ours: {unknown[0][:64]!r} is no column of its FOCUS {version}", field="heading"
        )
    return version


def _csv(data: Mapped) -> tuple[list[str], Any]:
    try:
        names = next(csv.reader(io.StringIO(data[: 1 << 16].split(b"\n", 1)[0].decode("utf-8-sig")), strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise FocusRefused(f"neither CSV nor Parquet: {error}", field="file") from error
    if not names:
        raise FocusRefused("empty: a month without charges has a heading", field="file")
    for mark, spoken in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and mark in names[0]:
            raise FocusRefused(f"its columns are parted by {spoken}, want commas", field="heading")
    _version(names)
    faults: list[Any] = []

    def fault(row: Any) -> str:
        faults.append(row)
        return "skip"

    try:
        read = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=8 << 20),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=fault),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() if name in shape.UNIQUE else _WORD for name in names},
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise FocusRefused(f"neither CSV nor Parquet: {str(error).splitlines()[0][:200]}", field="file") from error
    if faults:
        row = faults[0]
        raise at((row.number or 1) - 1, "line", f"has {row.actual_columns} fields, not {row.expected_columns}")
    return names, read.unify_dictionaries().combine_chunks()


def _parquet(data: Mapped) -> tuple[list[str], Any]:
    try:
        read = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise FocusRefused("a Parquet file that can't be read: cut off, or damaged", field="file") from error
    return list(read.schema.names), read.unify_dictionaries().combine_chunks()


def _typed(column: columns.Column, read: Any) -> Any:
    """The column as its version types it."""
    wanted = shape.kind(column)
    values = shape.one(read)
    words = pa.types.is_dictionary(values.type)
    if column.kind == "text":
        texts = _told(column, shape.plain(values), pa.string())
        found = _encoded(pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts), wanted)
    elif words and pa.types.is_string(values.type.value_type):
        found = _parsed(column, values, wanted)
    else:
        found = _told(column, shape.plain(values), wanted)
    if column.kind == "decimal" and pc.any(large := pc.greater_equal(pc.abs(found), _MOST)).as_py():
        raise at(_first(large), column.name, "is 10^15 or more")
    return found


def _told(column: columns.Column, values: Any, wanted: pa.DataType) -> Any:
    """Values that have a type already: taken where nothing is lost."""
    if column.kind == "decimal" and pa.types.is_floating(values.type):
        raise FocusRefused(f"is {values.type}, which is not exact; want a decimal", field=column.name)
    try:
        return pc.cast(values, wanted)
    except pa.ArrowException as error:
        raise FocusRefused(f"is {values.type}, want {wanted}", field=column.name) from error


def _parsed(column: columns.Column, words: Any, wanted: pa.DataType) -> Any:
    """Texts of a CSV file, each of them read once."""
    pattern, want = _FORMS[column.kind]
    texts = words.dictionary
    right = pc.match_substring_regex(texts, pattern)
    try:
        values = pc.cast(pc.if_else(right, texts, pa.scalar(None, pa.string())), wanted)
    except pa.ArrowException:  # of the right form, and no moment there is
        values = pa.array([_one(text, wanted) for text in texts.to_pylist()], wanted)
    found = values.take(words.indices)
    if pc.any(bad := pc.and_(pc.is_null(found), pc.is_valid(words.indices))).as_py():
        raise at(_first(bad), column.name, want)
    return found


def _one(text: str, wanted: pa.DataType) -> Any:
    try:
        return pc.cast(pa.scalar(text), wanted).as_py()
    except pa.ArrowException:
        return None


def _encoded(texts: Any, wanted: pa.DataType) -> Any:
    return pc.dictionary_encode(texts) if pa.types.is_dictionary(wanted) else texts


def _first(which: Any) -> int:
    """The number of the first line of which it is true."""
    place: int = pc.index(which, True).as_py()
    return place + 1
