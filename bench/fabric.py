# SPDX-License-Identifier: Apache-2.0
"""What a fabric and a node take, and what a request costs that is nothing but a request (decision 10, N1, N18).

The fabric runs in a process that does nothing else, the node is `qcos node run`. Pings go over a kept stream, one after
the other: libp2p there and back, signed by the node, and so the least that any request to a node can take. Then as many
adverts are heard as a network of 1,430 nodes has, by the function that gossip calls.
"""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import processes
from bench.hearing import enrolled, everybody
from bench.machine import ROOT
from bench.record import Figures, Run, table
from bench.spread import in_ms, quantile
from hal_drivers.p2p.office import Enrol
from hal_drivers.p2p.wire import Ping

LIMIT_S = 300
FIRST = 1_000_000
"""The fabric's own heartbeats count from 1, and no request is asked twice on one stream."""


def measure(run: Run) -> None:
    """A fabric, one node."""
    with tempfile.TemporaryDirectory(prefix="qcos-bench-") as folder:
        words = [sys.executable, "-m", "bench.fabric", folder, *(["quick"] if run.quick else [])]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT)
        if done.returncode or not done.stdout:
            raise RuntimeError(f"the fabric ended: {done.stderr.strip()[-500:]}")
        run.keep(fabric=json.loads(done.stdout.splitlines()[-1]))


def tables(figures: Figures) -> dict[str, str]:
    """Memory, and a request."""
    if "fabric" not in figures:
        return {}
    found = figures["fabric"]
    rows = [
        f"| the fabric, with one node | {found['fresh_mb']:.0f} |",
        f"| the fabric, {found['adverts']:,} adverts more | {found['full_mb']:.0f} |",
        f"| a node | {found['node_mb']:.0f} |",
        f"| its {found['children']} children | {found['children_mb']:.0f} |",
    ]
    asked = found["request_ms"]
    return {
        "network-memory": table("| resident | MB |", rows),
        "network-request": table(
            "| a request on a kept stream | ms: p50, p95 |",
            [f"| heartbeat, signed and read | {asked['p50']:.2f}, {asked['p95']:.2f} |"],
        ),
    }


async def _fabric(folder: Path, *, quick: bool) -> None:
    import trio

    from hal_drivers.p2p import fabric, identity
    from hal_drivers.p2p.asking import Limits

    me = identity.make(folder / "fabric.pem")
    options = fabric.FabricOptions(listen=("/ip4/127.0.0.1/tcp/0",))
    async with fabric.running(me, options, Limits(), folder / "fabric", folder / "sock") as running:
        with _node(folder, running.addresses()[0]) as (node_id, pid):
            await running.answer(Enrol(1, (enrolled(node_id),)))
            with trio.fail_after(LIMIT_S / 2):
                while running.look().nodes[0].state != "online":  # noqa: ASYNC110 - the registry has no event
                    await trio.sleep(0.05)
            took = []
            for number in range(100 if quick else 2_000):
                begun = time.perf_counter()
                await running.calls.ask(node_id, Ping(FIRST + number), 10.0)
                took.append(time.perf_counter() - begun)
            found: Figures = {"request_ms": in_ms(took) | {"p95": 1_000 * quantile(took, 0.95)}, "fresh_mb": _own_mb()}
            said = everybody(quick=quick)
            await running.answer(Enrol(2, (enrolled(node_id), *(enrolled(one) for one in {one for one, _ in said}))))
            for peer_id, word in said:
                running.registry.hear(word, peer_id, trio.current_time())
            found |= {"adverts": len(said), "full_mb": _own_mb()}
            children = processes.below(pid)
            found |= {"node_mb": processes.resident_mb(pid), "children": len(children)}
            found["children_mb"] = sum(map(processes.resident_mb, children))
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


@contextlib.contextmanager
def _node(folder: Path, bootstrap: str) -> Iterator[tuple[str, int]]:
    words = ["node", "run", "--home", str(folder / "node"), "--bootstrap", bootstrap, "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "control_plane.cli", *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as node:
        try:
            assert node.stdout is not None
            told: dict[str, Any] = json.loads(node.stdout.readline())
            yield str(told["node_id"]), node.pid
        finally:
            node.kill()


def _own_mb() -> float:
    gc.collect()
    return processes.resident_mb(processes.SELF)


if __name__ == "__main__":
    import trio

    warnings.simplefilter("ignore")  # libp2p's, where it is imported
    trio.run(lambda: _fabric(Path(sys.argv[1]), quick="quick" in sys.argv[2:]))
