# SPDX-License-Identifier: Apache-2.0
"""The Rego itself: format, strict check against the schema, tests with full coverage, lint; and the schema is
generated.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from control_plane.policy import document
from control_plane.policy.revision import default_folder
from tests.control_plane.policy.opa_server import OPA, needs_opa
from tests.policies.coverage import unreached

ROOT = default_folder().parent
LOCAL = ROOT / ".tools/bin/regal"
REGAL = str(LOCAL) if LOCAL.exists() else shutil.which("regal")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT, check=False)


@needs_opa
def test_policies_are_formatted() -> None:
    assert OPA is not None
    assert run(OPA, "fmt", "--list", "--fail", "policies").stdout == ""


@needs_opa
def test_policies_pass_the_strict_check_against_the_schema() -> None:
    assert OPA is not None
    done = run(OPA, "check", "--strict", "--schema", "policies/schemas", "--ignore", "schemas", "policies")
    assert done.returncode == 0, done.stderr


@needs_opa
def test_every_line_of_policy_is_tested() -> None:
    """G2: opa's own tests, and what they reach."""
    assert OPA is not None
    done = run(OPA, "test", "--ignore", "schemas", "policies")
    assert done.returncode == 0, done.stdout
    assert unreached(OPA) == []


@pytest.mark.skipif(REGAL is None, reason="regal not found (`make tools` gets it)")
def test_policies_are_clean_by_regal() -> None:
    assert REGAL is not None
    done = run(REGAL, "lint", "policies")
    assert done.returncode == 0, done.stdout


def test_the_schema_is_made_from_the_structs() -> None:
    committed = (ROOT / "policies/schemas/input.json").read_text("utf-8")
    assert committed == json.dumps(document.schema(), indent=2, sort_keys=True) + "\n"
