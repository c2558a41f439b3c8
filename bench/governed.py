# SPDX-License-Identifier: Apache-2.0
"""`make bench-governed`: what governing a job costs, against bare Aer in the same run (design page's cost table).

Prints one Markdown table of medians and ratios; `--json FILE` keeps the figures with machine and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

from bench.bare import Pool
from bench.plane import Plane

CIRCUITS = Path(__file__).parent / "circuits"
SHOTS = 1000
CHILDREN = 2
CLIENTS = 16
WARM = 20


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="bench.governed")
    parser.add_argument("--jobs", type=int, default=300, help="jobs a figure")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    figures = measure(arguments.jobs)
    sys.stdout.write(table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(jobs: int) -> dict[str, object]:
    """Bare and governed, one after the other on the same machine."""
    circuits = {path.stem: path.read_text(encoding="utf-8") for path in sorted(CIRCUITS.glob("*.qasm"))}
    bell, heavy = circuits["bell"], circuits["q12-g50"]
    with Pool(CHILDREN) as pool:
        pool.latencies(bell, SHOTS, WARM)
        bare = pool.latencies(bell, SHOTS, jobs)
        rates = {name: pool.rate(source, SHOTS, jobs) for name, source in circuits.items()}
    with Plane(workers=str(CHILDREN)) as plane:
        plane.latencies(bell, SHOTS, WARM, level="full")
        one, _ = plane.latencies(bell, SHOTS, jobs, level="full")
        _, full = plane.latencies(bell, SHOTS, jobs, level="full", clients=CLIENTS)
        _, standard = plane.latencies(heavy, SHOTS, jobs, level="standard", clients=CLIENTS)
        engine = plane.status["policy_engine"]
    bare_p50 = statistics.median(bare)
    return {
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("qcos-plane", "qiskit", "qiskit-aer", "psycopg", "cryptography")},
        "policy_engine": engine,
        "jobs": jobs,
        "bare_bell_p50_ms": bare_p50 * 1e3,
        "bare_jobs_per_s": rates,
        "governed_bell_p50_ms": statistics.median(one) * 1e3,
        "governed_bell_p99_ms": quantile(one, 0.99) * 1e3,
        "overhead_p50_ms": (statistics.median(one) - bare_p50) * 1e3,
        "overhead_p99_ms": (quantile(one, 0.99) - bare_p50) * 1e3,
        "full_bell_jobs_per_s": full,
        "standard_q12_jobs_per_s": standard,
        "standard_q12_ratio": standard / rates["q12-g50"],
    }


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of all lie at or below."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def table(figures: dict[str, object]) -> str:
    """The rows of the cost table, with their goals."""
    f = {name: value for name, value in figures.items() if isinstance(value, float)}
    rows = [
        ("governed job over bare Aer, bell, p50", f"+ {f['overhead_p50_ms']:.1f} ms", "+ 15 ms"),
        ("governed job over bare Aer, bell, p99", f"+ {f['overhead_p99_ms']:.1f} ms", "+ 60 ms"),
        ("governed ÷ bare jobs/s, 12 qubits / 50 gates, standard", f"{f['standard_q12_ratio']:.2f}", "0.5"),
        ("governed jobs/s, bell, full", f"{f['full_bell_jobs_per_s']:.0f}", "250"),
    ]
    lines = ["| what | measured | goal |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
