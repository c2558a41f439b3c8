# SPDX-License-Identifier: Apache-2.0
"""What a directory says of somebody becomes a `Principal` (G13). Pure."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Final

from msgspec import Struct

from control_plane.auth.errors import LoginFailed
from control_plane.auth.ldap.tables import LdapFacts
from control_plane.auth.principal import Principal, named, pseudonym_of

__all__ = ["Found", "principal"]

GUID: Final = "objectguid"


class Found(Struct, frozen=True):
    """Somebody whose password the directory has accepted: the raw values of their attributes, names in small letters,
    and the names of all their groups.
    """

    dn: str
    attributes: dict[str, tuple[bytes, ...]]
    groups: tuple[str, ...]


def principal(found: Found, facts: LdapFacts, pseudonym_key: bytes, at: dt.datetime) -> Principal:
    """Who they are here. LoginFailed where the directory doesn't say who, or says it in no plain text."""
    subject = _subject(found, facts.subject_attribute)
    name, domain = named(_text(found, facts.name_attribute) or subject, tenant=facts.tenant, subject=subject)
    return Principal(
        subject=subject,
        name=name,
        domain=domain,
        tenant=facts.tenant,
        issuer=facts.issuer,
        pseudonym=pseudonym_of(pseudonym_key, tenant=facts.tenant, issuer=facts.issuer, subject=subject),
        team=_text(found, facts.team_attribute),
        department=_text(found, facts.department_attribute),
        groups=found.groups,
        via="ldap",
        amr=("pwd",),
        authenticated_at=at,
        asserted_at=at,
    )


def _subject(found: Found, attribute: str) -> str:
    values = found.attributes.get(attribute.lower(), ())
    if len(values) != 1:
        said = "exactly one value is wanted: it says who somebody is"
        raise LoginFailed("subject", f"the directory's entry has {len(values)} of {attribute}; {said}")
    if attribute.lower() == GUID and len(values[0]) == 16:
        return str(uuid.UUID(bytes_le=values[0]))
    return _plain(values[0], attribute, 255)


def _text(found: Found, attribute: str | None) -> str | None:
    values = found.attributes.get((attribute or "").lower(), ())
    return _plain(values[0], attribute or "", 128) if values else None


def _plain(octets: bytes, attribute: str, longest: int) -> str:
    """Control characters would reach logs, SQL and canonical JSON."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        text = ""
    if not 0 < len(text) <= longest or not text.isprintable():
        raise LoginFailed("attribute", f"{attribute} of the directory's entry is no plain text of at most {longest}")
    return text
