# SPDX-License-Identifier: Apache-2.0
"""A tenant's cost statement of one month: the closed record that the sealer signs, and the file that holds it (G7).

Enters: sums that the plane computed. Leaves: an in-toto Statement v1 whose one subject is the file of the month's
lines, canonical JSON, signed through `predicate.pae` as evidence is; its predicate type is its own, so that no
statement passes as evidence and no evidence as a statement. The scope stands in it. The file has the record's members
on top, beside `signatures`, `proof` and the `method` by which shared costs were split; the Statement is rebuilt from
them. docs/cost-statement.md explains every member. Not here: whether the sums are right (`finops.statement`), whether
keys are good (`ledger.cost_verify`). Pure.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta

from ledger import canonical
from ledger.bundle import Proof, Signatures
from ledger.errors import EvidenceInvalid, NotCanonical, UsageError
from ledger.predicate import STATEMENT_TYPE, Closed, Count, Currency, Hash, Money, Scope, Text, Time, Uuid, decode

CLOSED: Final = "costs:month_closed"  # the kind of the entry that commits to a statement, and of no other
PREDICATE_TYPE: Final = "urn:qcos:cost-statement:v1"
MAX_FILE_BYTES = 16 * 1024 * 1024
# Members are sorted, and no bundle, proof or trust file has this one first.
_BEGINS = re.compile(rb"\s*\{\s*\"allocation\"\s*:")

MonthName = Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])\Z")]


class Lines(Closed, frozen=True):
    """The lines file: one line of canonical JSON each."""

    count: Count
    sha256: Hash


class Amounts(Closed, frozen=True, kw_only=True):
    """What each category comes to; `net` is their sum."""

    currency: Currency
    usage: Money
    credit: Money
    correction: Money
    refund: Money
    shared: Money
    net: Money


class Borne(Amounts, frozen=True, kw_only=True):
    """What a cost centre bears, its part of the shared costs included; null is what nobody bears yet."""

    cost_center: Text | None


class Spent(Closed, frozen=True):
    """The net of one project or provider; null where a line names none."""

    name: Text | None
    currency: Currency
    amount: Money


class Share(Closed, frozen=True):
    """What one cost centre bears of a pool, for `weight` of all weights."""

    cost_center: Text | None
    weight: Money
    amount: Money


class Pool(Closed, frozen=True):
    """A shared cost and how it was split; `by` null where no rule was in force for it."""

    pool: Text
    currency: Currency
    by: Literal["spend", "shots", "jobs", "fixed", "even"] | None
    amount: Money
    shares: Annotated[tuple[Share, ...], Meta(min_length=1)]


class Method(Closed, frozen=True):
    """The method of allocation, by the hash of its document."""

    name: Text
    revision: Count
    sha256: Hash


class Position(Closed, frozen=True):
    """The checkpoint under which the month's last entry lies: what came after it is not in the statement."""

    size: Count
    root: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Previous(Closed, frozen=True):
    """The tenant's statement before this one, by the hash of its in-toto Statement."""

    month: MonthName
    sha256: Hash


class CostStatement(Closed, frozen=True, kw_only=True):
    """The record, version 1: what the signatures cover."""

    type: Literal["urn:qcos:cost-statement:v1"]
    version: Literal[1]
    bundle_id: Uuid
    scope: Scope
    evidence_level: Literal["full"]
    month: MonthName
    frozen_at: Time
    closed_at: Time
    lines: Lines
    totals: tuple[Amounts, ...]
    projects: tuple[Spent, ...]
    providers: tuple[Spent, ...]
    cost_centers: tuple[Borne, ...]
    pools: tuple[Pool, ...]
    rate_cards: tuple[Hash, ...]
    allocation: Method | None
    ledger: Position
    previous: Previous | None


class StatementFile(CostStatement, frozen=True, kw_only=True):
    """The file: the record's own members, what proves them, and the method's document where there is one."""

    signatures: Signatures
    proof: Proof
    method: bytes | None

    def record(self) -> CostStatement:
        """The record without its proofs, which is what was signed."""
        return CostStatement(**{name: getattr(self, name) for name in CostStatement.__struct_fields__})


class _Digest(Closed, frozen=True):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Subject(Closed, frozen=True):
    name: str
    digest: _Digest


class _Statement(Closed, frozen=True):
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: Literal["urn:qcos:cost-statement:v1"] = msgspec.field(name="predicateType")
    predicate: CostStatement


_statement = msgspec.json.Decoder(_Statement)
_file = msgspec.json.Decoder(StatementFile)


def statement_bytes(record: CostStatement) -> bytes:
    """The in-toto Statement of a record, as canonical JSON; its subject is the lines file."""
    subject = _Subject(name=f"lines-{record.month}.jsonl", digest=_Digest(sha256=record.lines.sha256[7:]))
    made = _Statement(type=STATEMENT_TYPE, subject=(subject,), predicate_type=PREDICATE_TYPE, predicate=record)
    return canonical.dumps(msgspec.to_builtins(made))


def parse_statement(data: bytes) -> CostStatement:
    """The record of a Statement's bytes; EvidenceInvalid unless `statement_bytes` makes exactly them."""
    record = decode(_statement, data, "statement").predicate
    if statement_bytes(record) != data:
        raise EvidenceInvalid("statement: not in canonical form, or a subject that is not the record's lines")
    return record


def assemble(record: CostStatement, *, signatures: Signatures, proof: Proof, method: bytes | None) -> bytes:
    """The file of a record; tokens in the order that `ledger.bundle.assemble` names."""
    fields: dict[str, Any] = {name: getattr(record, name) for name in CostStatement.__struct_fields__}
    file = StatementFile(**fields, signatures=signatures, proof=proof, method=method)
    return canonical.dumps(msgspec.to_builtins(file))


def looks_like_one(data: bytes) -> bool:
    """Whether a file claims to be a cost statement."""
    return _BEGINS.match(data) is not None


def parse_file(data: bytes) -> StatementFile:
    """The statement of a file's bytes.

    UsageError if it is too large or no JSON; EvidenceInvalid, naming the member, if its members are not exactly those
    of a known version; NotCanonical if the bytes are not the canonical form.
    """
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"a file of {len(data)} bytes; a cost statement has at most {MAX_FILE_BYTES}")
    file = decode(_file, data, "cost statement")
    if canonical.dumps(msgspec.to_builtins(file)) != data:
        raise NotCanonical("the file is not in canonical form (RFC 8785)")
    if file.proof.fold is not UNSET or file.proof.enrolment is not UNSET:
        raise EvidenceInvalid("proof: a member that a cost statement's has not")
    return file
