# SPDX-License-Identifier: Apache-2.0
"""Each fault of the network ends as docs/network-faults.md says: right on a fallback, or by name (N5, N7, N14, I8).

A whole plane with nodes of its own, real processes over libp2p; what a fault is, the node is told, the process is sent
or a hostile peer does. `test_partition` plays the rows that need a network of their own.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from hal_drivers.p2p.faults import Fault
from hal_drivers.p2p.office import AskStanding, CancelReservation, ReserveWindow
from tests.docs.played import ROOT, codes, rows
from tests.faults.clocks import Clocks
from tests.faults.hostile import Hostile
from tests.faults.network import LIAR, MEMORY_KB, SLOW, Stage, act, below, enroll, gone, own_nodes
from tests.faults.test_partition import CUT_OFF, WAYS
from tests.hal_drivers.p2p.adverts import peer
from tests.hal_drivers.p2p.peers import Peer
from tests.own_plane import until

PAGE = ROOT / "docs" / "network-faults.md"
DAY_S = 86_400.0
Play = Callable[[Stage, ExitStack], str]


@dataclass(frozen=True)
class Case:
    """`first`: codes of which the first attempt ends with one, accepted where there is none; the others are told."""

    play: Play
    first: str = ""
    journal: str = ""
    ledger: str = ""
    state: str = "COMPLETED"


def does(*faults: Fault) -> Play:
    """The first node is told to do so."""

    def play(stage: Stage, _stack: ExitStack) -> str:
        stage.spoil(*faults)
        return stage.submit()

    return play


def while_working(happens: Callable[[Stage, str], None]) -> Play:
    """Something happens to the first node while it has the work."""

    def play(stage: Stage, _stack: ExitStack) -> str:
        node = stage.spoil(SLOW)
        job = stage.submit()
        stage.working(node)
        happens(stage, node)
        return job

    return play


def _killed(stage: Stage, node: str) -> None:
    stage.signal(node, signal.SIGKILL)


def _stopped(stage: Stage, node: str) -> None:
    pid = stage.pid(node)
    os.kill(pid, signal.SIGSTOP)
    stage.after.append(partial(os.kill, pid, signal.SIGCONT))


def _suspended(stage: Stage, node: str) -> None:
    act(stage, node, "suspend")
    stage.after.append(partial(act, stage, node, "approve"))


def _fabric_killed(stage: Stage, _node: str) -> None:
    ended = gone(stage.fabric)
    os.kill(stage.fabric, signal.SIGKILL)
    until(ended, "the fabric has ended")


def skewed(name: str, seconds: float) -> Play:
    """A clock jumps while the first node works."""

    def shift(stage: Stage, node: str) -> None:
        if stage.clocks is None:
            pytest.skip("cc: a C compiler makes the wrong clock")
        who = stage.homes[node].name if name == "node" else name
        stage.clocks.shift(who, seconds)
        stage.after.append(partial(stage.clocks.shift, who, 0))

    def play(stage: Stage, _stack: ExitStack) -> str:
        node = stage.spoil(Fault("slow", value=1.0, times=1))
        job = stage.submit()
        stage.working(node)
        shift(stage, node)
        return job

    return play


def windows_taken(stage: Stage, _stack: ExitStack) -> str:
    """All windows of the first node are somebody else's."""
    node = stage.first
    for number in range(4):
        taken = stage.office(ReserveWindow(f"taken-{number}", node, ("cnot",), 2, 0, 60_000, 60_000))
        assert taken.state in {"PREPARED", "COMMITTED"}, taken
        stage.after.append(partial(stage.office, CancelReservation(f"taken-{number}")))
    return stage.submit()


def nobody_right(stage: Stage, _stack: ExitStack) -> str:
    for node in stage.homes:
        stage.spoil(Fault("garbage"), node=node)
    return stage.submit()


def _bootstrap(stage: Stage) -> tuple[str, ...]:
    return tuple(stage.office(AskStanding()).listen_addrs)


