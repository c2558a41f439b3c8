# SPDX-License-Identifier: Apache-2.0
"""What the fabric's registry costs with ten thousand adverts: CPU time of reading, judging and proving each; what they
take while they are held; a snapshot for planning, and a search (N1, N2, N18).
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.record import Figures, Run, table
from hal_drivers.p2p.identity import Identity
from hal_drivers.p2p.ir import SERVICES, canonical
from hal_drivers.p2p.office import Enrol, Enrolled, Verified
from hal_drivers.p2p.registry import Registry
from hal_drivers.p2p.wire import ADVERT_VERSION, Advert

NODES = 1_430


def measure(run: Run) -> None:
    """One registry, filled once."""
    nodes = [Identity(Ed25519PrivateKey.generate()) for _ in range(NODES // 10 if run.quick else NODES)]
    words = [(node.peer_id, _said(node, number)) for node in nodes for number in range(len(SERVICES))]
    registry = Registry()
    registry.enrol(Enrol(1, tuple(_enrolled(node.peer_id) for node in nodes)))
    gc.collect()
    before_mb, began = _resident_mb(), time.process_time()
    for peer_id, word in words:
        registry.hear(word, peer_id, 0.0)
    heard_s = time.process_time() - began
    held_mb = _resident_mb() - before_mb
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


def _enrolled(peer_id: str) -> Enrolled:
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


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
