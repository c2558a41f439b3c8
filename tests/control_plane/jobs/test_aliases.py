# SPDX-License-Identifier: Apache-2.0
"""A circuit of service aliases goes to a network and to no other backend (N3)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.jobs.accepted import canonical, from_canonical
from control_plane.jobs.routing import Candidate, Wanted, fits
from control_plane.jobs.spec import BackendConstraints, Circuit, JobSpec
from control_plane.jobs.spec import ProgramUnsupported as Unsupported
from control_plane.policy.decision import Decision
from hal_drivers.base import Compiled, CompileRequest
from ledger.canonical import dumps
from tests.control_plane.jobs.desk import Desk, bell, report
from tests.control_plane.jobs.ends import finish
from tests.fakes import FakeDriver

NETWORK = (Path(__file__).parents[3] / "examples" / "network.qasm").read_bytes()
SOURCE = base64.b64encode(NETWORK).decode()


async def network(desk: Desk) -> FakeDriver:
    """A backend that knows the aliases, as its worker reports it."""
    driver = FakeDriver()
    driver.capabilities = msgspec.structs.replace(driver.capabilities, services=True)
    await report(desk, driver)
    desk.plane.known.forget()
    return driver


def aliases(**changes: Any) -> dict[str, Any]:
    return bell(circuit__source=SOURCE, **changes)


async def test_without_a_network_the_submission_is_refused_and_names_the_words(desk: Desk) -> None:
    before = desk.counts()
    with pytest.raises(
        Unsupported, match=r"service aliases \(bell_pair, cnot, cz, distillation, .*has no network"
    ) as no:
        await desk.submit(aliases())
    assert no.value.errors[0]["field"] == "circuit.source"
    assert desk.counts() == before


async def test_with_a_network_it_runs_there_read_as_the_spec_says(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """At admission and again at dispatch; policy sees the words."""
    driver = await network(desk)
    asked: list[CompileRequest] = []
    documents: list[dict[str, Any]] = []
    compile_, decide = driver.compile, desk.plane.pdp.decide

    async def compiling(request: CompileRequest) -> Compiled:
        asked.append(request)
        return await compile_(request)

    async def deciding(document: dict[str, Any], *rest: Any) -> Decision:
        documents.append(document)
        return await decide(document, *rest)

    monkeypatch.setattr(driver, "compile", compiling)
    monkeypatch.setattr(desk.plane.pdp, "decide", deciding)
    job_id = await desk.admitted(circuit__source=SOURCE, circuit__alias_model="swap")
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    assert [request.alias_model for request in asked] == ["swap"]
    assert documents[0]["job"]["services"][0] == "bell_pair"


def test_another_backend_is_excluded_with_the_reason() -> None:
    plain = Candidate("aer", "aer", 20, ("QASM3",), "online", "local", "", True, None, "USD")
    wanted = Wanted(BackendConstraints(), ("QASM3",), services=True)
    assert fits(plain, wanted) == "knows no service aliases"
    assert fits(msgspec.structs.replace(plain, services=True), wanted) == "no price is known"


def test_the_alias_model_is_part_of_the_spec_and_absent_where_nobody_names_one() -> None:
    spec = msgspec.convert(aliases(circuit__alias_model="swap"), JobSpec)
    assert canonical(spec)["circuit"]["alias_model"] == "swap"
    assert from_canonical(dumps(canonical(spec))) == spec
    assert "alias_model" not in canonical(msgspec.convert(aliases(), JobSpec))["circuit"]
    with pytest.raises(msgspec.ValidationError, match="alias_model"):
        msgspec.convert({"format": "QASM3", "source": "QQ==", "alias_model": "keep"}, Circuit)
