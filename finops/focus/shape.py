# SPDX-License-Identifier: Apache-2.0
"""Charged rows become the lines of a FOCUS file, by whole columns (G7, G14).

Contract: enters a table of `RAW` columns, one row a charged line, in the order of the file; leaves a table of the
version's columns, of `schema`. A usage carries quantity and prices; `ListCost` and `ContractedCost` are its exact
product, `BilledCost` and `EffectiveCost` what the card's rounding made of it. What is no usage carries an amount alone.
Times are whole seconds, as FOCUS writes them: a start is rounded down, an end up and never to the start itself.

A correction or refund is of class `Correction` where it counts in a later month than the use that it corrects does: the
earlier month is closed, or closes before this one does. Within its month it is an adjustment of a bill not yet made.
Pure: no clock, randomness, socket or database.
"""

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from finops import money
from finops.focus import columns
from finops.focus.columns import CATEGORY, NOT_APPLICABLE, SERVICE, SUBCATEGORY, Kind

_AMOUNT: Final = pa.decimal128(38, money.DECIMALS)
_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_MOMENT: Final = pa.timestamp("us", tz="UTC")
# What `rows` reads, in its order. A word is one of few: it is kept once for a batch.
RAW: Final[dict[str, pa.DataType]] = {
    "entry_id": pa.string(),
    "line": pa.int64(),
    "category": _WORD,
    "month": _WORD,
    "charged_at": _MOMENT,
    "job_id": pa.string(),
    "project": _WORD,
    "cost_center": _WORD,
    "team": _WORD,
    "pseudonym": _WORD,
    "purpose": _WORD,
    "classification": _WORD,
    "provider": _WORD,
    "backend": _WORD,
    "region": _WORD,
    "started_at": _MOMENT,
    "ended_at": _MOMENT,
    "meter": _WORD,
    "quantity": _AMOUNT,
    "unit": _WORD,
    "rate": _AMOUNT,
    "amount": _AMOUNT,
    "product": _AMOUNT,
    "currency": _WORD,
    "source": _WORD,
    "reporter": _WORD,
    "rate_card": _WORD,
    "bundle_id": pa.string(),
    "queue_s": _AMOUNT,
    "index": pa.int64(),
    "corrects": _WORD,
}
RAW_SCHEMA: Final = pa.schema(list(RAW.items()))
_KINDS: Final[dict[Kind, pa.DataType]] = {
    "decimal": _AMOUNT,
    "time": pa.timestamp("s", tz="UTC"),
    "moment": pa.timestamp("ms", tz="UTC"),
    "integer": pa.int64(),
}
UNIQUE: Final = frozenset({"x_LedgerEntryId", "x_JobId", "x_EvidenceBundleId"})
_NAMES: Final = {
    "tasks": "tasks",
    "qpu_seconds": "seconds on the processor",
    "simulator_seconds": "seconds of simulation",
}
_SECOND: Final = pa.scalar(1_000_000, pa.duration("us"))


class Parties:
    """Whose file it is: the tenant that is charged, and the plane that charges it."""

    def __init__(self, tenant: str, issuer: str) -> None:
        """Both by the names that they have in evidence."""
        self.tenant = tenant
        self.issuer = issuer


def kind(column: columns.Column) -> pa.DataType:
    """The Arrow type of a column."""
    return _KINDS.get(column.kind) or (pa.string() if column.name in UNIQUE else _WORD)


def schema(version: str) -> pa.Schema:
    """The file's columns and their types."""
    return pa.schema([(column.name, kind(column)) for column in columns.of(version)])


def lines(raw: pa.Table, version: str, parties: Parties) -> pa.Table:
    """The lines of these rows, in their order; raises FocusRefused for a version that isn't written."""
    wanted = schema(version)
    made = _Lines(raw.combine_chunks(), parties).columns()
    return pa.table([_typed(made[field.name], field.type, raw.num_rows) for field in wanted], schema=wanted)


