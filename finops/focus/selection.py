# SPDX-License-Identifier: Apache-2.0
"""Which charged lines a file has: judged when it is made. Pure: no clock, randomness, socket or database."""

import re
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from finops.focus.errors import FocusRefused

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
            raise FocusRefused("want a month, or since when", field="month")
        if self.month is not None and not (_MONTH.fullmatch(self.month) and self.month >= "1970"):
            raise FocusRefused("want a month, YYYY-MM", field="month")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise FocusRefused("ends before it begins", field="until")


def moment(text: str, field: str) -> datetime:
    """A UTC day or a time with its zone; raises FocusRefused."""
    try:
        at = datetime.fromisoformat(text)
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            return at.replace(tzinfo=UTC)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise FocusRefused("want a day, YYYY-MM-DD, or a time with its zone", field=field)
