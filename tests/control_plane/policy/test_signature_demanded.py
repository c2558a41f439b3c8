# SPDX-License-Identifier: Apache-2.0
"""S1, G2: a rule can demand that a request was signed; the guide's own rule, put where it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.revision import load
from tests.control_plane.policy.sample import document, encoded

GUIDE = Path(__file__).parents[3] / "docs" / "guide-signing.md"
FOLDER = "qcos/attributes/"
SIGNED = {"signed": True, "form": "jose", "alg": "Ed25519", "key_id": "A" * 43}


async def test_the_guides_rule_denies_restricted_work_that_nobody_signed() -> None:
    policies = load()
    (rule,) = re.findall(r"```rego\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    named = policies.modules[FOLDER + "departments.rego"].replace("\t_hours_borne\n", "\t_hours_borne\n\t_signed\n", 1)
    modules = {**policies.modules, FOLDER + "departments.rego": named, FOLDER + "signed.rego": rule}
    demanding = msgspec.structs.replace(policies, modules=modules, revision="demanding")
    engine = EmbeddedEngine()

    async def reasons(classification: str, **more: Any) -> set[str]:
        asked = document()
        asked["job"]["classification"] = classification
        answer: dict[str, Any] = await engine.evaluate(demanding, encoded(asked | more))  # type: ignore[assignment]
        return {reason["code"] for reason in answer["reasons"]}

    try:
        assert "signature_required" in await reasons("restricted")
        assert "signature_required" in await reasons("restricted", envelope=SIGNED | {"signed": "true"})
        assert "signature_required" not in await reasons("restricted", envelope=SIGNED)
        assert "signature_required" not in await reasons("internal")
    finally:
        await engine.close()