class _Lines:
    """One table's columns, each made once."""

    def __init__(self, raw: pa.Table, parties: Parties) -> None:
        self.raw: dict[str, Any] = {name: _again(one(raw[name])) for name in RAW}
        self.parties = parties
        self.usage = self.words("category", lambda word: word == "usage", pa.bool_())
        self.priced = {name: self.when_used(self.raw[name]) for name in ("quantity", "rate")}
        self.periods = {
            "BillingPeriodStart": self.words("month", lambda month: _first(month, 0), _KINDS["time"]),
            "BillingPeriodEnd": self.words("month", lambda month: _first(month, 1), _KINDS["time"]),
        }

    def columns(self) -> dict[str, Any]:
        raw, parties = self.raw, self.parties
        began, ended = self.times()
        cost = pc.if_else(self.usage, raw["product"], raw["amount"])
        correction = pc.fill_null(pc.less(plain(raw["corrects"]), plain(raw["month"])), False)
        provider, sku = raw["provider"], self.sku()
        quantity, rate, unit = self.priced["quantity"], self.priced["rate"], self.word_when_used("unit")
        return {
            "BilledCost": raw["amount"],
            "BillingAccountId": parties.tenant,
            "BillingAccountName": parties.tenant,
            "BillingAccountType": "Tenant",
            "BillingCurrency": raw["currency"],
            **self.periods,
            "ChargeCategory": self.category(correction),
            "ChargeClass": _either(correction, "Correction", None),
            "ChargeDescription": self.description(),
            "ChargeFrequency": _either(self.usage, "Usage-Based", "One-Time"),
            "ChargePeriodEnd": ended,
            "ChargePeriodStart": began,
            "CommitmentDiscountStatus": None,
            "ConsumedQuantity": quantity,
            "ConsumedUnit": unit,
            "ContractedCost": cost,
            "ContractedUnitPrice": rate,
            "EffectiveCost": raw["amount"],
            "HostProviderName": _filled(provider, NOT_APPLICABLE),
            "InvoiceDetailId": self.invoice("category"),
            "InvoiceId": self.invoice(),
            "InvoiceIssuerName": parties.issuer,
            "ListCost": cost,
            "ListUnitPrice": rate,
            "PricingCategory": _either(self.usage, "Standard", None),
            "PricingCurrency": raw["currency"],
            "PricingCurrencyContractedUnitPrice": rate,
            "PricingCurrencyEffectiveCost": raw["amount"],
            "PricingCurrencyListUnitPrice": rate,
            "PricingQuantity": quantity,
            "PricingUnit": unit,
            "ProviderName": parties.issuer,
            "PublisherName": _filled(provider, parties.issuer),
            "RegionId": raw["region"],
            "RegionName": raw["region"],
            "ResourceId": raw["backend"],
            "ResourceName": None,
            "ResourceType": _either(pc.is_valid(raw["backend"]), "Quantum Backend", None),
            "ServiceCategory": CATEGORY,
            "ServiceName": SERVICE,
            "ServiceProviderName": parties.issuer,
            "ServiceSubcategory": SUBCATEGORY,
            "SkuId": sku,
            "SkuMeter": self.word_when_used("meter"),
            "SkuPriceDetails": None,
            "SkuPriceId": _joined((sku, self.word_when_used("rate_card")), "@"),
            "SubAccountId": raw["project"],
            "SubAccountName": raw["project"],
            "SubAccountType": _either(pc.is_valid(raw["project"]), "Project", None),
            "x_Backend": raw["backend"],
            "x_Category": raw["category"],
            "x_ChargedAt": pc.cast(raw["charged_at"], _KINDS["moment"], safe=False),
            "x_Classification": raw["classification"],
            "x_CostCenter": raw["cost_center"],
            "x_EvidenceBundleId": raw["bundle_id"],
            "x_JobId": raw["job_id"],
            "x_LedgerEntryId": raw["entry_id"],
            "x_LedgerIndex": raw["index"],
            "x_LedgerLine": raw["line"],
            "x_Project": raw["project"],
            "x_Provider": provider,
            "x_Purpose": raw["purpose"],
            "x_QueueSeconds": raw["queue_s"],
            "x_RateCard": raw["rate_card"],
            "x_ReportedBy": raw["reporter"],
            "x_Source": raw["source"],
            "x_Team": raw["team"],
            "x_User": raw["pseudonym"],
        }

    def times(self) -> tuple[Any, Any]:
        """When the use began and ended; where nobody knows, when it was charged."""
        began = pc.coalesce(self.raw["started_at"], self.raw["charged_at"])
        ended = pc.coalesce(self.raw["ended_at"], began)
        whole = _KINDS["time"]
        start = pc.cast(pc.floor_temporal(began, unit="second"), whole)
        end = pc.cast(pc.ceil_temporal(ended, unit="second"), whole)
        least = pc.add(start, pa.scalar(1, pa.duration("s")))
        return start, pc.if_else(pc.less(end, least), least, end)

    def category(self, correction: Any) -> Any:
        word = self.words("category", {"usage": "Usage", "credit": "Credit"}.get, pa.string(), otherwise="Adjustment")
        return pc.if_else(correction, "Usage", word)

    def description(self) -> Any:
        """Of a usage its meter and backend, of anything else what it is."""
        used = _joined((self.word_when_used("meter", _spoken), self.raw["backend"]), " on ")
        other = _mapped(self.raw["category"], str.capitalize, pa.string())
        return pc.coalesce(used, plain(other))

    def invoice(self, *more: str) -> Any:
        parts = tuple(self.raw[name] for name in ("month", "currency", *more))
        return _joined(parts, "-", before=f"{self.parties.tenant}-")

    def sku(self) -> Any:
        """The same for all who buy it: the card may change, the thing sold doesn't."""
        return _joined((self.raw["provider"], self.raw["backend"], self.word_when_used("meter")), "/")

    def words(self, name: str, change: Any, to: pa.DataType, otherwise: Any = None) -> Any:
        """A column of words, each changed once."""
        return plain(_mapped(self.raw[name], lambda word: _or(change(word), otherwise), to))

    def when_used(self, values: Any) -> Any:
        return pc.if_else(self.usage, values, pa.scalar(None, values.type))

    def word_when_used(self, name: str, change: Any = None) -> Any:
        words = plain(self.raw[name] if change is None else _mapped(self.raw[name], change, pa.string()))
        return pc.if_else(self.usage, words, pa.scalar(None, pa.string()))


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _spoken(meter: str) -> str:
    return _NAMES.get(meter, meter.replace("_", " ")).capitalize()


