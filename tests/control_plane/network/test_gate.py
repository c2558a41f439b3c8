# SPDX-License-Identifier: Apache-2.0
"""The dispatch gate and the nodes of a plan: policy sees them as they are now; nothing gets by outside (I5, I8)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from control_plane.jobs import gate
from control_plane.jobs.evidence import Submitted
from control_plane.jobs.gate import Chosen, Stopped
from control_plane.jobs.routing import Candidate
from control_plane.network.acts import acted
from control_plane.network.enrolment import Asked
from control_plane.policy.document import Plan
from hal_drivers.base import CompileRequest
from tests.control_plane.jobs.desk import Desk, report
from tests.control_plane.network.test_enrolment import ADMIN, NOW, OTHER, PEER, approved
from tests.fakes import FakeDriver

NETWORK = Candidate("fake", "p2p", 32, ("QASM3",), "online", "network", "", False, Decimal("0.1"), "USD")


class Gate:
    """A claimed job that was routed to a network, at the gate with some plan."""

    def __init__(self, desk: Desk, driver: FakeDriver, classification: str) -> None:
        self.desk, self.driver, self.classification = desk, driver, classification

    async def passes(self, *nodes: str, planned: bool = True) -> list[str]:
        """The nodes that the newest decision allows; Stopped where the gate stays shut."""
        await report(self.desk, self.driver)
        await self.desk.admitted(governance__classification="internal")
        (claimed,) = await self.desk.claim()
        judged: dict[str, Any] = msgspec.json.decode(claimed.submitted.decision_input)
        judged["job"] |= {"classification": self.classification, "allowed_providers": ["p2p"]}
        judged["backends"] = [judged["backends"][0] | {"provider": "p2p", "compliance_zone": "", "sovereign": False}]
        judged["backends"][0]["region"] = "network"
        for name in ("nodes", "plan"):
            judged.pop(name)  # as recorded by a program that knew no network
        submitted = Submitted(claimed.submitted.spec, msgspec.json.encode(judged))
        compiled = await self.driver.compile(CompileRequest("QASM3", b"OPENQASM 3;", {}, "fake", 100))
        plan = Plan("p" * 64, "whole", 1, nodes) if planned else None
        self.desk.plane.known.forget()
        spec, chosen = claimed.spec, Chosen(NETWORK, [], "")
        await gate.judge(self.desk.plane, claimed.row, spec, compiled, submitted, chosen, plan)
        rows = self.desk.sql("SELECT pending FROM ledger.inbox ORDER BY id DESC LIMIT 1")
        told = msgspec.json.decode(rows[0][0])
        assert told["kind"] == "policy:decision:allow"
        allowed: list[str] = told["body"]["allowed_nodes"]
        return allowed


@pytest.fixture
async def enrolled(desk: Desk) -> Desk:
    """One node on premise, one in the cloud."""
    await approved(desk)
    await approved(desk, OTHER, compliance_zone="us-east", sovereign=False)
    return desk


async def test_the_decision_of_the_gate_names_the_nodes_that_are_allowed(enrolled: Desk) -> None:
    """I8: of all approved those in a zone of the classification; the plan lies inside them."""
    assert await Gate(enrolled, FakeDriver(), "internal-restricted").passes(PEER) == [PEER]


async def test_public_work_may_go_to_each(enrolled: Desk) -> None:
    assert await Gate(enrolled, FakeDriver(), "public").passes(PEER, OTHER) == [PEER, OTHER]


@pytest.mark.parametrize("nodes", [(OTHER,), (PEER, OTHER), ("12D3KooWstranger",), ()])
async def test_a_plan_with_one_node_outside_is_stopped(enrolled: Desk, nodes: tuple[str, ...]) -> None:
    """I8: a fallback outside is outside."""
    with pytest.raises(Stopped, match="planned over") as stopped:
        await Gate(enrolled, FakeDriver(), "internal-restricted").passes(*nodes)
    assert stopped.value.code == "policy_denied"


async def test_a_node_that_was_suspended_since_is_out(enrolled: Desk) -> None:
    await acted(enrolled.plane.engine, ADMIN, PEER, Asked("suspend"), NOW)
    with pytest.raises(Stopped, match="has no node there") as stopped:
        await Gate(enrolled, FakeDriver(), "internal-restricted").passes(PEER)
    assert stopped.value.code == "policy_denied"


async def test_a_job_of_the_network_without_a_plan_goes_nowhere(enrolled: Desk) -> None:
    """I5."""
    with pytest.raises(Stopped, match="no plan") as stopped:
        await Gate(enrolled, FakeDriver(), "public").passes(planned=False)
    assert stopped.value.code == "policy_denied"
