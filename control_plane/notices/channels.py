# SPDX-License-Identifier: Apache-2.0
"""The channels: every `[[notify]]` and `[[mail]]` table, under one name each. Policies and budgets name them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from control_plane.notices import mail, targets
from control_plane.notices.mail import MailFacts
from control_plane.notices.targets import NotifyFacts
from finops.errors import BudgetInvalid

Channel: TypeAlias = NotifyFacts | MailFacts


def check(notify: tuple[NotifyFacts, ...], mails: tuple[MailFacts, ...], profile: str) -> None:
    """SettingInvalid, naming the table and the field."""
    targets.check(notify)
    mail.check(mails, frozenset(facts.name for facts in notify), profile)


def known(channels: Iterable[Channel], names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once; raises BudgetInvalid where the plane has no such table."""
    there = {facts.name for facts in channels}
    wanted = tuple(dict.fromkeys(names))
    if strange := [name for name in wanted if name not in there]:
        raise BudgetInvalid(f"no [[notify]] or [[mail]] table {', '.join(strange)}", field="notify")
    return wanted
