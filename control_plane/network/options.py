# SPDX-License-Identifier: Apache-2.0
"""From the plane's settings to those of its fabric and of the nodes that it starts itself (N11)."""

from __future__ import annotations

from pathlib import Path

from control_plane.network.config import Network
from control_plane.network.enrolment import Proposal
from control_plane.settings import Settings
from hal_drivers.p2p.asking import Limits

BOOTSTRAP = "QCOS_NODE_BOOTSTRAP"
"""Where an own node finds its plane: the fabric's addresses, separated by commas."""
OWN_FIDELITY = 0.995
"""Of each service of the plane's own nodes: what they advertise, and what they have."""
OWN_CAPACITY, OWN_CHILDREN = 4, 2
"""Windows overlap more than work does: most of one is never used, and jobs that meet mustn't turn each other away."""


def limits(network: Network) -> Limits:
    """How long the runtime waits, and how often it tries."""
    return Limits(
        reserve_s=network.reserve_limit_s,
        commit_s=network.reserve_limit_s,
        cancel_s=network.control_limit_s,
        default_execute_s=network.execute_limit_s,
        retries=network.retries,
        backoff_s=network.backoff_s,
        backoff_most_s=network.backoff_most_s,
    )


def fabric_home(settings: Settings) -> Path:
    """Where the fabric keeps its key, its journal, its runs and the port it has."""
    return settings.home / "network"


def node_home(settings: Settings, name: str) -> Path:
    """Where an own node keeps its key and what it did."""
    return settings.home / "nodes" / name


def own_proposal(peer_id: str) -> Proposal:
    """What the plane says of a node of its own: it stands where the plane does, and costs nothing."""
    return Proposal(
        peer_id=peer_id,
        organisation="qcos",
        region="local",
        compliance_zone="onprem",
        sovereign=True,
        price_per_fragment="0",
        price_per_shot="0",
        currency="USD",
    )
