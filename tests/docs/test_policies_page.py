# SPDX-License-Identifier: Apache-2.0
"""docs/policies.md and the shipped policies agree: codes, rules, and examples that the schemas allow (G2)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from control_plane.policy import data
from control_plane.policy.decision import REQUIRED
from control_plane.policy.revision import load
from tests.docs.policy_codes import said

PAGE = (Path(__file__).parents[2] / "docs/policies.md").read_text("utf-8")
POLICIES = load()
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def test_each_rule_that_denies_and_each_code_is_on_the_page() -> None:
    denying = {f"{one.package}.{one.rule}" for one in said()}
    assert denying == {rule for rule in POLICIES.rules if not rule.endswith(".allow")} - {"obligations.obliged"}
    # What an obligation asks to have approved is the plane's own reason, and on docs/obligations.md.
    assert {one.code for one in said()} == set(POLICIES.data["reasons"]) - {"approval_required"}
    assert all(f"`{rule}`" in PAGE for rule in denying)


def test_each_check_and_each_limit_is_on_the_page() -> None:
    checks = {name for demanded in REQUIRED.values() for name in demanded}
    assert {name for name in checks if f"\n## {name}\n" not in PAGE} == set()
    assert {name for name in POLICIES.data["limits"]["default"] if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_is_data_that_could_be_pushed(example: str) -> None:
    held = json.loads("{" + example + "}")
    if "projects" in held:
        held = {"limits": POLICIES.data["limits"] | held}
    files = {f"data/{key}.json": json.dumps({key: value}).encode() for key, value in held.items()}
    assert data.faults({**POLICIES.files, **files}) == []
