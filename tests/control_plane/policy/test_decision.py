# SPDX-License-Identifier: Apache-2.0
"""A decision as a value: the outward code of a denial, and the contract's JSON."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from control_plane.policy.decision import Check, Decision, Reason, problem_code


def denied(*codes: str) -> Decision:
    reasons = tuple(Reason(code=code, level="hard", message=code, rule="budget/budgets.rego:1") for code in codes)
    return Decision(
        id="d-1",
        allow=False,
        checks=(Check(name="budget", result="fail", because="spent", rule="budget/budgets.rego:1"),),
        reasons=reasons,
        backends=(),
        obligations=(),
        policies_applied=("budget-check",),
        policy_revision="sha256:00",
        engine="opa",
        input_hash="sha256:01",
        decided_at=datetime(2026, 11, 21, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("codes", "outward"),
    [
        (("budget_exceeded",), "budget_exceeded"),
        (("budget_missing",), "budget_missing"),
        (("budget_exceeded", "budget_missing"), "budget_missing"),
        (("budget_exceeded", "role_required"), "policy_denied"),
        (("price_unknown",), "policy_denied"),
        ((), "policy_denied"),
    ],
)
def test_only_a_budget_speaking_alone_gives_its_own_code(codes: tuple[str, ...], outward: str) -> None:
    assert problem_code(denied(*codes)) == outward


def test_the_document_is_the_contracts_and_leaves_out_what_no_rule_said() -> None:
    assert denied("budget_exceeded").document() == {
        "id": "d-1",
        "allow": False,
        "checks": [{"name": "budget", "result": "fail", "because": "spent", "rule": "budget/budgets.rego:1"}],
        "reasons": [
            {
                "code": "budget_exceeded",
                "level": "hard",
                "message": "budget_exceeded",
                "rule": "budget/budgets.rego:1",
            }
        ],
        "policy_revision": "sha256:00",
    }
