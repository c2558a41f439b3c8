# SPDX-License-Identifier: Apache-2.0
"""What a decision costs, told without a clock: how many expressions OPA evaluates for a job that is allowed (G2).

Each is 1 to 2 microseconds of OPA's CPU, three quarters of a decision, so a rule that evaluates more than it needs is
found here before a measurement finds it. A rule more is some ten expressions: raise the number where it is worth them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bench.policy import INPUT
from control_plane.policy import bundle
from control_plane.policy.revision import load
from tests.control_plane.policy.opa_server import OPA, needs_opa

MOST = 640


@needs_opa
def test_an_allowed_job_takes_few_expressions(tmp_path: Path) -> None:
    """They once grew from 563 to 687 unseen, by rules that evaluated what could no longer matter."""
    served = bundle.write(load(), tmp_path / "bundle")
    asked = [str(OPA), "eval", "--bundle", str(served), "--input", str(INPUT), "--profile", "--profile-limit", "10000"]
    done = subprocess.run([*asked, "--format", "json", "data.qcos.main.decision"], capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert all(check["pass"] for check in told["result"][0]["expressions"][0]["value"]["checks"])
    assert sum(line["num_eval"] for line in told["profile"]) <= MOST
