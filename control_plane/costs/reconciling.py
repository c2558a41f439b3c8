# SPDX-License-Identifier: Apache-2.0
"""A provider's invoice is held against the ledger, and what was found is kept with an entry that tells of it (G7).

Enters the bytes of an invoice, how to read them, and who asks. The invoice is read here and not where it was sent from,
so that its hash in the entry is that of what was compared. Nothing is charged or credited by it: what to do about a
variance is for people. The entry has hashes, counts and sums, no line of the invoice.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane.aside import aside
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import invoice_store
from control_plane.errors import Refused
from control_plane.jobs.evidence import Row
from finops import card_store, money
from finops.findings import ChargedLine, Finding, KnownJob, Reconciliation, Tolerances
from finops.invoices import mapping as mappings
from finops.invoices.lines import Invoice, read
from finops.invoices.table import Format
from finops.reconcile import months_of, reconcile
from ledger.canonical import dumps, parse_time, sha256, timestamp
from ledger.chain import Pending

KIND: Final = "costs:reconciled"
MOST_MONTHS: Final = 13
MARGIN: Final = dt.timedelta(days=32)
"""So far before and after the invoice's months a job is looked for: what is billed in another month is `period`."""
LONGEST_SLACK_S: Final = 7 * 86_400


class Reconciling(Struct, frozen=True, forbid_unknown_fields=True):
    """An invoice to be compared: its bytes (base64), how to read them, and how far apart is still the same.

    `map` is the mapping itself, where `mapping` names one that ships. `original` is the hash of the file that the bytes
    were made of, where they aren't the file.
    """

    invoice: bytes
    format: Format = "csv"
    mapping: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z]+$")] = "plain"
    map: dict[str, Any] | None = None
    provider: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[!-~]+$")] | None = None
    month: Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")] | None = None
    tolerance: Annotated[str, Meta(extra_json_schema={"pattern": r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$"})] = "0"
    time_tolerance_s: Annotated[int, Meta(ge=0, le=LONGEST_SLACK_S)] = 0
    original: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None


asking = msgspec.json.Decoder(Reconciling)


async def compare(plane: Plane, who: Principal, asked: Reconciling) -> dict[str, Any]:
    """Compare and keep; summary and findings. Raises InvoiceInvalid, AmountInvalid, Refused `request_invalid`."""
    mapping = mappings.shipped(asked.mapping)
    if asked.map is not None:
        mapping = mappings.parse(msgspec.json.encode(asked.map))
    invoice = await aside(len(asked.invoice), read, asked.invoice, asked.format, mapping)
    provider = asked.provider or mapping.provider
    if provider is None:
        raise _wanting("provider", "whose invoice it is: neither the request nor the mapping says")
    months = _months(asked.month, invoice)
    tolerances = Tolerances(money.parse(asked.tolerance, "tolerance"), dt.timedelta(seconds=asked.time_tolerance_s))
    now = parse_time(timestamp(plane.now()))
    async with plane.transaction(who.tenant) as conn:
        jobs = await _known(conn, who.tenant, provider, months)
        size = len(asked.invoice) + 1000 * len(jobs)
        found = await aside(size, reconcile, invoice, jobs, months, tolerances)
        findings = [_shown(one) for one in found.findings]
        summary = {
            "reconciliation_id": str(uuid.uuid4()),
            "provider": provider,
            "months": list(months),
            "at": timestamp(now),
            "invoice": sha256(asked.invoice),
            "original": asked.original,
            "mapping": sha256(msgspec.json.encode(mapping, order="sorted")),
            "lines": len(invoice.lines),
            "tolerance": asked.tolerance,
            "time_tolerance_s": asked.time_tolerance_s,
            "findings": sha256(dumps(findings)),
        } | _sums(found)
        row = {"id": summary["reconciliation_id"], "provider": provider, "months": list(months), "made_at": now}
        row |= {"pseudonym": who.pseudonym, "summary": summary, "findings": findings}
        await invoice_store.keep(conn, who.tenant, row)
        entry = Pending(
            entry_id=str(uuid.uuid4()), tenant=who.tenant, kind=KIND, actor=who.pseudonym, time=now, body=summary
        )
        await ledger.store.append(conn, [(entry, None)])
    return summary | {"found": findings}


def differences(rows: Sequence[Row], told: Mapping[tuple[str, str], dict[str, Any]]) -> list[str]:
    """What rows and entries say otherwise of reconciliations, a line each (I6)."""
    found: list[str] = []
    kept = {(row["tenant"], row["id"]): row for row in rows}
    for key in sorted({*kept, *told}):
        row = kept.get(key)
        where = f"reconciliation {key[1]} of {key[0]}"
        if row is None or key not in told:
            found.append(f"{where}: {'told by an entry, no row' if row is None else 'a row that no entry tells of'}")
        elif row["summary"] != told[key]:
            found.append(f"{where}: its summary is not what the ledger tells")
        elif sha256(dumps(row["findings"])) != told[key]["findings"]:
            found.append(f"{where}: its findings are not those that the ledger tells of")
    return found


def _months(asked: str | None, invoice: Invoice) -> tuple[str, ...]:
    months = (asked,) if asked is not None else months_of(invoice)
    if not months:
        raise _wanting("month", "which month it is of: no line of the invoice has a time")
    if len(months) > MOST_MONTHS:
        raise _wanting("month", f"an invoice of at most {MOST_MONTHS} months, or the month meant")
    return months


def _wanting(field: str, what: str) -> Refused:
    return Refused("request_invalid", f"{field}: want {what}", errors=({"field": field, "message": what},))


async def _known(conn: AsyncConnection, tenant: str, provider: str, months: Sequence[str]) -> list[KnownJob]:
    """What the ledger knows of jobs at the provider in these months and a month around them."""
    try:
        since = dt.datetime.fromisoformat(f"{months[0]}-01").replace(tzinfo=dt.UTC) - MARGIN
        until = dt.datetime.fromisoformat(f"{months[-1]}-01").replace(tzinfo=dt.UTC) + 2 * MARGIN
    except (ValueError, OverflowError):
        raise _wanting("month", "a month of this time") from None
    devices = await invoice_store.devices(conn, provider)
    charged: dict[str, list[RowMapping]] = {}
    for row in await invoice_store.charged(conn, tenant, provider, since, until):
        charged.setdefault(row["job_id"], []).append(row)
    cards = {row["rate_card"] for rows in charged.values() for row in rows if row["rate_card"] is not None}
    precisions = {name: Decimal((await card_store.card(conn, tenant, name)).card.precision) for name in sorted(cards)}
    rows = await invoice_store.jobs(conn, list(charged), list(devices), since, until)
    return [_job(row, charged.get(row["job_id"], []), devices, precisions) for row in rows if _went(row, charged)]


def _went(row: RowMapping, charged: Mapping[str, object]) -> bool:
    """Whether the job came as far as a backend: a denied one has a backend that it never saw."""
    return row["job_id"] in charged or bool(row["vendor_tasks"]) or _at(row, "EXECUTING") is not None


def _job(
    row: RowMapping,
    lines: Sequence[RowMapping],
    devices: Mapping[str, str | None],
    precisions: Mapping[str, Decimal],
) -> KnownJob:
    names = {row["backend"]} if row["backend"] in devices or lines else set()
    tasks = [one for one in row["vendor_tasks"] or () if one["backend"] in devices or one["backend"] in names]
    names |= {one["backend"] for one in tasks}
    skus = {sku for name in names if (sku := devices.get(name)) is not None}
    shots = next((line["quantity"] for line in lines if line["meter"] == "shots"), None)
    gone = row["backend"] not in names  # it failed here, and went to another provider
    return KnownJob(
        job_id=row["job_id"],
        state="FAILED" if gone else row["final"] or row["state"],
        currency=lines[0]["currency"] if lines else row["currency"],
        devices=frozenset(names | skus | {sku.rpartition("/")[2] for sku in skus}),
        vendor_ids=frozenset(one["task"] for one in tasks),
        started_at=lines[0]["started_at"] if lines else _at(row, "EXECUTING"),
        ended_at=lines[0]["ended_at"] if lines else _at(row, None),
        shots=shots if shots is not None else Decimal(row["executions"] or 0),
        month=lines[0]["month"] if lines else None,
        lines=tuple(
            ChargedLine(
                line["meter"],
                line["quantity"],
                line["rate"],
                line["amount"],
                precisions.get(line["rate_card"], Decimal("0.01")),
            )
            for line in lines
        ),
    )


def _at(row: RowMapping, state: Literal["EXECUTING"] | None) -> dt.datetime | None:
    """When the job came to the state for the first time, or when the last thing happened to it."""
    told = row["history"] if state is None else [one for one in row["history"] if one["state"] == state]
    if not told:
        return None
    return parse_time(told[-1 if state is None else 0]["at"])


def _shown(one: Finding) -> dict[str, Any]:
    shown: dict[str, Any] = {name: getattr(one, name) for name in one.__struct_fields__}
    for name, value in shown.items():
        if isinstance(value, Decimal):
            shown[name] = money.text(value)
        elif isinstance(value, dt.datetime):
            shown[name] = timestamp(value)
        elif isinstance(value, tuple):
            shown[name] = list(value)
    shown["class"] = shown.pop("kind")
    return shown


def _sums(found: Reconciliation) -> dict[str, Any]:
    return {
        "agrees": found.agrees,
        "currency": found.currency,
        "invoiced": money.text(found.invoiced),
        "charged": {currency: money.text(amount) for currency, amount in found.charged.items()},
        "classes": [
            {
                "class": one.kind,
                "count": one.count,
                "invoiced": money.text(one.invoiced),
                "charged": {currency: money.text(amount) for currency, amount in one.charged.items()},
            }
            for one in found.sums
        ],
    }
