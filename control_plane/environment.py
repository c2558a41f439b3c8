# SPDX-License-Identifier: Apache-2.0
"""What this installation is made of: versions that evidence records and replay looks for (decision 12, G10)."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ledger.canonical import sha256

_LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"


@cache
def qcos_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("qcos-plane")
    except PackageNotFoundError:
        return "0+unknown"


@cache
def versions() -> dict[str, str]:
    """Name → version of the plane's own parts; `lock` is the lock file's hash where it runs from a checkout."""
    found = {
        "qcos": qcos_version(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    if _LOCK.is_file():
        found["lock"] = sha256(_LOCK.read_bytes())
    return found
