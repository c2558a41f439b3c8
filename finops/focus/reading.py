# SPDX-License-Identifier: Apache-2.0
"""A FOCUS file of ours read back, CSV or Parquet: every line or none (G7).

Contract: enters a file's bytes; leaves its lines, with the texts and decimals that `recompute` holds against evidence.
A file that lacks a column of ours, a number that is none, NaN, 10^30: FocusRefused with line and field; line 1 is the
first after the heading. Pure.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from finops import money
from finops.errors import AmountInvalid
from finops.focus.columns import COLUMNS
from finops.focus.errors import FocusRefused, at
from finops.focus.recompute import AMOUNTS, PRODUCTS, QUANTITIES, RATES, FileLine

TEXTS: Final = (
    *("BillingCurrency", "PricingUnit", "ConsumedUnit", "SkuMeter", "x_Category", "x_JobId", "x_LedgerEntryId"),
    *("x_Source", "x_RateCard", "x_EvidenceBundleId", "x_Provider", "x_Backend", "x_Project", "x_CostCenter"),
    *("SubAccountId", "BillingPeriodStart", "x_ChargedAt"),
)
DECIMALS: Final = (*AMOUNTS, *PRODUCTS, *RATES, *QUANTITIES, "x_LedgerLine")
_NEEDED: Final = ("BilledCost", "x_LedgerLine")
_MAGIC: Final = b"PAR1"
_PLAIN: Final = re.compile(r"-?[0-9]{1,26}(\.[0-9]{1,12})?", re.ASCII)
_KNOWN: Final = frozenset(column.name for column in COLUMNS)


def lines(data: bytes) -> list[FileLine]:
    """The lines of a file; raises FocusRefused."""
    names, rows = _parquet(data) if data[:4] == _MAGIC else _csv(data)
    if lacking := [name for name in (*TEXTS, *DECIMALS) if name not in names]:
        raise FocusRefused(f"not a file of ours: it has no {lacking[0]}", field="heading")
    if unknown := [name for name in names if name not in _KNOWN] or len(names) != len(set(names)):
        raise FocusRefused(f"not a file of ours: {unknown}", field="heading")
    return [_line(number, row) for number, row in enumerate(rows, 1)]


def _csv(data: bytes) -> tuple[list[str], Iterable[dict[str, Any]]]:
    try:
        table = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FocusRefused(f"neither CSV nor Parquet: {error}", field="file") from error
    if not table:
        raise FocusRefused("empty: a month without charges has a heading", field="file")
    names = table[0]

    def rows() -> Iterator[dict[str, Any]]:
        for number, cells in enumerate(table[1:], 1):
            if len(cells) != len(names):
                raise at(number, "line", f"has {len(cells)} fields, not {len(names)}")
            yield dict(zip(names, cells, strict=True))

    return names, rows()


def _parquet(data: bytes) -> tuple[list[str], Iterable[dict[str, Any]]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = list(file.schema_arrow.names)
        wanted = [name for name in (*TEXTS, *DECIMALS) if name in names]
        rows: list[dict[str, Any]] = file.read(wanted).to_pylist() if len(wanted) == len(TEXTS) + len(DECIMALS) else []
    except (pa.ArrowException, OSError) as error:
        raise FocusRefused("a Parquet file that can't be read", field="file") from error
    return names, rows


def _line(number: int, row: dict[str, Any]) -> FileLine:
    texts = {name: str(row[name]) for name in TEXTS if row[name] not in {None, ""}}
    decimals = {name: _decimal(number, name, row[name]) for name in DECIMALS if row[name] not in {None, ""}}
    for name in ("BillingCurrency", "x_Category", "x_LedgerEntryId"):
        if name not in texts:
            raise at(number, name, "is empty")
    if texts["x_Category"] == "usage" and "x_JobId" not in texts:
        raise at(number, "x_JobId", "is empty")
    for name in _NEEDED:
        if name not in decimals:
            raise at(number, name, "is empty")
    if decimals["x_LedgerLine"] != int(decimals["x_LedgerLine"]):
        raise at(number, "x_LedgerLine", "is no whole number")
    return FileLine(number, texts, decimals)


def _decimal(number: int, name: str, value: object) -> Decimal:
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    if not _PLAIN.fullmatch(text):
        raise at(number, name, "want a plain decimal with at most 12 decimals")
    try:
        money.check(abs(Decimal(text)), name)
    except AmountInvalid as error:
        raise at(number, name, error.detail) from error
    return Decimal(text)
