# SPDX-License-Identifier: Apache-2.0
"""What a network job's evidence says of its nodes, judged from it alone: honest, and changed in many ways (I4, I8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hal_drivers.base import CompileRequest, Outcome, Task, Witness
from hal_drivers.p2p import identity
from hal_drivers.p2p.errors import IdentityInvalid
from hal_drivers.p2p.ir import digest
from ledger import nodes, peers
from ledger.bundle import Bundle, parse_bundle
from ledger.canonical import dumps
from ledger.errors import EvidenceInvalid
from ledger.predicate import Artefact
from tests.conformance.driver import HEAD
from tests.hal_drivers.p2p.test_driver import network

VECTORS = Path(__file__).parent.parent / "vectors" / "programs"
GROUPS = HEAD + b"qubit[4] q;\nbit[4] c;\nh q[0];\ncx q[0], q[1];\nh q[2];\ncx q[2], q[3];\nc = measure q;\n"
Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, Outcome]:
    """A plan that ran over real nodes, one of which was gone: the two artefacts, and the outcome."""
    import asyncio

    async def run() -> tuple[bytes, bytes, Outcome]:
        async with network(tmp_path_factory.mktemp("nodes")) as (driver, double):
            request = CompileRequest(format="QASM3", source=GROUPS, parameters={}, backend="p2p", shots=60)
            compiled = await driver.compile(request)
            first = msgspec.json.decode(compiled.artefact)["plan"]["assignments"][0]["primary"]
            next(node for node in double.nodes if node.id == first).desk = None
            double.facts[first] = {"state": "online"}  # nobody has noticed yet
            handle = await driver.submit(compiled, Task(token="t", shots=60, seed=5))
            await driver.poll(handle, 60)
            assert isinstance(driver, Witness)
            (shown,) = await driver.exhibits(handle)
            return compiled.artefact, shown.data, await driver.result(handle)

    return asyncio.run(run())


def bundle(plan: bytes, run: bytes, outcome: Outcome) -> Bundle:
    """A bundle with these artefacts; nothing else of it is judged here."""
    base = parse_bundle((VECTORS / "energies.json").read_bytes())
    result = dumps({"counts": outcome.counts, "shots": outcome.shots_executed, "blocks": []})
    contents = {"plan": plan, "network": run, "result": result}
    listed = tuple(
        Artefact(name=n, media_type="x", sha256=base.input_hash, size=1, carried=True, source="observed")
        for n in contents
    )
    return msgspec.structs.replace(base, artefacts=listed, contents=contents, cost=None)


def judged(made: Bundle) -> dict[str, str]:
    """Each check's detail, an error's beginning with a !."""
    said = {}
    for name, check in nodes.checks(made):
        try:
            said[name] = check()
        except EvidenceInvalid as error:
            said[name] = f"!{error}"
    return said


def test_the_evidence_names_who_ran_what_and_who_was_tried_in_vain(told: tuple[bytes, bytes, Outcome]) -> None:
    said = judged(bundle(*told))
    assert not [detail for detail in said.values() if detail.startswith("!")], said
    by_node = {name: detail for name, detail in said.items() if name.startswith("node:")}
    assert len(by_node) >= 2
    assert any("received" in detail and "unreachable" in detail for detail in by_node.values()), by_node
    assert sum(detail.startswith("ran ") for detail in by_node.values()) >= 1
    assert said["fragments"].endswith("give the counts of 60 shots")


def _fragment(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run["run"]["fragments"][0]
    return found


def _accepted(run: dict[str, Any]) -> dict[str, Any]:
    return next(a for f in run["run"]["fragments"] for a in f["attempts"] if a["status"] == "accepted")


def _flip(text: str) -> str:
    return ("B" if text[0] == "A" else "A") + text[1:]


def _planned_anew(plan: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    """What a plane could do that holds every key of its own: hashes fit again."""
    change(plan)
    for name in ("program", "snapshot", "config"):
        plan["plan"][f"{name}_sha256"] = digest(plan[name])
    del plan["plan"]["plan_id"]
    plan["plan"]["plan_id"] = digest(plan["plan"])


def _tried_in_vain(run: dict[str, Any]) -> dict[str, Any]:
    return next(f for f in run["run"]["fragments"] if f["attempts"][0]["status"] != "accepted")


CHANGES: dict[str, tuple[str, Change]] = {
    "a plan's field": ("plan", lambda plan, _: plan["plan"].update(seed=99)),
    "a plan's id": ("plan", lambda plan, _: plan["plan"].update(plan_id="0" * 64)),
    "the snapshot": ("plan", lambda plan, _: plan["snapshot"]["nodes"][0].update(region="elsewhere")),
    "the configuration": ("plan", lambda plan, _: plan["config"].update(fallbacks=1)),
    "the program": ("plan", lambda plan, _: plan["program"].update(bits=5)),
    "a node outside the plan": (
        "nodes",
        lambda plan, _: plan["plan"]["assignments"][0].update(primary="x", fallbacks=[]),
    ),
    "an attempt in vain left out": ("nodes", lambda _, run: _tried_in_vain(run)["attempts"].pop(0)),
    "fewer nodes allowed": ("nodes", lambda plan, _: plan.update(allowed=[])),
    "a node below the threshold": (
        "nodes",
        lambda plan, _: _planned_anew(plan, lambda p: p["config"].update(default_min_fidelity_ppm=999_999)),
    ),
    "a node that nobody has verified": (
        "nodes",
        lambda plan, _: _planned_anew(
            plan, lambda p: [offer.update(verified_ppm=None) for n in p["snapshot"]["nodes"] for offer in n["offers"]]
        ),
    ),
    "a node that isn't enrolled": (
        "nodes",
        lambda plan, _: _planned_anew(plan, lambda p: p["snapshot"]["nodes"].clear()),
    ),
    "a fragment left out": ("nodes", lambda _, run: run["run"]["fragments"].pop()),
    "a signature": (
        "node:",
        lambda _, run: _accepted(run)["answers"][0].update(signature=_flip(_accepted(run)["answers"][0]["signature"])),
    ),
    "another's answer": ("node:", lambda _, run: _accepted(run)["answers"][0].update(node_id="12D3KooW" + "A" * 44)),
    "a request left out": ("node:", lambda _, run: _accepted(run)["requests"].pop()),
    "the rows": ("fragments", lambda _, run: run.update(rows=_flip(run["rows"]))),
    "the shots": ("fragments", lambda _, run: run.update(shots=59)),
    "endless shots": ("fragments", lambda _, run: run.update(shots=1 << 40)),
    "endless bits": ("fragments", lambda _, run: run.update(bits=1 << 40)),
    "nobody accepted": ("fragments", lambda _, run: _accepted(run).update(status="failed")),
    "no run at all": ("nodes", lambda _, run: run.clear()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_changed_is_found_by_the_check_that_says_so(told: tuple[bytes, bytes, Outcome], what: str) -> None:
    plan, run = json.loads(told[0]), json.loads(told[1])
    name, change = CHANGES[what]
    change(plan, run)
    said = judged(bundle(json.dumps(plan).encode(), json.dumps(run).encode(), told[2]))
    assert any(check.startswith(name) and detail.startswith("!") for check, detail in said.items()), said


@pytest.mark.parametrize("code", ["signature", "request", "fidelity"])
def test_a_node_that_lied_spoils_no_evidence_but_what_its_attempt_was_refused_for(
    told: tuple[bytes, bytes, Outcome], code: str
) -> None:
    """Its false words stand in the record, named; false words for which nothing was refused are a change."""
    run = json.loads(told[1])
    good = _accepted(run)
    for fragment in run["run"]["fragments"]:
        for attempt in fragment["attempts"]:
            if attempt["status"] != "accepted":
                break
        else:
            continue
        break
    false = {**good["answers"][0], "node_id": attempt["node_id"]}
    attempt |= {"status": "refused", "code": code, "answers": [false]}
    if code == "request":  # what the good node was asked, said to the lying one
        attempt |= {"node_id": good["node_id"], "requests": []}
        false["node_id"] = good["node_id"]
    said = judged(bundle(told[0], json.dumps(run).encode(), told[2]))
    detail = said[f"node:{attempt['node_id']}"]
    assert detail.startswith("!") == (code == "fidelity"), detail
    if code != "fidelity":
        assert "1 refused that are no answer of it" in detail


def test_what_a_killed_fabric_had_sent_is_not_said_to_be_nothing(told: tuple[bytes, bytes, Outcome]) -> None:
    run = json.loads(told[1])
    attempt = _tried_in_vain(run)["attempts"][0]
    attempt.update(code="restarted", requests=[], answers=[])
    said = judged(bundle(told[0], json.dumps(run).encode(), told[2]))
    assert "may have received" in said[f"node:{attempt['node_id']}"]
    assert said["nodes"].endswith(", and perhaps 1")
    attempt.update(code="canceled")
    assert (
        "was sent nothing of"
        in judged(bundle(told[0], json.dumps(run).encode(), told[2]))[f"node:{attempt['node_id']}"]
    )


def test_other_counts_than_the_nodes_measured_are_found(told: tuple[bytes, bytes, Outcome]) -> None:
    other = msgspec.structs.replace(told[2], counts={"0000": 60})
    assert judged(bundle(told[0], told[1], other))["fragments"].startswith("!the result's counts")


def test_a_result_of_a_network_without_its_nodes_is_no_evidence(told: tuple[bytes, bytes, Outcome]) -> None:
    made = bundle(*told)
    bare = msgspec.structs.replace(
        made, artefacts=(), execution_metadata=msgspec.structs.replace(made.execution_metadata, method="network")
    )
    assert judged(bare) == {"nodes": "!a network's result without who ran it"}
    assert not judged(msgspec.structs.replace(bare, execution_metadata=made.execution_metadata))


def test_what_is_not_carried_is_said(told: tuple[bytes, bytes, Outcome]) -> None:
    assert judged(msgspec.structs.replace(bundle(*told), contents={})) == {"nodes": nodes.NOT_CARRIED}


@pytest.mark.parametrize("seed", range(8))
def test_a_peer_id_is_read_as_the_plane_reads_it(seed: int) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    me = identity.Identity(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))
    assert peers.public_key(me.peer_id) == identity.public_of(me.peer_id)
    signed = me.sign(b"words")
    peers.check_signature(me.peer_id, signed.body, signed.signature)
    with pytest.raises(EvidenceInvalid, match="not 12D3"):
        peers.check_signature(me.peer_id, b"other words", signed.signature)


@pytest.mark.parametrize("wrong", ["", "1", "Qm" + "a" * 44, "1" * 52, "12D3KooW" + "0" * 44, "2" * 52, "é" * 52])
def test_what_is_no_such_peer_id_is_refused_by_both(wrong: str) -> None:
    with pytest.raises(EvidenceInvalid):
        peers.public_key(wrong)
    with pytest.raises(IdentityInvalid):
        identity.public_of(wrong)
