# SPDX-License-Identifier: Apache-2.0
"""A FOCUS 1.2 file passes FOCUS's own validator, and a broken one doesn't (G7, G14).

`make focus-tools` gets focus-validator 2.2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from finops.focus import columns
from tests.finops.focus.sample import file, month
from tests.focus import judge

pytestmark = pytest.mark.skipif(
    not judge.PROGRAM.exists(), reason="focus-validator is not installed (make focus-tools)"
)


def judged(data: bytes, folder: Path, form: str = "csv") -> tuple[set[str], int]:
    """The rules that the file breaks, and how many passed."""
    path = folder / f"file.{form}"
    path.write_bytes(data)
    return judge.judged(path, folder)


@pytest.mark.parametrize("form", columns.FORMATS)
def test_a_file_passes_all_rules_but_the_known_fault(form: str, tmp_path: Path) -> None:
    """Nearly three hundred rules; the one that fails is named."""
    broken, passed = judged(file(month(), form=form), tmp_path, form)
    assert broken == judge.KNOWN
    assert passed > 280


def _replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old.encode(), new.encode(), 1)


MUTATIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a class nobody knows": (_replaced(",Usage,Correction,", ",Usage,Mistake,"), "ChargeClass"),
    "a service without its category": (_replaced(",Compute,", ",Computing,"), "ServiceName"),
    "a cost that is no number": (_replaced("80.0000000000,demo", "eighty,demo"), "BilledCost"),
    "no provider": (_replaced(",qcos-test,aws-braket", ",,aws-braket"), "ProviderName"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_file_fails(name: str, tmp_path: Path) -> None:
    """Each by a rule of the column that was broken, or of one that follows from it.

    It lets a cost pass that isn't price times quantity: that is found by `qcos costs recompute`.
    """
    change, column = MUTATIONS[name]
    whole = file(month())
    changed = change(whole)
    assert changed != whole
    broken, _ = judged(changed, tmp_path)
    assert any(rule.startswith(column) for rule in broken - judge.KNOWN), broken
