# SPDX-License-Identifier: Apache-2.0
"""What the tests of the policies don't reach, line by line: `python -m tests.policies.coverage` (`make check`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def unreached(opa: str | Path) -> list[str]:
    """`policies/…:LINE` of each expression that no test evaluates."""
    command = [str(opa), "test", "--coverage", "--format", "json", "--ignore", "schemas", "policies"]
    report = json.loads(subprocess.run(command, capture_output=True, cwd=ROOT, check=False).stdout)
    found = {
        (path, span["start"]["row"]) for path, file in report["files"].items() for span in file.get("not_covered", ())
    }
    return [f"{path}:{line}" for path, line in sorted(found)]


def main() -> int:
    """Say them; 1 where there are any."""
    lines = unreached(sys.argv[1] if len(sys.argv) > 1 else "opa")
    sys.stdout.write("".join(f"{line}: no test reaches this\n" for line in lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
