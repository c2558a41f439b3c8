# SPDX-License-Identifier: Apache-2.0
"""Messages of syslog: RFC 5424's header, framed by octet counting as RFC 5425 wants it over TLS. Pure.

Enters: an event's JSON, when and where it happened, its index. Leaves: bytes for the stream. The structured data is
`meta` alone, which RFC 5424 (section 7.3) registers: its `sequenceId` is what a receiver counts by.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

__all__ = ["HEADER_ROOM", "framed", "message"]

HEADER_ROOM: Final = 400
"""Octets of the longest header."""

_AUDIT: Final = 13
"""Facility "log audit" (RFC 5424, table 1)."""
_SEVERITIES: Final = {1: 6, 3: 4, 4: 3}
"""Of OCSF's informational, medium and high: informational, warning, error."""
_MOST_SEQUENCE: Final = 2_147_483_647
_ODD = re.compile(r"[^\x21-\x7e]")


def message(body: bytes, *, at: dt.datetime, host: str, index: int, kind: str, severity_id: int) -> bytes:
    """One message; `index` counts from 0, and a `sequenceId` from 1, beginning anew after 2³¹ - 1."""
    priority = _AUDIT * 8 + _SEVERITIES.get(severity_id, 5)
    when = at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    sequence = index % _MOST_SEQUENCE + 1
    header = f'<{priority}>1 {when} {_name(host, 255)} qcos - {_name(kind, 32)} [meta sequenceId="{sequence}"] '
    return header.encode("ascii") + body


def framed(one: bytes) -> bytes:
    """With its length in octets before it (RFC 5425 section 4.3)."""
    return b"%d %s" % (len(one), one)


def _name(text: str, longest: int) -> str:
    return _ODD.sub("_", text)[:longest] or "-"
