# SPDX-License-Identifier: Apache-2.0
"""The benches say what they measured (N18): spread, turns, tables; each has its command and its place."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench import governed, processes, record, report
from bench.machine import ROOT
from bench.plane import spec
from bench.record import Run, rounded
from bench.spread import quantile, spread
from bench.window import Flow
from control_plane.jobs import reading

PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert (quantile(values, 0.99), quantile(values, 0.25), quantile([7.0], 0.99)) == (99.0, 25.0, 7.0)
    assert spread([3.0, 1.0, 2.0, 4.0])["p50"] == 2.5


def test_each_meets_early_and_late_alike() -> None:
    turns = governed.mirrored(["bare", "standard", "full"], 2)
    places = {name: [at for at, turn in enumerate(turns) if turn == name] for name in turns}
    assert {sum(found) / len(found) for found in places.values()} == {5.5}


def test_only_what_ends_in_the_window_counts() -> None:
    ended: list[float] = []

    def make() -> object:
        def work() -> float:
            ended.append(time.perf_counter())
            threading.Event().wait(0.005)
            return 1.0

        return work

    window = Flow([make, make]).run(0.05, 0.1)  # type: ignore[list-item]
    assert 0 < len(window.latencies_s) < len(ended)
    assert window.seconds >= 0.1


def test_a_clients_fault_is_raised_and_ends_the_rest() -> None:
    def broken() -> float:
        raise RuntimeError("a job did not complete")

    with pytest.raises(RuntimeError, match="did not complete"):
        Flow([lambda: broken, lambda: lambda: 1.0]).run(30, 30)


def test_what_was_measured_survives_an_interruption(tmp_path: Path) -> None:
    run = Run("governed", tmp_path, quick=True)
    run.keep(latency={"bell": 1 / 3})
    kept = json.loads((tmp_path / "governed.json").read_text())
    assert (kept["latency"]["bell"], kept["complete"]) == (0.33333, False)
    assert not {"host", "user", "path"} & kept["machine"].keys()
    assert rounded({"a": [1.23456789, 7]}) == {"a": [1.2346, 7]}


def test_an_interrupted_bench_keeps_and_tells_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--out", str(tmp_path)])
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def measure(run: Run) -> None:
        run.keep(found=7)
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        record.main("half", measure, lambda figures: {"half": f"| {figures['found']} |\n"})
    told = capsys.readouterr().out
    assert ended.value.code == 130
    assert "| 7 |" in told
    assert "interrupted: not all of it" in told
    assert json.loads((tmp_path / "half.json").read_text())["complete"] is False


def test_a_process_is_known_with_what_it_has_used() -> None:
    sum(n * n for n in range(300_000))
    used = processes.own(memory=True)
    assert used.processes == 1
    assert used.cpu_s > 0
    assert used.rss_mb >= used.pss_mb > 1


def test_the_circuits_are_the_frozen_ones_and_their_spec_is_valid() -> None:
    for source in governed.circuits().values():
        assert reading.parse(spec(source, 1000, "full")).shots == 1000


def test_each_bench_is_a_command_of_its_own() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"governed", "memory"} <= set(report.names())
    for name in report.names():
        assert re.search(rf"(?m)^bench-{name}:.*## ", makefile), name
        assert f"`make bench-{name}`" in PAGE, name


def test_every_table_that_is_kept_stands_in_the_page() -> None:
    for name in report.tables():
        assert f"<!-- {name} -->" in PAGE, name


def test_an_unknown_bench_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no bench nothing" in done.stderr
