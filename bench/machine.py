# SPDX-License-Identifier: Apache-2.0
"""What a measurement was taken on: cores, kernel, versions, commit. No host name, no user, no path."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("qcos-plane", "qiskit", "qiskit-aer", "psycopg", "sqlalchemy", "litestar", "cryptography", "msgspec")


def machine() -> dict[str, Any]:
    """The machine as it stands before a run; `load_before` tells whether it was idle."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    memory = Path("/proc/meminfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", cpus)
    total = re.search(r"MemTotal:\s+(\d+) kB", memory)
    return {
        "cores": os.cpu_count(),
        "cpu": model[1] if model else platform.machine(),
        "memory_gb": round(int(total[1]) / 1048576) if total else None,
        "kernel": platform.release().split("-")[0],
        "load_before": round(os.getloadavg()[0], 2),
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def versions() -> dict[str, str]:
    """Of Python, the packages that a job passes through, PostgreSQL and OPA where they are found, and this checkout."""
    found = {"python": platform.python_version(), "commit": _commit()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    opa = os.environ.get("QCOS_OPA_BIN") or shutil.which("opa", path=tools_path(os.environ.get("PATH", "")))
    said = _said(opa, "version") if opa else ""
    if number := re.search(r"Version: (\S+)", said):
        found["opa"] = number[1]
    return found


def tools_path(path: str) -> str:
    """A PATH with what `make tools` built in front."""
    return f"{ROOT / '.tools' / 'bin'}{os.pathsep}{path}"


def _commit() -> str:
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD").strip()
    # What a run writes itself doesn't make the measured code another one.
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "-uno", "--", ":!bench/results", ":!docs")
    return (commit or "no git") + (" + changes" if changed.strip() else "")


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    except OSError:
        return ""
