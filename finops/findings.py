# SPDX-License-Identifier: Apache-2.0
"""What a reconciliation says: what the ledger knows of jobs, and what is found of an invoice's lines (G7). Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from finops.invoices.lines import InvoiceLine
from finops.money import ZERO

Class: TypeAlias = Literal[
    "matched",
    "rounding",
    "price",
    "quantity",
    "period",
    "currency",
    "duplicate",
    "failed_job",
    "open_job",
    "unknown_job",
    "ambiguous",
    "missing_on_invoice",
    "credit",
    "refund",
    "discount",
    "tax",
    "unrelated",
]
By: TypeAlias = Literal["vendor_id", "job_id", "device_and_time"]
CLASSES: Final[tuple[str, ...]] = get_args(Class)
AGREED: Final = frozenset({"matched", "rounding", "tax", "unrelated"})


class ChargedLine(Struct, frozen=True):
    """What the ledger charged for one meter of a job; `precision` is that of its rate card."""

    meter: str | None
    quantity: Decimal | None
    rate: Decimal | None
    amount: Decimal
    precision: Decimal = Decimal("0.01")


class KnownJob(Struct, frozen=True, kw_only=True):
    """What the ledger knows of one job at a provider; a job that gave no result, or none yet, has no lines."""

    job_id: str
    state: str
    currency: str
    devices: frozenset[str]
    """Every name under which its device may stand on an invoice."""
    vendor_ids: frozenset[str] = frozenset()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    shots: Decimal | None = None
    month: str | None = None
    """The month in which it was charged."""
    lines: tuple[ChargedLine, ...] = ()


class Tolerances(Struct, frozen=True):
    """How far apart is still the same: an amount a finding, and seconds around a line's times."""

    amount: Decimal = ZERO
    time: timedelta = timedelta(0)


class Finding(Struct, frozen=True, kw_only=True):
    """Some lines of the invoice beside some of the ledger's, and what is to be said of them.

    `difference` is what the invoice has more; None where the two sides are in two currencies. `device`, `at` and `user`
    are what the invoice says of a job that nobody here knows.
    """

    kind: Class
    lines: tuple[int, ...] = ()
    job_id: str | None = None
    found_by: By | None = None
    vendor_id: str | None = None
    meter: str | None = None
    invoiced: Decimal = ZERO
    charged: Decimal = ZERO
    currency: str
    charged_currency: str
    difference: Decimal | None = ZERO
    invoiced_quantity: Decimal | None = None
    charged_quantity: Decimal | None = None
    device: str | None = None
    at: datetime | None = None
    user: str | None = None
    candidates: tuple[str, ...] = ()
    detail: str = ""


class Sum(Struct, frozen=True):
    """Findings of one class: how many, and what they add up to on both sides."""

    kind: Class
    count: int
    invoiced: Decimal
    charged: dict[str, Decimal]


class Reconciliation(Struct, frozen=True):
    """All findings, in the invoice's order and then the ledger's; and their sums by class."""

    months: tuple[str, ...]
    currency: str
    findings: tuple[Finding, ...]
    sums: tuple[Sum, ...]
    invoiced: Decimal
    charged: dict[str, Decimal]

    @property
    def agrees(self) -> bool:
        """Whether nothing is left to explain."""
        return all(one.kind in AGREED for one in self.findings)


def alone(line: InvoiceLine, kind: Class, detail: str, candidates: tuple[str, ...] = ()) -> Finding:
    """The finding of one line that no charged line stands beside."""
    return Finding(
        kind=kind,
        lines=(line.line,),
        job_id=line.job_id,
        vendor_id=line.vendor_id,
        meter=line.meter,
        invoiced=line.amount,
        currency=line.currency,
        charged_currency=line.currency,
        difference=line.amount,
        invoiced_quantity=line.quantity,
        device=line.device,
        at=line.start,
        user=line.user,
        candidates=candidates,
        detail=detail,
    )
