# SPDX-License-Identifier: Apache-2.0
"""Crash points: where they stand, who may arm them, and that each fires once (I1, I2, I3)."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from control_plane import crash
from control_plane.errors import SettingInvalid
from control_plane.settings import load

ROOT = Path(__file__).parents[2]
HOMES = {
    "admit": "control_plane/jobs/admit.py",
    "claim": "control_plane/jobs/claim.py",
    "run": "control_plane/jobs/run.py",
    "items": "control_plane/jobs/several.py",
    "approval": "control_plane/jobs/approving.py",
    "gate": "control_plane/jobs/gate.py",
    "settle": "control_plane/jobs/settle.py",
    "control": "control_plane/jobs/control.py",
    "budget": "control_plane/api/budgets.py",
    "erase": "control_plane/retention/acts.py",
    "seal": "ledger/leader.py",
    "stamp": "ledger/stamping.py",
}
CALL = re.compile(r'(?:crash\.point|_at|\bat)\("([a-z.]+)"\)')
REACH = """
import sys
from pathlib import Path
from control_plane import crash
point = crash.watch(Path(sys.argv[1]), sys.argv[2])
for name in sys.argv[3:]:
    point(name)
print("went on")
"""


def reach(home: Path, value: str, *names: str) -> int:
    return subprocess.run([sys.executable, "-c", REACH, str(home), value, *names], check=False, cwd=ROOT).returncode


def test_each_point_is_called_once_where_its_name_says() -> None:
    found: dict[str, list[str]] = {}
    for path in [*(ROOT / "control_plane").rglob("*.py"), *(ROOT / "ledger").rglob("*.py")]:
        for name in CALL.findall(path.read_text(encoding="utf-8")):
            found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert found == {name: [HOMES[name.partition(".")[0]]] for name in crash.POINTS}


def test_a_point_fires_once_by_sigkill_and_what_is_started_again_goes_on(tmp_path: Path) -> None:
    crash.arm(tmp_path, "seal.taken")
    assert reach(tmp_path, "seal.taken", "seal.placed", "seal.taken") == -signal.SIGKILL
    assert reach(tmp_path, "seal.taken", "seal.taken") == 0
    crash.arm(tmp_path, "seal.taken")  # the next `up`
    assert reach(tmp_path, "seal.taken", "seal.taken") == -signal.SIGKILL


def test_the_nth_time_is_counted_in_each_process(tmp_path: Path) -> None:
    crash.arm(tmp_path, "run.kept:3")
    assert reach(tmp_path, "run.kept:3", "run.kept", "run.kept") == 0
    assert reach(tmp_path, "run.kept:3", "run.kept", "run.kept", "run.kept") == -signal.SIGKILL


def test_armed_heeds_what_is_written_later(tmp_path: Path) -> None:
    crash.arm(tmp_path, crash.ARMED)
    assert reach(tmp_path, crash.ARMED, *crash.POINTS) == 0
    (tmp_path / "crash" / "armed").write_text("stamp.stored\n")
    assert reach(tmp_path, crash.ARMED, *crash.POINTS) == -signal.SIGKILL


def test_nothing_set_heeds_nothing(tmp_path: Path) -> None:
    crash.arm(tmp_path, "seal.taken")
    crash.watch(tmp_path, None)("seal.taken")  # this process lives on
    crash.arm(tmp_path, None)
    assert reach(tmp_path, "seal.taken", "seal.taken") == 0


@pytest.mark.parametrize("value", ["run.nowhere", "run.kept:0", "run.kept:", "run.kept:x", "run.kept:1:2", "RUN.KEPT"])
def test_an_unknown_point_is_refused_with_the_list(value: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid) as refused:
        load({"home": tmp_path}, {"QCOS_CRASH_AT": value})
    assert "QCOS_CRASH_AT" in str(refused.value)
    assert all(name in str(refused.value) for name in crash.POINTS)


@pytest.mark.parametrize("profile", ["saas", "dedicated", "onprem", "airgapped"])
def test_other_profiles_refuse_any_point(profile: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="QCOS_CRASH_AT"):
        load({"home": tmp_path}, {"QCOS_CRASH_AT": "run.kept", "QCOS_PROFILE": profile})


def test_a_known_point_is_taken(tmp_path: Path) -> None:
    for value in ("run.kept", "run.kept:12", crash.ARMED):
        assert load({"home": tmp_path}, {"QCOS_CRASH_AT": value}).crash_at == value


def test_no_two_points_mean_the_same() -> None:
    assert max(Counter(crash.POINTS.values()).values()) == 1
