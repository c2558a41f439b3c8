# SPDX-License-Identifier: Apache-2.0
"""`make focus-check FILE=…`: FOCUS's own validator over a file of ours (G7).

It exits 0 whatever it finds, so its report is read here. Of what it checks only when told that a provider does it, it
is told all that is true of the plane. One of its rules is a fault of its own, and is named.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / ".tools" / "focus" / "bin" / "focus-validator"
# Its rule is that InvoiceId is null, and forgets when: any file with an invoice fails it.
KNOWN = {"InvoiceId-C-004-C"}
TRUE = (
    "ACCOUNT_NAMING_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "REGION_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
)


def judged(path: Path, folder: Path) -> tuple[set[str], int]:
    """The rules that the file breaks, and how many it passes; `folder` is for the report."""
    report = folder / "report.xml"
    (rules,) = PROGRAM.parents[1].glob("lib/python3*/site-packages")
    options = ["--block-download", "--validate-version", "1.2", "--applicability-criteria", ",".join(TRUE)]
    told = ["--output-type", "unittest", "--output-destination", str(report)]
    done = subprocess.run(
        [PROGRAM, "--data-file", path.resolve(), *options, *told],
        cwd=rules,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    if not report.exists():
        raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
    cases = ET.parse(report).getroot().iter("testcase")
    results = {case.get("name", "").split(" ::")[0]: {part.tag for part in case} for case in cases}
    broken = {name for name, tags in results.items() if tags & {"failure", "error"}}
    return broken, sum(not tags for tags in results.values())


def main() -> int:
    """Judge the file that is named; 0 only where nothing but the known fault is found."""
    if len(sys.argv) != 2 or not PROGRAM.exists():
        sys.stderr.write("usage: make focus-check FILE=FILE, after make focus-tools\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        broken, passed = judged(Path(sys.argv[1]), Path(folder))
    for name in sorted(broken - KNOWN):
        sys.stdout.write(f"broken {name}\n")
    sys.stdout.write(f"{passed} rules of FOCUS 1.2 passed, {len(broken - KNOWN)} broken\n")
    return bool(broken - KNOWN)


if __name__ == "__main__":
    sys.exit(main())