def lies(how: str) -> Play:
    """A node that joined, was found good, and then sends this instead of a result."""

    def play(stage: Stage, stack: ExitStack) -> str:
        number = below(stage.known())
        folder = stage.plane.home.parent / f"liar-{how}"
        liar = stack.enter_context(Hostile("liar", folder, number=number, config=LIAR, bootstrap=_bootstrap(stage)))
        node = liar.begun()["peer_id"]
        enroll(stage, node)
        stage.after.append(partial(act, stage, node, "revoke"))
        until(lambda: stage.first == node, "it is found good")
        (folder / "lies").write_text(how)
        return stage.submit()

    return play


LOUD = {"flood": 301, "words": 302, "streams": 303}


def loud(what: str) -> Play:
    """An enrolled peer that says too much, while a job runs."""

    def play(stage: Stage, stack: ExitStack) -> str:
        number = LOUD[what]
        enroll(stage, peer(number).peer_id)
        stage.after.append(partial(act, stage, peer(number).peer_id, "revoke"))
        folder = stage.plane.home.parent / what
        hostile = Hostile("loud", folder, number=number, what=what, bootstrap=_bootstrap(stage))
        stack.enter_context(hostile)
        hostile.begun()
        return stage.submit()

    return play


def intruder(role: str) -> Play:
    """Somebody claims to be the first node, while it is away and its place is free."""

    def play(stage: Stage, stack: ExitStack) -> str:
        folder = stage.plane.home.parent / role
        thief = stack.enter_context(Peer(role, folder, victim=stage.first, bootstrap=_bootstrap(stage)))
        assert thief.begun()["refused"]
        return stage.submit()

    return play


def stranger(stage: Stage, stack: ExitStack) -> str:
    folder = stage.plane.home.parent / "stranger"
    node = Hostile("liar", folder, number=77, config=LIAR, bootstrap=_bootstrap(stage))
    stack.enter_context(node).begun()
    until(lambda: "peer:refused not_enrolled" in stage.journal(), "it is refused")
    assert peer(77).peer_id not in stage.known()
    return stage.submit()


FAILED, REFUSED, REJECTED = "attempt:failed", "attempt:refused", "reservation:rejected"
GONE = f"{FAILED}, peer:disconnected"
LATE, NOT_TAKEN = "network:answer:late", "network:answer:refused"
WRONG = ", ".join(
    f"advert:rejected {why}"
    for why in (
        "version",
        "signature",
        "ttl",
        "time",
        "range",
        "not_enrolled",
        "not_an_advert",
        "too_large",
        "replayed",
    )
)

