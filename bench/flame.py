# SPDX-License-Identifier: Apache-2.0
"""`make bench-flame`: where the CPU of the hot path goes, as flame graphs of API, worker and sealer under load.

Wants py-spy (`pip install py-spy`), which looks into running processes from outside; without it this is skipped by
name. Sampling stops a process for a moment each time, so no other figure is taken meanwhile. Only time on a CPU is
shown: what waits isn't sampled.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from bench.governed import CHILDREN, CLIENTS, SHOTS, circuits
from bench.machine import ROOT
from bench.plane import Plane
from bench.record import Figures, Run, main, table
from bench.stacks import by_package, picture, stacks

PARTS = ("api-1", "worker-1", "sealer")
RATE_HZ = 250
KEPT = ROOT / "bench" / "results"


def measure(run: Run) -> None:
    """One load, recorded in each part at the same time."""
    seconds = 3 if run.quick else 12
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        run.keep(skipped="py-spy is not here (pip install py-spy)")
        return
    with Plane(workers=str(CHILDREN)) as plane, tempfile.TemporaryDirectory(prefix="qcos-flame-") as folder:
        pids = {process["name"]: process["pid"] for process in plane.status["processes"]}
        raws = {part: Path(folder) / f"{part}.txt" for part in PARTS}
        faults: list[str] = []

        def record() -> None:
            spies = [
                subprocess.Popen(
                    [
                        spy,
                        "record",
                        "-f",
                        "raw",
                        "-r",
                        str(RATE_HZ),
                        "-d",
                        str(seconds),
                        "-o",
                        str(raw),
                        "-p",
                        str(pids[part]),
                    ],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for part, raw in raws.items()
            ]
            faults.extend(
                said for one in spies if (said := one.communicate(timeout=seconds + 60)[1]) and one.returncode
            )

        recorder = threading.Thread(target=record)
        source = circuits()["bell"]
        plane.flow(source, SHOTS, level="full", clients=CLIENTS, ramp_s=0.5, window_s=0.5)
        recorder.start()
        window = plane.flow(source, SHOTS, level="full", clients=CLIENTS, ramp_s=0.5, window_s=seconds + 1)
        recorder.join()
        if faults:
            run.keep(skipped=f"py-spy may not look into processes here: {faults[0].strip().splitlines()[-1][:200]}")
            return
        run.keep(
            jobs_per_s_meanwhile=window.rate, packages={part: by_package(raws[part].read_text()) for part in PARTS}
        )
        _draw(run, {part: raws[part].read_text() for part in PARTS})


def _draw(run: Run, raws: dict[str, str]) -> None:
    """Beside the figures; where these are the documented ones, among the documentation's pictures."""
    folder = ROOT / "docs" / "img" if run.path.parent.resolve() == KEPT else run.path.parent
    for part, raw in raws.items():
        name = part.removesuffix("-1")
        samples = sum(count for _, count in stacks(raw))
        title = f"Where {part} spends its CPU: bell, level full, {CLIENTS} in flight, {samples:,} samples"
        desc = "A frame's width is its share of the samples; its callers lie below. Each tooltip tells its share."
        (folder / f"flame-{name}.svg").write_text(picture(raw, title, desc), encoding="utf-8")
        run.say(f"{folder.name}/flame-{name}.svg")


def tables(figures: Figures) -> dict[str, str]:
    """Share of CPU by the package that was running, a part a column."""
    if "skipped" in figures:
        return {"flame": f"Skipped: {figures['skipped']}.\n"}
    if not (packages := figures.get("packages")):
        return {}
    names = sorted(
        {n for of in packages.values() for n in of}, key=lambda n: -sum(of.get(n, 0) for of in packages.values())
    )
    rows = [
        f"| {name} | {' | '.join(f'{packages[part].get(name, 0):.0%}' for part in PARTS)} |"
        for name in names
        if max(packages[part].get(name, 0) for part in PARTS) >= 0.01
    ]
    return {"flame": table(f"| running | {' | '.join(PARTS)} |", rows)}


if __name__ == "__main__":
    main("flame", measure, tables)
