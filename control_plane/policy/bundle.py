# SPDX-License-Identifier: Apache-2.0
"""The policies as an OPA bundle: a folder that states its revision and owns every path (G2, I5).

A `PolicySet` enters; files leave, or with the sealer's signature an archive. Two things come of serving it as a bundle.
OPA answers each decision with the revision of the bundle that it evaluated, which the plane compares; and it refuses
every write of policy or data, the revision included, because the root "" owns all paths. For an OPA of your own:
`python -m control_plane.policy.bundle FOLDER`, then `opa run --server --bundle FOLDER`.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from control_plane.policy.revision import PolicySet, load
from ledger.policies import DATA, MANIFEST, MASK, MASK_FILE, manifest


def write(policies: PolicySet, folder: Path) -> Path:
    """Make `folder` hold exactly this bundle; what an earlier one left there is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in contents(policies).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def contents(policies: PolicySet) -> dict[str, bytes]:
    """The bundle's files by path: the rules, all data as one document, the manifest, and the plane's own rule of what
    a decision log may carry. No tests, no schemas.
    """
    files = {path: source.encode() for path, source in policies.modules.items()}
    return files | {DATA: data(policies), MANIFEST: manifest(policies.revision), MASK_FILE: MASK}


def data(policies: PolicySet) -> bytes:
    """The bundle's data in the one form that OPA hashes for a signature: keys sorted, no blanks, as Go writes JSON."""
    text = json.dumps(policies.data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def pack(policies: PolicySet, signature: str) -> bytes:
    """The bundle as the archive that OPA downloads, with its signature; the same bytes for the same revision."""
    return packed(contents(policies) | {".signatures.json": msgspec.json.encode({"signatures": [signature]})})


def packed(files: Mapping[str, bytes]) -> bytes:
    """Files as a `.tar.gz` without times and owners."""
    archived = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=archived, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size = len(files[path])
            archive.addfile(entry, io.BytesIO(files[path]))
    return archived.getvalue()


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
