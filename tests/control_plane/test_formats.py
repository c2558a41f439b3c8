# SPDX-License-Identifier: Apache-2.0
"""The forms of evidence: whatever can be asked for is made, and nothing else can be asked for."""

from __future__ import annotations

from control_plane.formats import FORMATS
from control_plane.jobs.formats import FORMS


def test_each_form_that_can_be_asked_for_is_made() -> None:
    assert tuple(FORMS) == FORMATS
    assert FORMATS[0] == "bundle"  # what is given where none is named
