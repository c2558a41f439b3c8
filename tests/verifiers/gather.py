# SPDX-License-Identifier: Apache-2.0
"""A job's evidence and the trusted root, fetched as an auditor fetches them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.e2e.plane import Plane
from tests.verifiers.stock import Evidence


def gathered(plane: Plane, job_id: str) -> Evidence:
    """Of an ended `full` job, by the commands; files lie in a folder of the plane's, which goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="verifiers-", dir=plane.folder))
    for name in ("sigstore", "sigstore-mldsa", "pdf"):
        got = plane.cli("evidence", "get", job_id, "-o", str(folder / name), "--format", name, user="engineer")
        assert got.code == 0, got.err
    for name in ("root", "trust"):
        form = "sigstore" if name == "root" else "qcos"
        got = plane.cli("trust", "export", "-o", str(folder / name), "--format", form, user="engineer")
        assert got.code == 0, got.err
    names = ("sigstore", "sigstore-mldsa", "root", "pdf", "trust")
    return Evidence(folder, *((folder / name).read_bytes() for name in names))
