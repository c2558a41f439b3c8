# SPDX-License-Identifier: Apache-2.0
"""Errors: every code has its words, and no answer shows what it must not (RFC 9457, I10)."""

from __future__ import annotations

import pytest

import control_plane.errors
import finops.errors
import hal_drivers.errors
import ledger.errors
from control_plane.codes import CODES
from control_plane.errors import QcosError, Refused, SettingInvalid, code_of, problem

_TREES = (
    control_plane.errors.QcosError,
    ledger.errors.LedgerError,
    hal_drivers.errors.DriverError,
    finops.errors.FinopsError,
)


def _below(root: type[BaseException]) -> list[type[BaseException]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _below(child))]


@pytest.mark.parametrize("kind", [kind for root in _TREES for kind in _below(root)], ids=lambda kind: kind.__qualname__)
def test_the_code_of_every_error_class_has_its_words(kind: type[BaseException]) -> None:
    assert getattr(kind, "code", "internal") in CODES


def test_a_refusal_names_code_status_and_fields() -> None:
    refusal = Refused("spec_invalid", "shots: 0", errors=({"field": "shots", "message": "0"},), extras={"job_id": "j"})
    status, document = problem(refusal)
    assert status == document["status"] == 400
    assert document["type"] == "urn:qcos:problem:spec_invalid"
    assert document["errors"] == [{"field": "shots", "message": "0"}]
    assert document["job_id"] == "j"


def test_an_unforeseen_error_shows_nothing_of_itself() -> None:
    """I10: the text of an exception may hold a token or a path."""
    status, document = problem(RuntimeError("password=hunter2"))
    assert status == 500
    assert document["code"] == "internal"
    assert "hunter2" not in str(document)


def test_extras_cannot_overwrite_the_members_of_the_document() -> None:
    document = problem(Refused("not_found", "gone", extras={"status": 200, "code": "fine"}))[1]
    assert (document["status"], document["code"]) == (404, "not_found")


def test_a_code_that_nobody_knows_is_internal() -> None:
    assert code_of(Refused("never_heard", "x")) == "internal"


def test_the_ledgers_token_is_not_the_doors() -> None:
    assert code_of(ledger.errors.TokenInvalid("x")) == "timestamp_invalid"


def test_a_setting_names_itself() -> None:
    assert str(SettingInvalid("workers", 0, "1 or more")) == "workers = 0: wanted 1 or more"
    assert isinstance(SettingInvalid("workers", 0, "1"), QcosError)
