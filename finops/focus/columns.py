# SPDX-License-Identifier: Apache-2.0
"""The columns of a FOCUS file, 1.2 and 1.4 shaped: names, kinds, and where each comes from (G7, G14).

Contract: a file has the columns of its version in the order of `of`, FOCUS's own by name and then the plane's, which
begin with `x_`. A column that FOCUS asks for only of providers who do something else (commitment discounts, capacity
reservations, tags, availability zones, a second currency, shared costs told by method) is not there: absent, never
filled in. `docs/focus.md` is made of this table. Pure: no clock, randomness, socket or database.
"""

from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from finops.focus.errors import FocusRefused

Version: TypeAlias = Literal["1.2", "1.4"]
Format: TypeAlias = Literal["csv", "parquet"]
Kind: TypeAlias = Literal["text", "decimal", "time", "moment", "integer"]

VERSIONS: Final[tuple[Version, ...]] = get_args(Version)
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
BOTH: Final = frozenset(VERSIONS)

SERVICE: Final = "Quantum Execution"
CATEGORY: Final = "Compute"
SUBCATEGORY: Final = "Quantum Compute"
NOT_APPLICABLE: Final = "Not Applicable"


class Column(Struct, frozen=True):
    """One column; `words` says where it comes from, for people."""

    name: str
    kind: Kind
    words: str
    versions: frozenset[str] = BOTH


_ISSUER = "the plane: it charges the tenant, so it is provider and invoice issuer, and `BilledCost` may be more than 0"

