# SPDX-License-Identifier: Apache-2.0
"""Hostile bundles and trust files end in 1 or 2 with a reason, in little memory and time (N13, G3)."""

from __future__ import annotations

import json
import subprocess
import sys


def test_hostile_files_are_judged_in_bounded_memory_and_time() -> None:
    """Malformed, cut, oversized, nested, numbers and lists without end, wrong types: in one process of a gigabyte."""
    done = subprocess.run([sys.executable, "-m", "tests.ledger.hostile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said.pop("sound")[0] == 0
    assert len(said) > 180
    odd = {name: end for name, end in said.items() if end[0] not in (1, 2) or not end[1] or "internal" in end[1]}
    assert odd == {}
    assert {name: end for name, end in said.items() if name.startswith("trust: ") and end[0] != 2} == {}
    assert {said[f"bundle: {name}"][0] for name in ("empty", "null", "binary", "too large", "NaN")} == {2}
    assert {said[f"bundle: {name}"][0] for name in ("negative", "a path of 64", "state is true")} == {1}
