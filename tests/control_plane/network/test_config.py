# SPDX-License-Identifier: Apache-2.0
"""The `[network]` table: file, environment over it, and refusals that name the key, the value and the wish (N11)."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from control_plane.errors import SettingInvalid
from control_plane.network.config import MEANS, Network, read
from tests.hal_drivers.p2p.adverts import peer

PEER = peer(1).peer_id


def test_each_key_says_what_it_means() -> None:
    assert set(MEANS) == {field.name for field in msgspec.structs.fields(Network)}


def test_a_fabric_that_others_reach_may_announce_itself() -> None:
    assert read({"mdns": True, "listen": ["/ip4/127.0.0.1/tcp/0", "/ip4/10.0.0.1/tcp/0"]}, {}).mdns


def test_the_environment_wins_over_the_file() -> None:
    table = {
        "enabled": False,
        "heartbeat_s": 2,
        "bootstrap": [f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}"],
        "min_fidelity": {"cnot": 0.9},
    }
    variables = {
        "QCOS_NETWORK_ENABLED": "1",
        "QCOS_NETWORK_BOOTSTRAP": f"/ip4/10.0.0.2/tcp/2/p2p/{PEER}, /ip4/10.0.0.3/tcp/3/p2p/{PEER}",
        "QCOS_NETWORK_MIN_FIDELITY": '{"cz": 0.97}',
        "QCOS_NETWORK_MODE": "whole",
        "QCOS_NETWORK_WEIGHT_ENTANGLEMENT": "5",
    }
    found = read(table, variables)
    assert (found.enabled, found.heartbeat_s) == (True, 2.0)
    assert found.bootstrap == (f"/ip4/10.0.0.2/tcp/2/p2p/{PEER}", f"/ip4/10.0.0.3/tcp/3/p2p/{PEER}")
    assert found.planning().min_fidelity_ppm == {"cz": 970_000}
    assert (found.planning().mode, found.planning().weights.entanglement) == ("whole", 5)


@pytest.mark.parametrize(
    ("table", "variables", "named"),
    [
        ({"enabeld": True}, {}, "network.enabeld"),
        ({"enabled": "yes"}, {}, "network.enabled"),
        ({"heartbeat_s": 0}, {}, "network.heartbeat_s"),
        ({"heartbeat_s": math.nan}, {}, "network.heartbeat_s"),
        ({"min_fidelity": {"cnot": 1.1}}, {}, "network.min_fidelity"),
        ({"min_fidelity": {"toffoli": 0.9}}, {}, "network.min_fidelity"),
        ({"listen": []}, {}, "network.listen"),
        ({"listen": ["127.0.0.1:1"]}, {}, "network.listen"),
        ({"bootstrap": ["/ip4/10.0.0.1/tcp/1"]}, {}, "network.bootstrap"),
        ({"bootstrap": ["/ip4/10.0.0.1/tcp/1/p2p/12D3KooWshort"]}, {}, "network.bootstrap"),
        ({}, {"QCOS_NETWORK_HEARBEAT_S": "2"}, "QCOS_NETWORK_HEARBEAT_S"),
        ({"backoff_s": 3}, {}, "network.backoff_s"),
        ({"refresh_s": 60}, {}, "network.refresh_s"),
        ({"retries": 1.5}, {}, "network.retries"),
        ({"mdns": True}, {}, "network.mdns"),
        ({"mdns": True, "listen": ["/ip4/127.0.0.2/tcp/0", "/ip6/::1/tcp/0"]}, {}, "network.mdns"),
        ({"mode": "entangled"}, {}, "network.mode"),
        ({}, {"QCOS_NETWORK_MODE": "half"}, "QCOS_NETWORK_MODE"),
        ({}, {"QCOS_NETWORK_RETRIES": "many"}, "QCOS_NETWORK_RETRIES"),
        ({}, {"QCOS_NETWORK_MDNS": "maybe"}, "QCOS_NETWORK_MDNS"),
        ([], {}, "network"),
    ],
)
def test_what_is_not_understood_stops_the_start(table: Any, variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        read(table, variables)
    assert refused.value.field == named
    assert "wanted" in refused.value.detail