COLUMNS: Final[tuple[Column, ...]] = (
    Column("BilledCost", "decimal", "the line's amount, rounded as its rate card says; negative in a credit"),
    Column("BillingAccountId", "text", "the tenant"),
    Column("BillingAccountName", "text", "the tenant"),
    Column("BillingAccountType", "text", "always `Tenant`"),
    Column("BillingCurrency", "text", "the currency of the rate card that priced the line"),
    Column("BillingPeriodEnd", "time", "the first moment after the month in which the line counts"),
    Column("BillingPeriodStart", "time", "the first moment of the month in which the line counts, UTC"),
    Column(
        "ChargeCategory",
        "text",
        "`Usage`; `Credit` of a credit; `Adjustment` of a shared cost, and of a correction or refund within its month",
    ),
    Column("ChargeClass", "text", "`Correction` where a correction or refund counts in a later month than its job"),
    Column("ChargeDescription", "text", "what was charged, in words"),
    Column("ChargeFrequency", "text", "`Usage-Based`, or `One-Time` where nothing was used"),
    Column("ChargePeriodEnd", "time", "when the use ended, up to the next second; else when it was charged"),
    Column("ChargePeriodStart", "time", "when the use began, down to the second; else when it was charged"),
    Column("CommitmentDiscountStatus", "text", "empty: there are no commitment discounts; rules of others look at it"),
    Column("ConsumedQuantity", "decimal", "the billed quantity of a usage"),
    Column("ConsumedUnit", "text", "its unit: Shots, Tasks, Seconds, …"),
    Column("ContractedCost", "decimal", "quantity × rate of a usage, before the card's rounding; else the amount"),
    Column("ContractedUnitPrice", "decimal", "the rate of the card, of a usage: there is no second price"),
    Column("EffectiveCost", "decimal", "as BilledCost: nothing is paid ahead"),
    Column(
        "HostProviderName",
        "text",
        "the provider whose backend ran it, which the customer may choose; `Not Applicable` where none did",
        frozenset({"1.4"}),
    ),
    Column(
        "InvoiceDetailId",
        "text",
        "the InvoiceId and x_Category: one amount of the statement's totals",
        frozenset({"1.4"}),
    ),
    Column("InvoiceId", "text", "tenant, month and currency: the month's statement, provisional until it closes"),
    Column("InvoiceIssuerName", "text", _ISSUER),
    Column("ListCost", "decimal", "as ContractedCost"),
    Column("ListUnitPrice", "decimal", "as ContractedUnitPrice"),
    Column("PricingCategory", "text", "`Standard`, of a usage"),
    Column("PricingCurrency", "text", "as BillingCurrency: nothing is converted"),
    Column("PricingCurrencyContractedUnitPrice", "decimal", "as ContractedUnitPrice"),
    Column("PricingCurrencyEffectiveCost", "decimal", "as EffectiveCost"),
    Column("PricingCurrencyListUnitPrice", "decimal", "as ListUnitPrice"),
    Column("PricingQuantity", "decimal", "as ConsumedQuantity"),
    Column("PricingUnit", "text", "as ConsumedUnit"),
    Column("ProviderName", "text", _ISSUER, frozenset({"1.2"})),
    Column(
        "PublisherName",
        "text",
        "the provider whose backend ran it; the plane where none did",
        frozenset({"1.2"}),
    ),
    Column("RegionId", "text", "the region of the backend that ran it"),
    Column("RegionName", "text", "as RegionId"),
    Column("ResourceId", "text", "the backend that ran it"),
    Column("ResourceName", "text", "empty: a backend has no second name"),
    Column("ResourceType", "text", "`Quantum Backend`, where there is one"),
    Column("ServiceCategory", "text", f"always `{CATEGORY}`"),
    Column("ServiceName", "text", f"always `{SERVICE}`"),
    Column("ServiceProviderName", "text", _ISSUER, frozenset({"1.4"})),
    Column("ServiceSubcategory", "text", f"always `{SUBCATEGORY}`: simulators are meant too"),
    Column("SkuId", "text", "`PROVIDER/BACKEND/METER` of a usage"),
    Column("SkuMeter", "text", "the meter: shots, tasks, qpu_seconds, …"),
    Column("SkuPriceDetails", "text", "empty: the rate card, named in `x_RateCard`, says more than its keys can"),
    Column("SkuPriceId", "text", "the SkuId and the hash of the rate card"),
    Column("SubAccountId", "text", "the project"),
    Column("SubAccountName", "text", "the project"),
    Column("SubAccountType", "text", "`Project`, where there is one"),
    Column("x_Backend", "text", "the backend that ran it"),
    Column("x_Category", "text", "usage, credit, correction, refund or shared"),
    Column("x_ChargedAt", "moment", "when it was charged, to the millisecond: the time of the ledger entry"),
    Column("x_Classification", "text", "the job's classification"),
    Column("x_CostCenter", "text", "the job's cost centre, or whom a share or credit is for"),
    Column("x_EvidenceBundleId", "text", "the job's evidence bundle"),
    Column("x_JobId", "text", "the job; its lines share it"),
    Column("x_LedgerEntryId", "text", "the ledger entry that tells of the line"),
    Column("x_LedgerIndex", "integer", "its index in the log; empty until it is sealed"),
    Column("x_LedgerLine", "integer", "the line's number in that entry, from 0"),
    Column("x_Project", "text", "the project"),
    Column("x_Provider", "text", "the provider whose backend ran it"),
    Column("x_Purpose", "text", "the job's purpose"),
    Column("x_QueueSeconds", "decimal", "how long the job waited, the same on each of its lines: never to be summed"),
    Column("x_RateCard", "text", "hash of the rate card"),
    Column("x_ReportedBy", "text", "who said how much was used"),
    Column("x_Source", "text", "vendor, measured or estimated"),
    Column("x_Team", "text", "the job's team"),
    Column("x_User", "text", "whoever submitted it, by pseudonym: the file stays the same when a person is erased"),
)


def of(version: str) -> tuple[Column, ...]:
    """The columns of a version, in their order; raises FocusRefused for a version that isn't written."""
    if version not in VERSIONS:
        raise FocusRefused(f"no FOCUS {version[:16]} here; there are {', '.join(VERSIONS)}", field="focus")
    return tuple(column for column in COLUMNS if version in column.versions)


def document() -> str:
    """`docs/focus.md`'s table."""
    rows = [
        f"| `{column.name}` | {' · '.join(sorted(column.versions))} | {column.kind} | {column.words} |"
        for column in COLUMNS
    ]
    return "\n".join(["| column | version | kind | where it comes from |", "|---|---|---|---|", *rows]) + "\n"
