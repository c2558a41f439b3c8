# SPDX-License-Identifier: Apache-2.0
"""`make bench-backends`: what a driver costs beside its engine, what a pool yields, what routing and cancelling take.

Governed jobs are pinned to one backend after the other of one plane (a remote simulator in a process of its own among
them), level `standard`; "directly" is the vendor's own library in a process without a plane, warm: read, compile, run.
Pools and the Dask cluster are driven through the drivers themselves, without a plane, two tasks in flight a child.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import direct
from bench.plane import Plane, spec
from bench.record import Figures, Run, main, table
from bench.spread import in_ms
from control_plane.jobs.routing import Candidate, Wanted, route
from control_plane.jobs.spec import BackendConstraints
from hal_drivers.base import CompileRequest, Driver, Finished, Running, Task
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.table import open_drivers, running

CIRCUITS = Path(__file__).parent / "circuits"
BELL, MIDDLE = "bell", "q5-g40"
SHOTS = 1000
BACKENDS = 1000
POOLS = (1, 2, 4)
ENGINES = {"aer": "aer", "braket-local": "braket", "ibm-fake": "ibm", "remote-aer": "aer"}
REMOTE = """
default_backends = true

[[backend]]
id = "remote-aer"
provider = "remote"
region = "lab"
compliance_zone = "onprem"
sovereign = true
url = "{url}"
ca = "{ca}"
credential = "remote-aer"
"""
LONG = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[12] q;\nbit[12] c;\n'
    + "h q[0];\nrx(0.3) q[1];\nc[0] = measure q[0];\nreset q[0];\n" * 50
    + "c = measure q;\n"
)
CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def measure(run: Run) -> None:
    """Routing first, then pools, then whole planes."""
    run.keep(routing=_routing(200 if run.quick else 2000))
    window_s = 2.0 if run.quick else 10.0
    run.keep(pools=[asyncio.run(_pool(children, window_s)) for children in POOLS])
    run.keep(dask=_dask(window_s))
    run.keep(cancel=asyncio.run(_cancel(3 if run.quick else 20)))
    run.say("pools, cancelling and routing are measured")
    run.keep(drivers=_governed(run, 5 if run.quick else 40))


def source(name: str) -> str:
    """The text of a reference circuit."""
    return (CIRCUITS / f"{name}.qasm").read_text(encoding="ascii")


# ---- routing


def _routing(times: int) -> Figures:
    candidates = [_candidate(number) for number in range(BACKENDS)]
    wanted = Wanted(BackendConstraints(min_qubits=5), ("QASM3",), qubits=2, shots=SHOTS)
    allowed = frozenset(candidate.id for candidate in candidates)
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        found = route(candidates, wanted, allowed)
        took.append(time.perf_counter() - begun)
        if found.chosen is None or len(found.considered) != BACKENDS:
            raise RuntimeError("routing chose nothing")
    return {"backends": BACKENDS, "ms": in_ms(took)}


def _candidate(number: int) -> Candidate:
    return Candidate(
        id=f"backend-{number:04d}",
        provider=("aer", "aws-braket", "ibm-quantum", "remote")[number % 4],
        qubits=4 + number % 60,
        formats=("QASM2", "QASM3"),
        state="offline" if number % 17 == 0 else "online",
        region="here",
        compliance_zone="onprem",
        sovereign=True,
        price=Decimal(number % 97) / 100 + Decimal("0.10"),
        currency="USD",
        queue_s=number % 31,
        survival=1 - number % 13 / 1000,
        succeeded=number % 7,
        ended=number % 9,
    )


# ---- pools


def _driver(children: int, cluster: str | None = None) -> dict[str, Driver]:
    backend = BackendConfig(id="aer", cluster=cluster)
    return open_drivers(DriversConfig(backends=(backend,), children=children))


async def _task(driver: Driver, text: str, token: str, *, shots: int = SHOTS) -> float:
    begun = time.perf_counter()
    request = CompileRequest(format="QASM3", source=text.encode(), parameters={}, backend="aer", shots=shots)
    handle = await driver.submit(await driver.compile(request), Task(token=token, shots=shots, seed=7))
    while not isinstance(await driver.poll(handle, 60), Finished):
        pass
    outcome = await driver.result(handle)
    if outcome.shots_executed != shots:
        raise RuntimeError("shots are missing")
    await driver.forget(handle)
    return time.perf_counter() - begun


async def _flow(drivers: dict[str, Driver], children: int, window_s: float) -> Figures:
    driver, text = drivers["aer"], source(MIDDLE)
    async with running(drivers):
        for number in range(2 * children):
            await _task(driver, text, f"warm-{number}")
        alone = [await _task(driver, text, f"alone-{number}") for number in range(10)]
        until, ended = time.perf_counter() + window_s, 0

        async def client(name: int) -> None:
            nonlocal ended
            number = 0
            while time.perf_counter() < until:
                await _task(driver, text, f"{name}-{number}")
                number, ended = number + 1, ended + 1

        begun = time.perf_counter()
        await asyncio.gather(*(client(name) for name in range(2 * children)))
        return {"children": children, "per_s": ended / (time.perf_counter() - begun), "alone_ms": in_ms(alone)}


async def _pool(children: int, window_s: float) -> Figures:
    return await _flow(_driver(children), children, window_s)


def _dask(window_s: float) -> Figures:
    with _cluster() as address:
        return asyncio.run(_flow(_driver(1, address), 2, window_s))


@contextmanager
def _cluster() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "cluster.py"
        script.write_text(CLUSTER, encoding="ascii")
        cluster = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True
        )
        assert cluster.stdout is not None
        assert cluster.stdin is not None
        try:
            yield cluster.stdout.readline().strip().replace("tcp://", "dask://")
        finally:
            cluster.stdin.close()
            cluster.wait(60)


async def _cancel(times: int) -> Figures:
    """From the call to the word that nothing runs any more, and how much later the next task is done."""
    drivers = _driver(1)
    driver, stopped, after, calm = drivers["aer"], [], [], []
    async with running(drivers):
        await _task(driver, source(BELL), "warm")
        for number in range(times):
            calm.append(await _task(driver, source(BELL), f"calm-{number}"))
            request = CompileRequest(format="QASM3", source=LONG.encode(), parameters={}, backend="aer", shots=10**6)
            handle = await driver.submit(await driver.compile(request), Task(token=f"long-{number}", shots=10**6))
            while not isinstance(await driver.poll(handle, 0.002), Running):
                pass
            begun = time.perf_counter()
            await driver.cancel(handle)
            stopped.append(time.perf_counter() - begun)
            after.append(await _task(driver, source(BELL), f"after-{number}"))
    return {"stopped_ms": in_ms(stopped), "calm_ms": in_ms(calm), "after_ms": in_ms(after)}


# ---- whole planes


def _governed(run: Run, jobs: int) -> list[Figures]:
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder, _simulator(Path(folder) / "far") as far:
        config = Path(folder) / "qcos.toml"
        config.write_text(REMOTE.format(url=far["url"], ca=far["certificate"]), encoding="ascii")
        with Plane(config=str(config), profile="dev") as plane:
            plane.cli("backends", "credential", "set", "remote-aer", "--from-file", far["token_file"])
            offered = _online(plane)
            for name, engine in ENGINES.items():
                if name not in offered:
                    run.say(f"{name} is not online: {offered}")
                    continue
                alone = direct.seconds(engine, source(BELL), SHOTS, jobs)
                body: dict[str, Any] = json.loads(spec(source(BELL), SHOTS, "standard"))
                body["execution"]["backend_constraints"] = {"backend": name}
                with plane.client() as client:
                    asked = json.dumps(body).encode()
                    for _ in range(3):
                        client.job(asked)
                    governed = [client.job(asked)[0] for _ in range(jobs)]
                costs = in_ms(governed), in_ms(alone)
                rows.append({"backend": name, "governed_ms": costs[0], "direct_ms": costs[1]})
                run.say(f"{name}: {costs[0]['p50']:.1f} ms governed, {costs[1]['p50']:.1f} ms directly")
    return rows


def _online(plane: Plane) -> list[str]:
    for _ in range(100):
        found = [row["id"] for row in plane.cli("backends", "list") if row["state"] == "online"]
        if ENGINES.keys() <= set(found):
            break
        time.sleep(0.3)
    return found


@contextmanager
def _simulator(home: Path) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "control_plane.cli", "simulator", "serve", "--home", str(home), "--port", "0"]
    served = subprocess.Popen([*command, "--insecure-walls", "--json"], stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    try:
        yield json.loads(served.stdout.readline())
    finally:
        served.terminate()
        served.wait(60)


def tables(figures: Figures) -> dict[str, str]:
    """Drivers, pools, and the small ones in one."""
    made = {}
    if rows := figures.get("drivers"):
        lines = [
            f"| {row['backend']} | {row['direct_ms']['p50']:.1f} ({row['direct_ms']['p99']:.1f}) "
            f"| {row['governed_ms']['p50']:.1f} ({row['governed_ms']['p99']:.1f}) "
            f"| {row['governed_ms']['p50'] - row['direct_ms']['p50']:+.1f} |"
            for row in rows
        ]
        made["backends-drivers"] = table("| bell | directly, ms: p50 (p99) | governed, ms | by p50 |", lines)
    if pools := figures.get("pools"):
        first = pools[0]["per_s"]
        places = [(f"{pool['children']} children here", pool) for pool in pools]
        places += [("a Dask cluster of 2 processes", figures["dask"])] if "dask" in figures else []
        lines = [
            f"| {place} | {pool['per_s']:.0f} | {pool['per_s'] / first:.2f} | {pool['alone_ms']['p50']:.1f} |"
            for place, pool in places
        ]
        head = "| 5 qubits / 40 gates, compiled and run | tasks/s | of one child's | alone, ms |"
        made["backends-pools"] = table(head, lines)
    if "cancel" in figures:
        cancel = figures["cancel"]
        whats = {
            "routing among 1,000 backends": (figures["routing"]["ms"], "2"),
            "cancel, until nothing runs any more": (cancel["stopped_ms"], ""),
            "a bell": (cancel["calm_ms"], ""),
            "a bell right after a cancel": (cancel["after_ms"], ""),
        }
        lines = [f"| {what} | {ms['p50']:.2f} ({ms['p99']:.2f}) | {goal} |" for what, (ms, goal) in whats.items()]
        made["backends-others"] = table("| what | ms: p50 (p99) | goal |", lines)
    return made


if __name__ == "__main__":
    main("backends", measure, tables)