def _first(month: str, after: int) -> Any:
    """The first moment of a month, or of the one `after` it."""
    from datetime import UTC, datetime

    year, number = divmod(int(month[:4]) * 12 + int(month[5:]) - 1 + after, 12)
    return datetime(year, number + 1, 1, tzinfo=UTC)


def one(chunked: Any) -> Any:
    """A combined column as one array; an empty table has no chunk at all."""
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    return pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], chunked.type)


def _again(values: Any) -> Any:
    """Words numbered as they come in these lines: which came in lines before is no matter of the bytes written."""
    return pc.dictionary_encode(values.dictionary_decode()) if pa.types.is_dictionary(values.type) else values


def _mapped(words: Any, change: Any, to: pa.DataType) -> Any:
    """Words changed by their dictionary alone: a million lines have a few hundred."""
    changed = pa.array([change(word) for word in words.dictionary.to_pylist()], to)
    return pa.DictionaryArray.from_arrays(words.indices, changed)


def plain(words: Any) -> Any:
    """Words set out."""
    return pc.dictionary_decode(words) if pa.types.is_dictionary(words.type) else words


def _filled(words: Any, otherwise: str) -> Any:
    return pc.fill_null(plain(words), otherwise)


def _either(which: Any, yes: str | None, no: str | None) -> Any:
    return pc.if_else(which, pa.scalar(yes, pa.string()), pa.scalar(no, pa.string()))


def _joined(parts: tuple[Any, ...], by: str, before: str = "") -> Any:
    """Null where a part is null."""
    texts = [plain(part) for part in parts]
    if before:
        texts[0] = pc.binary_join_element_wise(before, texts[0], "")
    return pc.binary_join_element_wise(*texts, by, null_handling="emit_null")


def _typed(made: Any, to: pa.DataType, rows: int) -> Any:
    """A column of the type it has in the file; a single word or None is that of every line."""
    if made is None or isinstance(made, str):
        if pa.types.is_dictionary(to):
            number = pa.scalar(None if made is None else 0, pa.int32())
            return pa.DictionaryArray.from_arrays(pa.repeat(number, rows), pa.array([made or ""], pa.string()))
        return pa.repeat(pa.scalar(made, to), rows)
    if made.type == to:
        return made
    if pa.types.is_dictionary(to) and not pa.types.is_dictionary(made.type):
        return (
            pc.dictionary_encode(made)
            if pa.types.is_string(made.type)
            else pc.dictionary_encode(pc.cast(made, pa.string()))
        )
    return pc.cast(made, to)
