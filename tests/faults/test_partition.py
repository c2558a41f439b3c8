# SPDX-License-Identifier: Apache-2.0
"""Rows of docs/network-faults.md that need a network of their own: cut, half-open, slow and lossy links, and mDNS (N7).

The plane and each node have a network namespace; the cable between them is cut without a word to either side.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hal_drivers.p2p.office import AskStanding
from tests.faults.namespaces import CUT, PLANE, Cable, Namespaces, ended
from tests.faults.network import MEMORY_KB, SETTINGS, SLOW, Stage, act, enroll
from tests.own_plane import OwnPlane, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
EITHER = "late, unreachable"
"""Whichever is noticed first: no answer within its limit, or heartbeats that stay away."""
CUT_OFF = "attempt:failed, peer:unreachable"
NODES = 3


class Lab:
    """The stage, and each node's cable by id."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.spaces = Namespaces(stack)
        listen = f'enabled = true\nmdns = true\nlisten = ["/ip4/{PLANE}/tcp/0"]\n'
        self._plane = OwnPlane(folder / "home", config=SETTINGS + listen)
        self._plane.prefix = self.spaces.plane
        stack.enter_context(self._plane.running())
        self.stage = Stage(self._plane, {})
        self.cables: dict[str, Cable] = {}

    def add(self, number: int, *flags: str) -> list[str]:
        """So many labs' nodes, enrolled; their ids."""
        return [self._enrolled(*begun) for begun in [self._begin(*flags) for _ in range(number)]]

    def _begin(self, *flags: str) -> tuple[subprocess.Popen[bytes], Path, Cable]:
        within, address, cable = self.spaces.add()
        home = self._folder / f"lab-{address}"
        words = ["node", "run", "--home", str(home), "--listen", f"/ip4/{address}/tcp/0", "--capacity", "4"]
        log = self._stack.enter_context((self._folder / f"{address}.log").open("wb"))
        node = subprocess.Popen(
            [*within, sys.executable, "-m", "control_plane.cli", *words, "--fault-file", "--json", *flags],
            env=self._plane.environment,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        self._stack.callback(ended, node)
        return node, home, cable

    def _enrolled(self, node: subprocess.Popen[bytes], home: Path, cable: Cable) -> str:
        assert node.stdout is not None
        node_id = str(json.loads(node.stdout.readline())["node_id"])
        enroll(self.stage, node_id)
        self.stage.homes[node_id], self.cables[node_id] = home, cable
        return node_id

    def where(self) -> str:
        """The fabric's address, as a bootstrap list takes it."""
        return str(self.stage.office(AskStanding()).listen_addrs[0])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        made = Lab(tmp_path_factory.mktemp("partition"), stack)
        made.add(NODES, "--bootstrap", made.where())
        yield made


def cut_while_working(cut: Callable[[Cable], None]) -> Callable[[Lab], tuple[str, str]]:
    """(node, job): the cable of the first node, once it has the work."""

    def play(lab: Lab) -> tuple[str, str]:
        node = lab.stage.spoil(SLOW)
        job = lab.stage.submit()
        lab.stage.working(node)
        cut(lab.cables[node])
        return node, job

    return play


def cut_before(cut: Callable[[Cable], None]) -> Callable[[Lab], tuple[str, str]]:
    def play(lab: Lab) -> tuple[str, str]:
        node = lab.stage.first
        cut(lab.cables[node])
        return node, lab.stage.submit()

    return play


WAYS = {
    "it is cut off with the work": (cut_while_working(lambda cable: cable.does(CUT, CUT)), EITHER),
    "half open: it hears and isn't heard": (cut_while_working(lambda cable: cable.does(None, CUT)), EITHER),
    "half open: it is heard and doesn't hear": (cut_while_working(lambda cable: cable.does(CUT, None)), EITHER),
    "its link takes 200 ms a way": (cut_before(lambda cable: cable.does({"delay": 0.2}, {"delay": 0.2})), ""),
    "its link loses a tenth": (cut_before(lambda cable: cable.does({"drop": 0.1}, {"drop": 0.1})), ""),
}


@pytest.mark.parametrize("fault", WAYS)
def test_a_link_that_fails_costs_no_job_and_its_node_comes_back(lab: Lab, tmp_path: Path, fault: str) -> None:
    play, codes = WAYS[fault]
    stage = lab.stage
    stage.begin()
    try:
        node, job_id = play(lab)
        job = stage.ended(job_id)
        assert job["state"] == "COMPLETED", job["error"]
        if codes:
            until(lambda: set(CUT_OFF.split(", ")) <= stage.journal(), "the journal tells")
    finally:
        for cable in lab.cables.values():
            cable.heal()
    checks = stage.verified(job_id, tmp_path)
    first, *others = _attempts(stage, job_id)
    assert f"node:{node}" in checks
    assert (first["node"], bool(others)) == (node, bool(codes))
    assert (first["error"]["code"] in codes.split(", ")) if codes else first["error"] is None
    until(lambda: node in stage.usable(), "it is back", 120.0)
    assert stage.grown_kb() < MEMORY_KB
    stage.spoil(node=node)
    again = stage.submit()
    assert stage.ended(again)["state"] == "COMPLETED"
    assert [one["node"] for one in _attempts(stage, again)] == [node], "as if nothing had been"


def _attempts(stage: Stage, job_id: str) -> list[dict[str, Any]]:
    (ran,) = stage.http("GET", f"jobs/{job_id}/result")["fragment_results"]
    return list(ran["attempts"])


def test_a_node_without_a_list_finds_its_plane_by_mdns(lab: Lab) -> None:
    """N1: it was told whom to serve, not where; who else announces is not dialled."""
    [node] = lab.add(1, "--mdns", "--plane", lab.where().rpartition("/")[2])
    until(lambda: node in lab.stage.usable(), "found, heard and verified")
    act(lab.stage, node, "suspend")
    del lab.stage.homes[node]
