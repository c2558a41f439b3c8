# SPDX-License-Identifier: Apache-2.0
"""A real OPA for tests, on a Unix socket in a folder of its own; and why to skip where there is none."""

from __future__ import annotations

import socket as socketlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane.policy import bundle
from control_plane.policy.choice import find_opa
from control_plane.policy.opa import opa_command
from control_plane.policy.revision import load

OPA = find_opa(None)
needs_opa = pytest.mark.skipif(OPA is None, reason="opa not found (`make tools` gets it)")


@contextmanager
def opa_server(policies: Path) -> Iterator[str]:
    """Serve the policies below a folder; yields the URL once the socket is there."""
    assert OPA is not None
    with tempfile.TemporaryDirectory(prefix="qp") as folder:
        socket = Path(folder) / "o"
        served = bundle.write(load(policies), Path(folder) / "bundle")
        server = subprocess.Popen(opa_command(OPA, f"unix://{socket}", served), stderr=subprocess.DEVNULL)
        try:
            for _ in range(1000):
                if _listens(socket) or server.poll() is not None:
                    break
                time.sleep(0.01)
            assert server.poll() is None
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.wait()


def _listens(path: Path) -> bool:
    """Whether somebody accepts connections there; the file comes before that."""
    with socketlib.socket(socketlib.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
