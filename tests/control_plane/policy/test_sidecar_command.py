# SPDX-License-Identifier: Apache-2.0
"""`qcos policy sidecar`: the folder that an OPA elsewhere is run with (G2)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def _run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "control_plane.cli", "policy", "sidecar", *words]
    return subprocess.run(command, env={"QCOS_HOME": str(home)}, capture_output=True, text=True, check=False)


def test_it_writes_configuration_and_token_for_where_they_will_lie(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "side"
    refused = _run(home, str(folder), "--api", "http://plane:8470")
    assert refused.returncode != 0
    assert not folder.exists()
    (home / "keys" / "policy").mkdir(parents=True)
    (home / "keys" / "policy" / "public.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    (home / "keys" / "sidecar").write_text("a-token")
    done = _run(home, str(folder), "--api", "http://plane:8470", "--at", "/etc/opa", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads((folder / "opa.json").read_text())
    assert told["services"]["qcos"]["credentials"] == {"bearer": {"token_path": "/etc/opa/token"}}
    assert (told["services"]["qcos"]["url"], told["persistence_directory"]) == (
        "http://plane:8470/api/v1",
        "/etc/opa/kept",
    )
    assert ((folder / "token").read_text().strip(), (folder / "token").stat().st_mode & 0o777) == ("a-token", 0o600)
    assert "a-token" not in (folder / "opa.json").read_text()
    assert _run(home, str(folder), "--api", "http://plane:8470").returncode != 0
