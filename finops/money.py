# SPDX-License-Identifier: Apache-2.0
"""Amounts: exact decimals with a currency, and the one text form of each.

Contract: what enters is a `Decimal` or a plain decimal string; NaN, infinities, negatives, exponents in text,
more than 12 decimals and 10^15 or more are refused with the field named. What leaves is exact: arithmetic in
`exact()` raises rather than rounds, and `text` writes equal amounts as equal strings (no exponent, no
trailing zeros). No conversion between currencies exists here: a rate of exchange would be a price, with a
source and a date. Pure: no clock, randomness, socket or database.
"""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from decimal import (
    ROUND_CEILING,
    Clamped,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)

from msgspec import Struct

from finops.errors import AmountInvalid

DECIMALS = 12
CEILING = Decimal(10) ** 15
ZERO = Decimal(0)

_PLAIN = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
# ISO 4217, list one as of 2026-01-01: what is legal tender or a unit of account somewhere, and BGN, which was before.
# Kept here and by no package: what a plane refuses must not change with one's release, and a code that was once written
# has to stay. Minor units are not wanted: amounts are exact, and rounded as their rate card says.
_ISO_4217 = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD
    HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD
    MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR
    RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH
    UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XAG XAU XCD XCG XDR XOF XPD XPF XPT YER ZAR ZMW ZWG
"""
CURRENCIES = frozenset(_ISO_4217.split())
# 15 + 12 digits times 15 + 12 digits fit into 54; Inexact is trapped: a lost digit is an error.
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow, Clamped])


class Money(Struct, frozen=True):
    """An amount and its ISO 4217 currency."""

    amount: Decimal
    currency: str


def exact() -> AbstractContextManager[Context]:
    """Decimal arithmetic that raises `decimal.Inexact` instead of rounding."""
    return localcontext(_EXACT)


def parse(value: object, field: str) -> Decimal:
    """Read a non-negative amount from its plain text ("0.52"); raises AmountInvalid."""
    if isinstance(value, str) and value.startswith("-") and _PLAIN.fullmatch(value[1:]):
        raise AmountInvalid("is negative", field=field)
    if not isinstance(value, str) or not _PLAIN.fullmatch(value):
        raise AmountInvalid(f"want a plain decimal below 10^15 with at most {DECIMALS} decimals, as text", field=field)
    return Decimal(value)


def check(value: Decimal, field: str) -> Decimal:
    """Return a finite value that is not negative, below 10^15, with at most 12 decimals; or AmountInvalid."""
    if not value.is_finite():
        raise AmountInvalid("want a finite decimal", field=field)
    if value < 0:
        raise AmountInvalid("is negative", field=field)
    if value >= CEILING:
        raise AmountInvalid("is 10^15 or more", field=field)
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMALS and value != value.quantize(Decimal(1).scaleb(-DECIMALS)):
        raise AmountInvalid(f"has more than {DECIMALS} decimals", field=field)
    return value


def measured(value: Decimal | float, field: str) -> Decimal:
    """A measured quantity; a float (clocks give them) is rounded up to 10^-6, so that a bound stays one."""
    if isinstance(value, bool):
        raise AmountInvalid("want a number", field=field)
    if isinstance(value, float):
        read = Decimal(repr(value))
        if not read.is_finite() or abs(read) >= CEILING:
            raise AmountInvalid("want a finite number below 10^15", field=field)
        value = read.quantize(Decimal("0.000001"), rounding=ROUND_CEILING)
    return check(Decimal(value), field)


def text(value: Decimal) -> str:
    """The one text form of an amount: plain, no exponent, no trailing zeros ("0.52", "1000", "-3.5")."""
    plain = f"{value:f}"
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in {"-0", ""} else plain


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    with exact():
        return sum(amounts, ZERO)


def currency(code: object, field: str = "currency") -> str:
    """Return the code if it has the shape of ISO 4217 (three capitals); raises AmountInvalid."""
    if not isinstance(code, str) or not _CURRENCY.fullmatch(code):
        raise AmountInvalid("want a three-letter ISO 4217 code", field=field)
    return code


def iso_4217(code: object, field: str = "currency") -> str:
    """Return the code of a currency that exists, for what people write anew; raises AmountInvalid."""
    if (read := currency(code, field)) not in CURRENCIES:
        raise AmountInvalid(f"ISO 4217 has no currency {read}", field=field)
    return read
