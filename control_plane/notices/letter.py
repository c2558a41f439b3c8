# SPDX-License-Identifier: Apache-2.0
"""A notice as a letter: a subject and plain text that say what happened, how much, and what to do (G7). Pure.

Names come from people: whatever isn't printable is left out, so that nothing in a subject begins a new header.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import format_datetime
from typing import Any

from ledger.canonical import parse_time

LONGEST = 180
_WHAT = {
    "spent": "{threshold} % of the budget is spent",
    "committed": "{threshold} % of the budget is spent or held",
    "exceeded": "the budget is exceeded",
    "lowered": "the limit was set below what is spent",
    "overrun": "a job cost more than was held for it",
    "refused": "jobs are refused for want of budget",
}
_NEXT = {
    "hard": "New jobs that don't fit are refused. Raise the limit, or let it be:",
    "soft": "Nothing is stopped: the budget is soft. To change that, or the limit:",
    "advisory": "Nothing is stopped: the budget only informs. To change that, or the limit:",
}


def written(body: Mapping[str, Any]) -> tuple[str, str]:
    """(subject, text) of a notice's body; one of an obligation is told by its members."""
    if body.get("event") != "budget:alert":
        subject = f"QCOS: {body.get('event', 'notice')} {body.get('job_id', '')} in {body.get('tenant', '')}"
        return plain(subject), "".join(f"{plain(name)}: {plain(value)}\n" for name, value in sorted(body.items()))
    what = _WHAT[body["kind"]].format(threshold=body["threshold"])
    unit, scope = plain(body["currency"]), plain(body["scope"])
    lines = [
        f"{what[0].upper()}{what[1:]}.",
        "",
        f"budget   {scope} ({plain(body['period'])}, {plain(body['mode'])})",
        f"tenant   {plain(body['tenant'])}",
        f"window   {plain(body['window'])}",
        f"limit    {plain(body['limit'])} {unit}",
        f"spent    {plain(body['captured'])} {unit}",
        f"held     {plain(body['held'])} {unit}",
        f"at       {plain(body['at'])}",
    ]
    if body.get("job_id"):
        lines.append(f"job      {plain(body['job_id'])}")
    step = f"  qcos budget set {_quoted(scope)} AMOUNT {unit} --period {plain(body['period'])}"
    lines += ["", _NEXT[body["mode"]], step, "  qcos budget alerts"]
    return plain(f"QCOS: {scope}: {what}"), "\n".join(lines) + "\n"


def date(body: Mapping[str, Any]) -> str:
    """When it happened, as a header says it (RFC 5322)."""
    return format_datetime(parse_time(body["at"]))


def plain(value: object) -> str:
    """Text on one line, without what can't be printed, and not longer than a header should be."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
