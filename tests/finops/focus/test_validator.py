# SPDX-License-Identifier: Apache-2.0
"""A FOCUS 1.2 file passes FOCUS's own validator, and a broken one doesn't (G7, G14).

`make focus-tools` gets focus-validator 2.2.1. It exits 0 whatever it finds, so its report is read. Of what it checks
only when told that a provider does it, it is told all that is true of the plane.
"""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from finops.focus import columns
from tests.finops.focus.sample import file, month

PROGRAM = Path(__file__).parents[3] / ".tools" / "focus" / "bin" / "focus-validator"
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
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="focus-validator is not installed (make focus-tools)")


def judged(data: bytes, folder: Path, form: str = "csv") -> tuple[set[str], int]:
    """The rules that the file breaks, and how many passed."""
    path, report = folder / f"file.{form}", folder / "report.xml"
    path.write_bytes(data)
    (rules,) = PROGRAM.parents[1].glob("lib/python3*/site-packages")
    options = ["--block-download", "--validate-version", "1.2", "--applicability-criteria", ",".join(TRUE)]
    told = ["--output-type", "unittest", "--output-destination", str(report)]
    done = subprocess.run(
        [PROGRAM, "--data-file", path, *options, *told],
        cwd=rules,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert report.exists(), done.stderr.decode(errors="replace")[-2000:]
    cases = ET.parse(report).getroot().iter("testcase")
    results = {case.get("name", "").split(" ::")[0]: {part.tag for part in case} for case in cases}
    broken = {name for name, tags in results.items() if tags & {"failure", "error"}}
    return broken, sum(not tags for tags in results.values())


@pytest.mark.parametrize("form", columns.FORMATS)
def test_a_file_passes_all_rules_but_the_known_fault(form: str, tmp_path: Path) -> None:
    """Nearly three hundred rules; the one that fails is named."""
    broken, passed = judged(file(month(), form=form), tmp_path, form)
    assert broken == KNOWN
    assert passed > 280


def _replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old.encode(), new.encode(), 1)


MUTATIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a cost that isn't price times quantity": (
        _replaced(",80.0000000000,0.0800000000,Standard", ",81.0000000000,0.0800000000,Standard"),
        "List",
    ),
    "a category nobody knows": (_replaced(",Usage,,", ",Use,,"), "ConsumedQuantity"),
    "a class nobody knows": (_replaced(",Usage,Correction,", ",Usage,Mistake,"), "ChargeClass"),
    "a service without its category": (_replaced(",Compute,", ",Computing,"), "ServiceName"),
    "a heading gone": (_replaced("BilledCost,", "Billed,"), "BilledCost"),
    "a cost that is no number": (_replaced("80.0000000000,demo", "eighty,demo"), "BilledCost"),
    "no provider": (_replaced(",qcos-test,aws-braket", ",,aws-braket"), "ProviderName"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_file_fails(name: str, tmp_path: Path) -> None:
    """Each by a rule of the column that was broken, or of one that follows from it."""
    change, column = MUTATIONS[name]
    whole = file(month())
    changed = change(whole)
    assert changed != whole
    broken, _ = judged(changed, tmp_path)
    assert any(rule.startswith(column) for rule in broken - KNOWN), broken
