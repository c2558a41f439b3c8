# SPDX-License-Identifier: Apache-2.0
"""Runs over libp2p between real processes: they end right, on a fallback where they must (N5, N6, N7, I8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hal_drivers.p2p.faults import Fault, write_faults
from hal_drivers.p2p.ir import SERVICES, Program
from hal_drivers.p2p.office import (
    AskResult,
    AskSnapshot,
    Enrol,
    ForgetRun,
    Poll,
    Probe,
    ReserveWindow,
    RunIs,
    RunResult,
    Submit,
    Verified,
)
from hal_drivers.p2p.plan import Plan, PlanConfig
from hal_drivers.p2p.planner import plan
from tests.hal_drivers.p2p.adverts import enrol, enrolled, peer
from tests.hal_drivers.p2p.nodes import BELL
from tests.hal_drivers.p2p.peers import Network, Peer, until
from tests.hal_drivers.p2p.runs import FED

CONFIG = PlanConfig(fallbacks=2)
PERFECT = {"skills": {service: {"advertised": 1.0, "true": 1.0} for service in SERVICES}}
VERIFIED = tuple(Verified(service, 995_000) for service in SERVICES)


def _everybody(version: int = 1, revoked: str | None = None) -> Enrol:
    ids = [peer(number).peer_id for number in (1, 2, 3)]
    states = ["revoked" if one == revoked else "approved" for one in ids]
    return enrol(
        *(enrolled(one, verified=VERIFIED, state=state) for one, state in zip(ids, states, strict=True)),
        version=version,
    )


class Lab(Network):
    """Three nodes that are perfect and were found so."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack)
        self.office.ask(_everybody())
        self.nodes: dict[str, Peer] = {}

    def populate(self) -> None:
        config = {**PERFECT, "control": True}
        begun = [self.add("node", number=number, config=config) for number in (1, 2, 3)]
        self.nodes = {node.begun()["peer_id"]: node for node in begun}
        until("all are online, and every service of theirs was heard", self._whole)

    def _whole(self) -> bool:
        nodes = self.office.ask(AskSnapshot()).snapshot.nodes
        return all(one.state == "online" and len(one.offers) == len(SERVICES) for one in nodes)

    def planned(self, program: Program) -> Plan:
        made = plan(program, self.office.ask(AskSnapshot()).snapshot, CONFIG, 5, None, shots=40)
        assert isinstance(made, Plan)
        return made

    def submit(self, program: Program, made: Plan, token: str = "job-1") -> None:
        assert isinstance(self.office.ask(Submit(token, program, made, CONFIG, 40, 5, 60_000)), RunIs)

    def told(self, kind: str, node_id: str, token: str = "job-1") -> bool:
        return any((e.kind, e.node_id, e.token) == (kind, node_id, token) for e in self.events())

    def kinds_of(self, token: str, up_to: str) -> list[str]:
        """What the journal tells of this run, once it has come so far: it tells what is durable."""
        kinds: list[str] = [event.kind for event in self.events() if event.token == token]
        return kinds if kinds[-1:] == [up_to] else []

    def ended(self, token: str = "job-1") -> RunIs:
        def over() -> RunIs | None:
            found: RunIs = self.office.ask(Poll(token, 1000))
            return found if found.state in {"finished", "failed", "canceled"} else None

        found: RunIs = until("the run is over", over)
        return found

    def right(self, token: str = "job-1") -> RunIs:
        """All three bits agree in each shot: the fed qubit is flipped by the recorded bit."""
        run = self.ended(token)
        assert run.state == "finished", run
        result = self.office.ask(AskResult(token))
        assert isinstance(result, RunResult)
        assert set(result.rows) == {0, 7}
        assert len(result.rows) == 40
        return result.run


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


def test_a_plan_a_window_and_a_probe_over_libp2p(lab: Lab) -> None:
    lab.populate()
    lab.submit(FED, lab.planned(FED))
    run = lab.right()
    assert {len(fragment.attempts) for fragment in run.fragments} == {1}
    assert all(attempt.answers and attempt.requests for f in run.fragments for attempt in f.attempts)
    lab.office.ask(ForgetRun("job-1"))
    told = until("its end is in the journal", lambda: lab.kinds_of("job-1", up_to="run:finished"))
    assert told[0] == "run:submitted"
    assert told.count("attempt:accepted") == 2

    node = next(iter(lab.nodes))
    window = lab.office.ask(ReserveWindow("w-1", node, ("cnot",), 2, 0, 60_000, 5_000))
    assert window.state in {"PREPARED", "COMMITTED"}
    probed = lab.office.ask(Probe("p-1", max(lab.nodes), BELL, ("bell_pair",), 20, 3, 20_000))
    assert (probed.code, set(probed.rows)) in [(None, {0, 3}), ("window_taken", set())]


def test_a_node_that_is_killed_or_revoked_while_it_works_is_replaced(lab: Lab) -> None:
    lab.populate()
    for number, token in enumerate(("killed", "revoked"), 1):
        made = lab.planned(FED)
        first = made.assignments[0].primary
        write_faults(lab.nodes[first].folder / "faults.json", (Fault("slow", value=600.0),))
        lab.submit(FED, made, token)
        until("it is on its way", lambda f=first, t=token: lab.told("attempt:started", f, t))
        if token == "killed":
            lab.nodes[first].process.kill()
        else:
            lab.office.ask(_everybody(number, revoked=first))
        run = lab.right(token)
        assert run.fragments[0].node_id not in {None, first}
        assert run.fragments[0].attempts[0].node_id == first


@pytest.mark.faults
def test_a_fabric_that_is_killed_while_a_run_goes_on_goes_on_with_it(lab: Lab) -> None:
    lab.populate()
    made = lab.planned(FED)
    first = made.assignments[0].primary
    write_faults(lab.nodes[first].folder / "faults.json", (Fault("slow", value=1.0, times=1),))
    lab.submit(FED, made)
    until("it is on its way", lambda: lab.told("attempt:started", first))
    lab.again()
    lab.office.ask(_everybody())
    run = lab.right()
    epochs = [[attempt.epoch for attempt in fragment.attempts] for fragment in run.fragments]
    assert all(one == sorted(set(one)) for one in epochs), "epochs only rise"
