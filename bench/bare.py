# SPDX-License-Identifier: Apache-2.0
"""Bare Aer, as a careful user would run it without a plane: a pool of spawned processes, warm, one thread each.

Each job parses its source, compiles it with a kept pass manager and runs it: what a governed job does too.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import cache
from typing import Any, Self

from bench.window import Flow, Window

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@cache
def _engine() -> tuple[Any, Any]:
    from qiskit.transpiler import generate_preset_pass_manager
    from qiskit_aer import AerSimulator

    simulator = AerSimulator(max_parallel_threads=1)
    return simulator, generate_preset_pass_manager(optimization_level=1, backend=simulator)


def job(task: tuple[str, int]) -> float:
    """Run (source, shots); the seconds it took in its process."""
    from qiskit import qasm3

    source, shots = task
    begun = time.perf_counter()
    simulator, passes = _engine()
    circuit = passes.run(qasm3.loads(source))
    counts = simulator.run(circuit, shots=shots, seed_simulator=7).result().get_counts()
    if sum(counts.values()) != shots:
        raise ValueError("shots are missing")
    return time.perf_counter() - begun


class Pool:
    """Warm processes; use as a context."""

    def __init__(self, children: int) -> None:
        """Start `children` processes with one thread each."""
        self.children = children
        os.environ.update(dict.fromkeys(THREADS, "1"))
        self._pool = multiprocessing.get_context("spawn").Pool(children)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def latencies(self, source: str, shots: int, count: int) -> list[float]:
        """Seconds of each job, one after the other, the way to the pool and back included."""
        found = []
        for _ in range(count):
            begun = time.perf_counter()
            self._pool.apply(job, ((source, shots),))
            found.append(time.perf_counter() - begun)
        return found

    def flow(self, source: str, shots: int, ramp_s: float, window_s: float) -> Window:
        """Jobs a second with every child busy: two are asked of each at any time, so that none waits for its next."""

        def work() -> float:
            begun = time.perf_counter()
            self._pool.apply(job, ((source, shots),))
            return time.perf_counter() - begun

        return Flow([lambda: work] * (2 * self.children)).run(ramp_s, window_s)
