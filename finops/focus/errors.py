# SPDX-License-Identifier: Apache-2.0
"""What a FOCUS export and its recomputation refuse.

FinopsError
└── FocusRefused         focus_invalid        no such month, version or format; a file that isn't ours, or says what
                                              no line can: with its line and field
"""

from finops.errors import FinopsError


class FocusRefused(FinopsError):
    """A selection that can't be exported, or a file that can't be read as one of ours."""

    code = "focus_invalid"


def at(line: int, field: str, detail: str) -> FocusRefused:
    """The refusal of one field of one line; line 1 is the first after the heading."""
    return FocusRefused(detail, field=f"line {line}, {field}")
