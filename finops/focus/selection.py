# SPDX-License-Identifier: Apache-2.0
"""Which charged lines a file has: judged when it is made. Pure: no clock, randomness, socket or database."""

import re
from datetime import datetime
from typing import Final

from msgspec import Struct

from finops.errors import PeriodInvalid

_MONTH: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)


class Selection(Struct, frozen=True):
    """Which lines: of a month, charged in [since, until), of a project; at least a month or a beginning."""

    month: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    project: str | None = None

    def __post_init__(self) -> None:
        """Refuse what selects nothing that can be meant."""
        if self.month is None and self.since is None:
            raise PeriodInvalid("want a month, or since when", field="month")
        if self.month is not None and not (_MONTH.fullmatch(self.month) and self.month >= "1970"):
            raise PeriodInvalid("want a month, YYYY-MM", field="month")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise PeriodInvalid("ends before it begins", field="until")
