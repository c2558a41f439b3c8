# SPDX-License-Identifier: Apache-2.0
"""What the columns of an invoice mean: a JSON file, so that a provider's format needs no code (G7).

Contract: a mapping names for each of our fields the column that has it (or several names of it, of which the first in
the file counts), and turns the provider's words for meters, units and kinds of line into ours. A word is a pattern as
shells have them (`*QuantumTask-Shot*`), compared without regard to case; the first that fits counts. Those that ship
lie beside this file. Pure.
"""

from __future__ import annotations

from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from finops import money
from finops.errors import AmountInvalid, InvoiceInvalid
from finops.facts import UNITS

MAX_BYTES: Final = 100_000
Kind: TypeAlias = Literal["usage", "credit", "refund", "discount", "tax", "other", "total"]
Numbers: TypeAlias = Literal["1234.56", "1,234.56", "1.234,56", "1 234,56", "1'234.56"]
"""How the file writes a number, by an example: what groups its digits, and what its decimals begin with."""
Field: TypeAlias = Literal[
    "vendor_id",
    "job_id",
    "device",
    "meter",
    "quantity",
    "unit",
    "amount",
    "currency",
    "start",
    "end",
    "kind",
    "user",
]
OTHER: Final = "other"
FIELDS: Final[tuple[str, ...]] = get_args(Field)
_Word = Annotated[str, Meta(min_length=1, max_length=200)]
_Column = Annotated[str, Meta(min_length=1, max_length=200)]
_Columns: TypeAlias = _Column | Annotated[tuple[_Column, ...], Meta(min_length=1, max_length=20)]


class Unit(Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's unit in one of ours: so many of ours make one of theirs."""

    word: _Word
    unit: _Word
    factor: str = "1"


class Meant(Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's word, and what it means here."""

    word: _Word
    means: _Word


class Only(Struct, frozen=True, forbid_unknown_fields=True):
    """Lines whose column has none of these words are of something else: told, and compared with nothing."""

    column: _Columns
    words: Annotated[tuple[_Word, ...], Meta(min_length=1)]


class Mapping(Struct, frozen=True, forbid_unknown_fields=True):
    """The mapping's JSON, version 1.

    `columns` has at least `amount` and `currency` (or `currency` is the code of the whole file); a column named in
    `optional` may be missing, and an empty cell of any column but the amount's says nothing. Times without a zone are
    UTC. A meter may mean `other`: a line of no job, as of a notebook's hours.
    """

    version: Literal[1]
    name: _Word
    columns: dict[Field, _Columns]
    provider: _Word | None = None
    currency: str | None = None
    optional: tuple[Field, ...] = ()
    dates: Literal["iso", "month-first", "day-first"] = "iso"
    numbers: Numbers = "1234.56"
    meters: tuple[Meant, ...] = ()
    units: tuple[Unit, ...] = ()
    kinds: tuple[Meant, ...] = ()
    devices: tuple[Meant, ...] = ()
    only: Only | None = None

    def named(self, field: str) -> tuple[str, ...]:
        """The names under which the field's column may stand in a file."""
        return several(self.columns.get(field, ()))  # type: ignore[call-overload]

    def meter(self, word: str) -> str | None:
        """Our meter for the provider's word; None where no pattern fits."""
        return _first(self.meters, word)

    def kind(self, word: str) -> str | None:
        """Our kind of line for the provider's word."""
        return _first(self.kinds, word)

    def device(self, word: str) -> str:
        """Our name of a device, or the provider's own."""
        return _first(self.devices, word) or word

    def unit(self, word: str) -> Unit | None:
        """Our unit for the provider's; None for an unknown one."""
        known = (one for one in self.units if fnmatchcase(word.lower(), one.word.lower()))
        return next(known, Unit(word, word) if word in UNITS.values() else None)


def several(columns: str | tuple[str, ...]) -> tuple[str, ...]:
    """One name or several, as several."""
    return (columns,) if isinstance(columns, str) else columns


def parse(data: bytes) -> Mapping:
    """Read and check a mapping; raises InvoiceInvalid with the path of the field at fault."""
    if len(data) > MAX_BYTES:
        raise InvoiceInvalid(f"larger than {MAX_BYTES} bytes", field="map")
    try:
        read = msgspec.json.decode(data, type=Mapping)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail, _, path = str(error).partition(" - at ")
        raise InvoiceInvalid(detail, field=f"map {path.strip('`')}".strip()) from error
    _check(read)
    return read


@cache
def shipped(name: str) -> Mapping:
    """One of the mappings that ship; raises InvoiceInvalid with their names for another."""
    if name not in names():
        raise InvoiceInvalid(f"no mapping {name}; there are {', '.join(names())}", field="map")
    return parse(resources.files("finops.invoices").joinpath(f"{name}.json").read_bytes())


@cache
def names() -> tuple[str, ...]:
    """The mappings that ship."""
    found = (one.name for one in resources.files("finops.invoices").iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in found if name.endswith(".json")))


def _check(read: Mapping) -> None:
    if "amount" not in read.columns:
        raise InvoiceInvalid("names no column of amounts", field="map $.columns")
    if "currency" not in read.columns and read.currency is None:
        raise InvoiceInvalid("names neither a column nor a code of the currency", field="map $.currency")
    for number, meant in enumerate(read.meters):
        if meant.means not in (*UNITS, OTHER):
            raise InvoiceInvalid(f"no such meter: {meant.means}", field=f"map $.meters[{number}]")
    for number, meant in enumerate(read.kinds):
        if meant.means not in get_args(Kind):
            raise InvoiceInvalid(f"want one of {', '.join(get_args(Kind))}", field=f"map $.kinds[{number}]")
    try:
        if read.currency is not None:
            money.iso_4217(read.currency, "map $.currency")
        for number, unit in enumerate(read.units):
            if money.parse(unit.factor, f"map $.units[{number}].factor") == Decimal(0):
                raise InvoiceInvalid("is zero", field=f"map $.units[{number}].factor")
            if unit.unit not in UNITS.values():
                raise InvoiceInvalid(f"no such unit: {unit.unit}", field=f"map $.units[{number}].unit")
    except AmountInvalid as error:
        raise InvoiceInvalid(error.detail, field=error.field) from error


def _first(words: tuple[Meant, ...], word: str) -> str | None:
    return next((one.means for one in words if fnmatchcase(word.lower(), one.word.lower())), None)
