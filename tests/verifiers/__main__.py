# SPDX-License-Identifier: Apache-2.0
"""`make test-verifiers`: the table. Starts a plane, runs a job, gives its evidence to each stock verifier that is here.

Fails if one refuses the evidence, or accepts a changed copy outside of what it is known to pass over. What isn't here
is named with what to install, and fails nothing: that is for `make test-all`.
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.e2e.plane import Plane, bell
from tests.verifiers.gather import gathered
from tests.verifiers.stock import VERIFIERS, Row, tried

STEP = 4  # of the bytes of a token every fourth is changed


def main() -> int:
    """Print the table, then what each didn't notice; 1 if anything is not as it should be."""
    plane = Plane(QCOS_WORKERS="1")
    try:
        plane.start()
        evidence = gathered(plane, plane.run(bell())["job_id"])
        rows = [
            (one, found, tried(one, evidence, STEP) if found else None)
            for one in VERIFIERS
            for found in [one.version()]
        ]
    finally:
        plane.stop()
    print(f"{'verifier':22}{'version':24}{'took':44}{'accepted':10}changed copies refused")
    for verifier, version, row in rows:
        print(f"{verifier.name:22}{version or 'skipped':24}{verifier.takes:44}{_told(row)}")
    for verifier, _, row in rows:
        if row is None:
            print(f"\nskipped: {verifier.name}: {verifier.missing()}")
            continue
        if row.unnoticed:
            print(f"\n{verifier.name}, {verifier.takes}: not noticed")
        for change, count in Counter(row.unnoticed).items():
            print(f"  {change}" + (f" ({count} bits)" if count > 1 else ""))
        for change in row.unexpected:
            print(f"  NOT KNOWN BEFORE: {change}")
    return int(any(row is not None and (not row.accepted or row.unexpected) for *_, row in rows))


def _told(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{'yes' if row.accepted else 'NO':10}{row.refused} of {row.copies}"


if __name__ == "__main__":
    sys.exit(main())
