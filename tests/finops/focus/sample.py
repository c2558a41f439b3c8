# SPDX-License-Identifier: Apache-2.0
"""Charged rows of every category, as `rows` reads them: one job's shots, task and seconds, and what came after."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from finops.focus import writers
from finops.focus.shape import RAW_SCHEMA, Parties

PARTIES = Parties("demo", "qcos-test")
_AT = datetime(2026, 11, 5, 10, 0, 0, 123_000, UTC)
_USED: dict[str, Any] = {
    "entry_id": "00000000-0000-4000-8000-000000000001",
    "line": 0,
    "category": "usage",
    "month": "2026-11",
    "charged_at": _AT,
    "job_id": "job-1",
    "project": "demo",
    "cost_center": "CC-1",
    "team": None,
    "pseudonym": "p-1",
    "purpose": 'a "benchmark", of two\nlines',
    "classification": "internal",
    "provider": "aws-braket",
    "backend": "braket-forte",
    "region": "us-east-1",
    "started_at": datetime(2026, 11, 5, 9, 59, 58, 500_000, UTC),
    "ended_at": datetime(2026, 11, 5, 9, 59, 59, 1, UTC),
    "meter": "shots",
    "quantity": Decimal(1000),
    "unit": "Shots",
    "rate": Decimal("0.08"),
    "amount": Decimal(80),
    "product": Decimal(80),
    "currency": "USD",
    "source": "measured",
    "reporter": "plane",
    "rate_card": "sha256:" + "a" * 64,
    "bundle_id": "00000000-0000-4000-8000-00000000000b",
    "queue_s": Decimal("1.5"),
    "index": 7,
    "corrects": None,
}
_PRICE: dict[str, Any] = dict.fromkeys(
    ("meter", "quantity", "unit", "rate", "product", "source", "reporter", "rate_card")
)
_JOB: dict[str, Any] = dict.fromkeys(
    ("job_id", "provider", "backend", "region", "started_at", "ended_at", "bundle_id", "queue_s")
)


def row(number: int = 1, **changed: Any) -> dict[str, Any]:
    """A row of the first job's shots, but for what is changed; `number` makes the entry another."""
    return _USED | {"entry_id": f"00000000-0000-4000-8000-{number:012}"} | changed


def month() -> list[dict[str, Any]]:
    """A month's rows."""
    seconds: dict[str, Any] = {
        "meter": "qpu_seconds",
        "quantity": Decimal("1.234567"),
        "unit": "Seconds",
        "rate": Decimal("1.6"),
    }
    october: dict[str, Any] = {
        "started_at": datetime(2026, 10, 5, tzinfo=UTC),
        "ended_at": datetime(2026, 10, 6, tzinfo=UTC),
    }
    return [
        row(),
        row(line=1, meter="tasks", quantity=Decimal(1), unit="Tasks", rate=Decimal("0.3"), amount=Decimal("0.3"))
        | {"product": Decimal("0.3")},
        row(line=2, **seconds, amount=Decimal("1.98"), product=Decimal("1.9753072"), source="vendor"),
        row(2, **_PRICE, **_JOB, category="credit", amount=Decimal(-5)),
        row(3, **{**_PRICE, **october}, category="refund", amount=Decimal("-3.25"), corrects="2026-10"),
        row(4, **_PRICE, category="correction", amount=Decimal("0.123456789012"), corrects="2026-11"),
        row(5, **_PRICE, **_JOB, category="shared", project=None, amount=Decimal(2)),
    ]


def raw(rows: list[dict[str, Any]]) -> pa.Table:
    """The rows as a table."""
    return pa.Table.from_pylist(rows, schema=RAW_SCHEMA)


def file(rows: list[dict[str, Any]], version: str = "1.2", form: str = "csv") -> bytes:
    """The bytes of their file."""
    sink = io.BytesIO()
    writers.write(sink, [raw(rows)] if rows else [], version, form, PARTIES)
    return sink.getvalue()
