# SPDX-License-Identifier: Apache-2.0
"""Obligations: those that are known are read, an unknown one is no decision, and data that hold one are told of."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.policy import data, duties
from control_plane.policy.decision import BackendClass, Decision, EvidenceLevel, PolicyUnavailable
from control_plane.policy.document import Backend
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.opa import OpaEngine
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet, default_folder, load
from tests.control_plane.policy.opa_server import needs_opa, opa_server
from tests.control_plane.policy.sample import BRAKET, NETWORK, document, node

NOW = datetime(2026, 11, 21, tzinfo=UTC)
POLICIES = load()
CLASSES = {"sovereign": {"sovereign": True}, "vendors": {"providers": ["aws-braket"]}, "nowhere": {"zones": ["moon"]}}


def obliging(**rules: Any) -> PolicySet:
    """The shipped policies with these rules."""
    held = {"rules": rules, "backend_classes": CLASSES}
    return replace(POLICIES, data={**POLICIES.data, "obligations": held})


def rule(kind: str, value: str, **when: Any) -> dict[str, Any]:
    return {"kind": kind, "value": value, "because": "it must be", "when": when}


async def decided(policies: PolicySet, doc: dict[str, Any]) -> Decision:
    engine = EmbeddedEngine()
    try:
        return await Pdp(engine, Held(policies)).judge(policies, doc, "d-1", NOW)
    finally:
        await engine.close()


async def test_an_allowed_job_carries_its_obligations_and_shows_them() -> None:
    """G2: which rule, of which file, and why."""
    decision = await decided(obliging(signed=rule("evidence_level", "full", projects=["demo"])), document())
    where = POLICIES.rules["obligations.obliged"]
    assert decision.allow
    assert decision.obligations == (EvidenceLevel(value="full", because="signed: it must be", rule=where),)
    assert decision.document()["obligations"] == [
        {"kind": "evidence_level", "value": "full", "because": "signed: it must be", "rule": where}
    ]


async def test_a_denied_job_is_bound_to_nothing() -> None:
    doc = document(principal__roles=["auditor"])
    decision = await decided(obliging(signed=rule("evidence_level", "full")), doc)
    assert not decision.allow
    assert decision.obligations == ()
    assert "obligations" not in decision.document()


async def test_a_class_leaves_only_its_backends_and_no_node_that_only_another_would_reach() -> None:
    """I8: what a class keeps out receives nothing."""
    doc = document(job__classification="public", backends=[*document()["backends"], BRAKET, NETWORK])
    doc["nodes"] = [node("n1")]
    free = await decided(POLICIES, doc)
    bound = await decided(obliging(home=rule("backend_class", "sovereign")), doc)
    assert free.backends == ("aer", "aws-braket", "p2p")
    assert free.allowed_nodes == ("n1",)
    assert (bound.backends, bound.allowed_nodes) == (("aer",), ())
    assert bound.document()["obligations"][0]["backends"] == ["aer"]  # type: ignore[index]


@pytest.mark.parametrize("of_class", ["vendors", "nowhere", "not there"])
async def test_a_class_that_leaves_nothing_denies_and_says_so(of_class: str) -> None:
    decision = await decided(obliging(away=rule("backend_class", of_class)), document())
    assert (decision.allow, decision.backends, decision.obligations) == (False, (), ())
    (reason,) = decision.reasons
    assert (reason.code, reason.rule) == ("backend_class_unmet", POLICIES.rules["obligations.obliged"])
    assert reason.message.startswith(f"obligations: away: it must be; class {of_class} is ")


@pytest.mark.parametrize(
    ("kind", "value"), [("evidence_level", "golden"), ("dance", "tango"), ("", ""), ("backend-class", "sovereign")]
)
async def test_an_unknown_obligation_is_no_decision_and_is_named(kind: str, value: str) -> None:
    """I5."""
    with pytest.raises(PolicyUnavailable, match="which this plane does not know") as caught:
        await decided(obliging(odd=rule(kind, value)), document())
    assert (kind or "nothing usable") in str(caught.value)
    assert "odd: it must be" in str(caught.value)


async def test_lost_rules_are_no_decision() -> None:
    """I5: without the file nothing would be obliged."""
    left = {name: value for name, value in POLICIES.data.items() if name != "obligations"}
    with pytest.raises(PolicyUnavailable, match="no file of data/ has the key obligations"):
        await decided(replace(POLICIES, data=left), document())


@needs_opa
async def test_both_engines_oblige_alike(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(default_folder(), tmp_path / "policies"))
    obliged = obliging(
        signed=rule("evidence_level", "full", classifications=["internal-restricted"], price_at_least_micros=1),
        home=rule("backend_class", "sovereign", purposes=["production"], departments=[None]),
        never=rule("backend_class", "nowhere", projects=["other"]),
    )
    (folder / "data" / "obligations.json").write_text(json.dumps({"obligations": obliged.data["obligations"]}))
    policies = load(folder)
    embedded = await decided(policies, document())
    with opa_server(folder) as url:
        engine = OpaEngine(url, limit_s=5)
        try:
            decision = await Pdp(engine, Held(policies)).judge(policies, document(), "d-1", NOW)
            assert decision.obligations == embedded.obligations
        finally:
            await engine.close()
    assert [type(one) for one in embedded.obligations] == [BackendClass, EvidenceLevel]


def test_the_stronger_level_wins_and_none_is_ever_lowered() -> None:
    def level(asked: str, *values: Any) -> str:
        return duties.level(asked, [EvidenceLevel(value=value, because="", rule="") for value in values])

    assert [level("standard"), level("full")] == ["standard", "full"]
    assert [level("standard", "full"), level("full", "standard"), level("standard", "standard", "full")] == [
        "full",
        "full",
        "full",
    ]


def test_two_classes_leave_what_both_hold() -> None:
    offered = [
        Backend(id=n, provider="aer", qubits=1, region="", compliance_zone="", sovereign=True, price_micros=0)
        for n in ("a", "b", "c")
    ]
    classes = [
        BackendClass(value=v, because=v, rule="r", backends=b) for v, b in (("x", ("a", "b")), ("y", ("b", "c")))
    ]
    assert duties.narrow(classes, offered, ("a", "b", "c"), ()) == (("b",), (), ())
    assert duties.narrow((), offered, ("a",), ("n",)) == (("a",), ("n",), ())
    assert duties.narrow(classes, offered, (), ()) == ((), (), ())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "rules are a list": ({"rules": [], "backend_classes": {}}, "obligations.rules: "),
    "a rule is a text": ({"rules": {"r": "x"}, "backend_classes": {}}, "obligations.rules.r: "),
    "an unknown kind": ({"rules": {"r": rule("dance", "x")}, "backend_classes": {}}, "obligations.rules.r.kind: "),
    "an unknown level": ({"rules": {"r": rule("evidence_level", "x")}, "backend_classes": {}}, "x is no level"),
    "an unknown class": ({"rules": {"r": rule("backend_class", "x")}, "backend_classes": {}}, "x is none of"),
    "a misspelt condition": (
        {"rules": {"r": rule("evidence_level", "full", project=["p"])}, "backend_classes": {}},
        "obligations.rules.r.when",
    ),
    "an empty condition": (
        {"rules": {"r": rule("evidence_level", "full", projects=[])}, "backend_classes": {}},
        "obligations.rules.r.when.projects: ",
    ),
    "a price as a text": (
        {"rules": {"r": rule("evidence_level", "full", price_at_least_micros="1")}, "backend_classes": {}},
        "obligations.rules.r.when.price_at_least_micros: ",
    ),
    "no reason": (
        {"rules": {"r": rule("evidence_level", "full") | {"because": ""}}, "backend_classes": {}},
        "obligations.rules.r.because: ",
    ),
    "a class with a misspelt demand": ({"rules": {}, "backend_classes": {"c": {"zone": ["z"]}}}, "backend_classes.c"),
    "a class without demands": ({"rules": {}, "backend_classes": {"c": {}}}, "backend_classes.c: it demands nothing"),
}


def told(held: object, **more: bytes) -> str:
    """What is said of a set whose obligations are these."""
    files = dict(POLICIES.files) | {f"schemas/{name}.schema": content for name, content in more.items()}
    files["data/obligations.json"] = json.dumps({"obligations": held}).encode()
    return " ".join(fault.message for fault in data.faults(files))


@pytest.mark.parametrize("name", BAD)
def test_data_that_this_plane_could_not_fulfil_is_told_of(name: str) -> None:
    """I5: `policy check` and a push refuse it, whatever schema the author brings."""
    held, said = BAD[name]
    assert said in told(held)
    assert said in told(held, obligations=b"{}")


def test_sound_data_has_no_faults() -> None:
    held = {"rules": {"r": rule("backend_class", "c", projects=["p"], departments=[None])}}
    assert told(held | {"backend_classes": {"c": {"zones": ["z"]}}}) == ""
    assert told(POLICIES.data["obligations"]) == ""