CASES: dict[str, Case] = {
    "it is killed with the work": Case(while_working(_killed), "unreachable", GONE),
    "it is stopped with the work": Case(while_working(_stopped), "late, unreachable", f"{FAILED}, peer:unreachable"),
    "it dies before it answers": Case(does(Fault("crash", times=1)), "unreachable, late", GONE),
    "it is slow": Case(does(Fault("slow", value=600.0)), "over_time", FAILED),
    "it receives and says nothing": Case(does(Fault("deaf")), "late", FAILED),
    "it answers late": Case(does(Fault("late", value=8.0)), "late", f"{FAILED}, answer:late", LATE),
    "it answers twice": Case(does(Fault("twice")), "", "answer:late", LATE),
    "it answers garbage": Case(does(Fault("garbage")), "unreachable, late", FAILED),
    "it lies: another's signature": Case(does(Fault("wrong_signature")), "signature", REFUSED, NOT_TAKEN),
    "it lies: the answer to something else": Case(does(Fault("other_request")), "request", REFUSED, NOT_TAKEN),
    "it lies: of another epoch": Case(does(Fault("other_epoch")), "epoch", REFUSED, NOT_TAKEN),
    "it lies: a row too few": Case(does(Fault("wrong_shots")), "shots", REFUSED, NOT_TAKEN),
    "it lies: rows too wide": Case(does(Fault("wrong_width")), "rows", REFUSED, NOT_TAKEN),
    "it lies: bits that the circuit hasn't": Case(does(Fault("stray_bits")), "rows", REFUSED, NOT_TAKEN),
    "its fidelity has fallen": Case(does(Fault("spike", value=0.6)), "fidelity", REFUSED, NOT_TAKEN),
    "it announces a frame without end": Case(lies("endless"), "unreachable, late", FAILED),
    "it sends as much as a frame may hold": Case(lies("huge"), "answer", REFUSED, NOT_TAKEN),
    "it refuses": Case(does(Fault("refuse", on="reserve")), "busy", REJECTED),
    "its windows are taken": Case(windows_taken, "window_taken", REJECTED),
    "no node answers right": Case(nobody_right, "unreachable, late", "run:failed", state="FAILED"),
    "it is suspended with the work": Case(while_working(_suspended), "refused", GONE, "network:peer:suspended"),
    "the fabric is killed while a node works": Case(while_working(_fabric_killed), "restarted", "journal:opened"),
    "a node's clock jumps a day ahead": Case(skewed("node", DAY_S)),
    "a node's clock jumps a day back": Case(skewed("node", -DAY_S)),
    "the fabric's clock jumps a day ahead": Case(skewed("fabric", DAY_S)),
    "the fabric's clock jumps a day back": Case(skewed("fabric", -DAY_S)),
    "a peer floods adverts": Case(loud("flood")),
    "a peer's adverts are wrong": Case(loud("words"), journal=WRONG),
    "a peer opens streams without end": Case(loud("streams")),
    "a stranger comes": Case(stranger, journal="peer:refused not_enrolled"),
    "a node's id is claimed over plaintext": Case(intruder("plaintext")),
    "a node's id is claimed with its public key": Case(intruder("stolen")),
}


def words(text: str) -> set[str]:
    return {word for word in text.split(", ") if word}


def test_the_page_has_the_rows_that_are_played() -> None:
    """Every row of the page is a case here or in `test_partition`, and says what that demands."""
    cases = {name: (case.first, case.state, case.journal, case.ledger) for name, case in CASES.items()}
    cases |= {name: (how, "COMPLETED", CUT_OFF if how else "", "") for name, (_, how) in WAYS.items()}
    page = {name: cells for name, *cells in rows(PAGE, 5)}
    assert page.keys() == cases.keys()
    for name, (first, state, journal, ledger) in cases.items():
        assert page[name][1] == state, name
        found = [codes(page[name][cell]) for cell in (0, 2, 3)]
        assert found == [words(first) or {"accepted"}, words(journal), words(ledger)], name


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("network")
    names = [*(f"node-{number}" for number in range(1, 5)), "fabric"]
    clocks = Clocks(folder / "clocks", *names) if shutil.which("cc") or shutil.which("gcc") else None
    with own_nodes(folder, 4, clocks) as made:
        yield made


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", CASES)
def test_a_fault_ends_as_the_page_says(stage: Stage, tmp_path: Path, fault: str) -> None:
    case = CASES[fault]
    with ExitStack() as stack:
        stage.begin()
        stack.callback(stage.undo)
        job_id = case.play(stage, stack)
        job = stage.ended(job_id)
        assert job["state"] == case.state, job["error"]
        until(lambda: words(case.journal) <= stage.journal(), f"the journal tells: {case.journal}")
        until(lambda: words(case.ledger) <= stage.ledger(), f"the ledger tells: {case.ledger}")
        assert stage.grown_kb() < MEMORY_KB
    checks = stage.verified(job_id, tmp_path)
    if case.state == "FAILED":
        assert job["error"]["code"] == "backend_failed"
        assert "fragment f1: " in job["error"]["detail"]
        return
    (ran,) = stage.http("GET", f"jobs/{job_id}/result")["fragment_results"]
    first = ran["attempts"][0]
    assert (first["error"]["code"] in words(case.first)) if case.first else first["error"] is None, first
    assert case.first or ran["node"] == first["node"]
    assert f"node:{first['node']}" in checks, "who received anything stands in the evidence"
    epochs = [attempt["epoch"] for attempt in ran["attempts"]]
    assert epochs == sorted(set(epochs))
