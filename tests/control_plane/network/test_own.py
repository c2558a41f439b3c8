# SPDX-License-Identifier: Apache-2.0
"""What `up --nodes N` waits for, and when it gives up: nodes that nobody can tell the worth of (N8, N11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.errors import StartFailed
from control_plane.network.config import Network
from control_plane.network.own import OwnNetwork
from control_plane.settings import Settings
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.office import AskSnapshot, SnapshotIs
from hal_drivers.p2p.plan import NodeFacts, Snapshot
from tests.hal_drivers.p2p.fabric_double import FabricDouble
from tests.hal_drivers.p2p.programs import node


def unverified(found: NodeFacts) -> NodeFacts:
    """The same, before its last service was probed."""
    last = msgspec.structs.replace(found.offers[-1], verified_ppm=None)
    return msgspec.structs.replace(found, state="unverified", offers=(*found.offers[:-1], last))


def _nothing(*_: object, **__: object) -> Any:
    raise AssertionError("this test starts no process")


async def waited(tmp_path: Path, office: Office, double: FabricDouble, *nodes: NodeFacts, **network: Any) -> int:
    """How many of these own nodes are online once the wait is over."""
    settings = Settings(home=tmp_path, network=Network(enabled=True, **network), start_limit_s=0.3)
    double.replies[AskSnapshot] = lambda _: SnapshotIs(Snapshot(nodes), "00")
    own = OwnNetwork(settings, _nothing, _nothing)
    return await own._until_probed(office, {one.node_id for one in nodes})


async def test_a_node_that_is_never_verified_keeps_the_plane_from_starting(
    tmp_path: Path, office: Office, double: FabricDouble
) -> None:
    with pytest.raises(StartFailed, match=r"not verified.*: n1 \(unverified\)$"):
        await waited(tmp_path, office, double, node("n0"), unverified(node("n1")))


async def test_a_bad_judgement_is_one_and_none_is_waited_for_where_nobody_probes(
    tmp_path: Path, office: Office, double: FabricDouble
) -> None:
    assert await waited(tmp_path, office, double, node("n0"), node("n1", state="degraded")) == 1
    assert await waited(tmp_path, office, double, unverified(node("n1")), probe_s=0) == 0
