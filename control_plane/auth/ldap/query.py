# SPDX-License-Identifier: Apache-2.0
"""Names as they may stand in filters and DNs of LDAP (RFC 4515, RFC 4514). Pure.

Whatever somebody calls themselves, it is one value of the filter or DN and never a part of its grammar.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["CHAIN", "MOST_NAME", "filled", "is_name", "member_of", "own_dn"]

CHAIN: Final = "1.2.840.113556.1.4.1941"
"""Active Directory's matching rule that follows membership through nested groups (LDAP_MATCHING_RULE_IN_CHAIN)."""
MOST_NAME: Final = 256
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@, ")
_APART: Final = frozenset(b", ")  # in a DN a comma ends a value, and a blank may vanish at its edges
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_.-]+")


def is_name(text: str) -> bool:
    """Whether somebody may call themselves so here: printable, and not endless."""
    return 0 < len(text) <= MOST_NAME and text.isprintable() and text == text.strip()


def value(text: str) -> str:
    """An assertion value of a filter: every octet that isn't plain is written as its code."""
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in text.encode())


def filled(template: str, text: str) -> str:
    """A filter with this value at its `{}`."""
    return template.replace("{}", value(text))


def own_dn(template: str, name: str) -> str | None:
    """What somebody of this name binds as: a DN with the name as one value, or NAME@DOMAIN, for a plain name alone."""
    if "=" in template:
        safe = "".join(chr(octet) if octet in _PLAIN - _APART else f"\\{octet:02x}" for octet in name.encode())
        return template.replace("{}", safe)
    return template.replace("{}", name) if _ACCOUNT.fullmatch(name) else None


def member_of(template: str, members: Sequence[str], *, chain: bool) -> str:
    """The filter for the groups that any of these DNs is a member of; with `chain` through groups of groups."""
    asked = template.replace("member={}", f"member:{CHAIN}:={{}}") if chain else template
    each = [filled(asked, one) for one in members]
    return each[0] if len(each) == 1 else f"(|{''.join(each)})"
