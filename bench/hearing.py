# SPDX-License-Identifier: Apache-2.0
"""What the fabric's registry costs with ten thousand adverts: CPU time of reading, judging and proving each; what they
take while they are held; a snapshot for planning, and a search (N1, N2, N18).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.processes import SELF, resident_mb
from bench.record import Figures, Run, table
from hal_drivers.p2p.identity import Identity
from hal_drivers.p2p.ir import SERVICES, canonical
from hal_drivers.p2p.office import Enrol, Enrolled, Verified
from hal_drivers.p2p.registry import Registry
from hal_drivers.p2p.wire import ADVERT_VERSION, Advert

NODES = 1_430


def measure(run: Run) -> None:
    """One registry, filled once."""
    words = everybody(quick=run.quick)
    registry = Registry()
    registry.enrol(Enrol(1, tuple(enrolled(peer_id) for peer_id in dict(words))))
    gc.collect()
    before_mb, began = resident_mb(SELF), time.process_time()
    for peer_id, word in words:
        registry.hear(word, peer_id, 0.0)
    heard_s = time.process_time() - began
    held_mb = resident_mb(SELF) - before_mb
    run.keep(
        hearing={
            "adverts": registry.held(),
            "heard_per_s": len(words) / heard_s,
            "held_mb": held_mb,
            "snapshot_ms": _took_ms(lambda: registry.snapshot(1.0)),
            "find_ms": _took_ms(lambda: registry.find("cnot", 900_000, 0, 1.0)),
        }
    )


def tables(figures: Figures) -> dict[str, str]:
    """One row."""
    if "hearing" not in figures:
        return {}
    found = figures["hearing"]
    row = " | ".join(
        [
            f"{found['adverts']:,}",
            f"{found['heard_per_s']:,.0f}",
            f"{found['held_mb']:.1f}",
            f"{found['snapshot_ms']:.1f}",
            f"{found['find_ms']:.1f}",
        ]
    )
    head = "| adverts | heard a second of CPU | MB held | snapshot, ms | find by service, ms |"
    return {"network-hearing": table(head, [f"| {row} |"])}


def _took_ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1_000


def everybody(*, quick: bool) -> list[tuple[str, bytes]]:
    """Who says what: an advert of each node and service, signed."""
    nodes = [Identity(Ed25519PrivateKey.generate()) for _ in range(NODES // 10 if quick else NODES)]
    return [(node.peer_id, _said(node, number)) for node in nodes for number in range(len(SERVICES))]


def _said(node: Identity, number: int) -> bytes:
    advert = Advert(
        version=ADVERT_VERSION,
        node_id=node.peer_id,
        listen_addrs=("/ip4/127.0.0.1/tcp/4001",),
        service_type=SERVICES[number],
        fidelity=0.995,
        qubit_min=1,
        qubit_max=20,
        availability=1.0,
        updated_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        serial=number + 1,
        ttl_s=60,
    )
    return canonical(node.sign(canonical(advert)))


def enrolled(peer_id: str) -> Enrolled:
    """An approved node whose services were all found good."""
    return Enrolled(
        peer_id=peer_id,
        state="approved",
        organisation="Lab",
        region="eu",
        compliance_zone="eu",
        sovereign=True,
        price_per_fragment="0.01",
        price_per_shot="0",
        currency="USD",
        verified=tuple(Verified(service, 990_000) for service in SERVICES),
    )
