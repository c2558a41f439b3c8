# SPDX-License-Identifier: Apache-2.0
"""Peers, enrolments and adverts for tests of the network."""

from __future__ import annotations

from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hal_drivers.p2p.identity import Identity
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.office import Enrol, Enrolled, Verified
from hal_drivers.p2p.wire import Advert


def peer(number: int) -> Identity:
    """The same identity for the same number."""
    return Identity(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


def enrolled(who: Identity | str, **fields: Any) -> Enrolled:
    """An approved node, all of whose services were found good unless said otherwise."""
    given = Enrolled(
        peer_id=who if isinstance(who, str) else who.peer_id,
        state="approved",
        organisation="Lab",
        region="eu-central",
        compliance_zone="eu",
        sovereign=True,
        price_per_fragment="0.01",
        price_per_shot="0.0001",
        currency="USD",
        verified=(Verified("cnot", 990_000),),
    )
    return msgspec.structs.replace(given, **fields)


def enrol(*peers: Enrolled, version: int = 1) -> Enrol:
    return Enrol(version, peers)


def advert(who: Identity, **fields: Any) -> Advert:
    given = Advert(
        version=1,
        node_id=who.peer_id,
        listen_addrs=("/ip4/127.0.0.1/tcp/4001",),
        service_type="cnot",
        fidelity=0.995,
        qubit_min=1,
        qubit_max=16,
        availability=1.0,
        updated_at="2026-11-21T10:00:00Z",
        serial=1,
        ttl_s=20,
    )
    return msgspec.structs.replace(given, **fields)


def said(who: Identity, **fields: Any) -> bytes:
    """A signed advert as it travels."""
    return canonical(who.sign(canonical(advert(who, **fields))))
