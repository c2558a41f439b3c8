# SPDX-License-Identifier: Apache-2.0
"""A circuit with the vendor's own library, without a plane: read, compile, run, again and again in one warm process."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from bench import bare

Work: TypeAlias = Callable[[], Any]


def seconds(engine: str, text: str, shots: int, jobs: int) -> list[float]:
    """Seconds of each job with the vendor's own library, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: list[float] = pool.apply(_alone, (engine, text, shots, jobs))
        return found


def _alone(engine: str, text: str, shots: int, jobs: int) -> list[float]:
    work = {"aer": _by_aer, "braket": _by_braket, "ibm": _by_ibm}[engine](text, shots)
    for _ in range(3):
        work()
    took = []
    for _ in range(jobs):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return took


def _by_aer(text: str, shots: int) -> Work:
    return lambda: bare.job((text, shots))


def _by_braket(text: str, shots: int) -> Work:
    from braket.devices import LocalSimulator
    from braket.ir.openqasm import Program

    device = LocalSimulator("braket_sv")
    text = (
        "OPENQASM 3.0;\nqubit[2] q;\nbit[2] c;\nh q[0];\ncnot q[0], q[1];\nc[0] = measure q[0];\nc[1] = measure q[1];\n"
    )
    return lambda: device.run(Program(source=text), shots=shots).result().measurement_counts


def _by_ibm(text: str, shots: int) -> Work:
    from qiskit import qasm3
    from qiskit.transpiler import generate_preset_pass_manager
    from qiskit_ibm_runtime import SamplerV2
    from qiskit_ibm_runtime.fake_provider import FakeHanoiV2

    backend = FakeHanoiV2()
    passes = generate_preset_pass_manager(optimization_level=1, backend=backend, seed_transpiler=7)
    sampler = SamplerV2(mode=backend)
    return lambda: sampler.run([passes.run(qasm3.loads(text))], shots=shots).result()
