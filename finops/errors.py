# SPDX-License-Identifier: Apache-2.0
"""What finops refuses, each with a stable code and the field at fault.

    FinopsError
    ├── AmountInvalid        amount_invalid       no plain decimal in range (NaN, negative, 10^30), no currency code
    ├── CurrencyMismatch     currency_mismatch    two currencies met; nothing is converted here
    ├── FactInvalid          fact_invalid         a meter that is unknown or given twice
    ├── RateCardInvalid      rate_card_invalid    a card that can't be read in one way only
    ├── UnknownPrice         unknown_price        no price, or no bound for one: the job is refused
    ├── BudgetInvalid        budget_invalid       a scope or period that doesn't exist
    ├── PeriodInvalid        period_invalid       a month or moment that can't be read, or an end before its beginning
    ├── AllocationInvalid    allocation_invalid   a method of allocation that can't be read, or doesn't sum to one
    ├── CorrectionInvalid    correction_invalid   a refund or correction of more than was charged, or of nothing
    ├── MonthInvalid         month_invalid        a month that can't be closed: no month, not over, not the next
    ├── HoldExists           hold_exists          the job has held money before
    ├── HoldUnknown          hold_unknown         the job never held money
    ├── HoldClosed           hold_closed          the job's hold was settled before
    ├── InvoiceInvalid       invoice_invalid      an invoice, or what says how to read it, can't be read in one way only
    ├── HoldOpen             hold_open            the job's hold isn't settled yet
    └── BooksInconsistent    books_inconsistent   recorded entries contradict each other

"Over budget" and "no budget" are values (`store.Exceeded`, `store.Missing`): a refusal is an answer.
"""


class FinopsError(Exception):
    """Root of this package's errors; `code` is stable, `field` names what was wrong with which input."""

    code = "finops_error"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail if field is None else f"{field}: {detail}")
        self.detail = detail
        self.field = field


class AmountInvalid(FinopsError):
    """A quantity or amount is not a plain, non-negative decimal within bounds."""

    code = "amount_invalid"


class CurrencyMismatch(FinopsError):
    """An amount's currency differs from the one it meets, or isn't an ISO 4217 shaped code."""

    code = "currency_mismatch"


class FactInvalid(FinopsError):
    """A measured fact names no known meter, or one meter is reported twice."""

    code = "fact_invalid"


class RateCardInvalid(FinopsError):
    """A rate card is malformed, ambiguous or unbounded; `field` is the path inside it."""

    code = "rate_card_invalid"


class UnknownPrice(FinopsError):
    """The card has no price for a provider and device, or none is in force."""

    code = "unknown_price"


class BudgetInvalid(FinopsError):
    """A budget's scope or period can't be read, or doesn't belong to the tenant."""

    code = "budget_invalid"


class PeriodInvalid(FinopsError):
    """A month, moment or span isn't one; `field` names which."""

    code = "period_invalid"


class AllocationInvalid(FinopsError):
    """A method of allocation is malformed, ambiguous, or its ratios don't sum to one; `field` is the path inside."""

    code = "allocation_invalid"


class CorrectionInvalid(FinopsError):
    """A refund or correction takes back more than was charged, or is about a job that was never charged."""

    code = "correction_invalid"


class MonthInvalid(FinopsError):
    """A month isn't one, isn't over yet, or may not be closed before another."""

    code = "month_invalid"


class HoldExists(FinopsError):
    """The job has a hold already; holds are unique by (tenant, job)."""

    code = "hold_exists"


class HoldUnknown(FinopsError):
    """The job has no hold to settle, make anew or park."""

    code = "hold_unknown"


class HoldClosed(FinopsError):
    """The job's hold was settled: capture and release happen once."""

    code = "hold_closed"


class InvoiceInvalid(FinopsError):
    """An invoice, or its mapping, is malformed or ambiguous; `field` names line and column."""

    code = "invoice_invalid"


class HoldOpen(FinopsError):
    """The job's hold is still open: there is nothing captured to give back."""

    code = "hold_open"


class BooksInconsistent(FinopsError):
    """An entry can't follow the ones before it, so the fold refuses to guess a balance."""

    code = "books_inconsistent"
