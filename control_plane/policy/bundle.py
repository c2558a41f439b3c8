# SPDX-License-Identifier: Apache-2.0
"""The policies as an OPA bundle: a folder that states its revision and owns every path (G2, I5).

A `PolicySet` enters, files leave. Two things come of serving it as a bundle. OPA answers each decision with the
revision of the bundle that it evaluated, which the plane compares; and it refuses every write of policy or data, the
revision included, because the root "" owns all paths. `up` writes one for the OPA that it starts; for a sidecar:
`python -m control_plane.policy.bundle FOLDER`, then `opa run --server --bundle FOLDER`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import msgspec

from control_plane.policy.revision import PolicySet, load


def write(policies: PolicySet, folder: Path) -> Path:
    """Make `folder` hold exactly this bundle; what an earlier one left there is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    files = {path: source.encode() for path, source in policies.modules.items()}
    files["data/data.json"] = msgspec.json.encode(policies.data)
    files[".manifest"] = msgspec.json.encode({"revision": policies.revision, "roots": [""], "rego_version": 1})
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def main() -> int:
    """Write the bundle of the policies that this installation ships."""
    parser = argparse.ArgumentParser(prog="python -m control_plane.policy.bundle")
    parser.add_argument("folder", type=Path, help="made anew; must not exist")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists")
    policies = load()
    write(policies, arguments.folder)
    sys.stdout.write(policies.revision + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
