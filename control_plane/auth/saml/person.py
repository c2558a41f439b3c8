# SPDX-License-Identifier: Apache-2.0
"""What a provider asserts becomes a `Principal`, by the table's names of attributes (G13). Pure."""

from __future__ import annotations

import datetime as dt
from typing import Final

from control_plane.auth.principal import Principal, named, parse_role, pseudonym_of
from control_plane.auth.saml.assertion import Asserted
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.tables import SamlFacts

__all__ = ["known", "principal"]

_TRANSIENT: Final = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_MAX_SUBJECT: Final = 255
_MAX_FACT: Final = 128


def principal(said: Asserted, facts: SamlFacts, pseudonym_key: bytes) -> Principal:
    """Who somebody is. SamlRefused where nothing that lasts says so."""
    subject = _subject(said, facts)
    display = _one(said, facts.name_attribute, _MAX_SUBJECT) or subject
    name, domain = named(display, tenant=facts.tenant, subject=subject)
    roles = (parse_role(one) for one in said.attributes.get(facts.roles_attribute, ()))
    found = Principal(
        subject=subject,
        name=name,
        domain=domain,
        tenant=facts.tenant,
        issuer=said.issuer,
        pseudonym=pseudonym_of(pseudonym_key, tenant=facts.tenant, issuer=said.issuer, subject=subject),
        team=_one(said, facts.team_attribute, _MAX_FACT),
        department=_one(said, facts.department_attribute, _MAX_FACT),
        groups=tuple(sorted(said.attributes.get(facts.groups_attribute, ()))),
        via="saml",
        acr=said.context,
        authenticated_at=dt.datetime.fromtimestamp(said.signed_in_at, dt.UTC),
        asserted_at=dt.datetime.fromtimestamp(said.made_at, dt.UTC),
    )
    return found.holding(tuple(role for role in roles if role is not None))


def known(facts: SamlFacts, issuer: str, subject: str, pseudonym_key: bytes) -> Principal:
    """Somebody who signed in before, as far as ending their sessions needs it."""
    name, domain = named(subject, tenant=facts.tenant, subject=subject)
    pseudonym = pseudonym_of(pseudonym_key, tenant=facts.tenant, issuer=issuer, subject=subject)
    return Principal(subject, name, domain, facts.tenant, issuer, pseudonym, via="saml")


def _subject(said: Asserted, facts: SamlFacts) -> str:
    if facts.subject_attribute is not None:
        given = _one(said, facts.subject_attribute, _MAX_SUBJECT)
        if given is None:
            raise SamlRefused("subject")
        return given
    if said.name.format == _TRANSIENT:  # another name at each login: no role could ever be given to it
        raise SamlRefused("subject")
    return said.name.text


def _one(said: Asserted, name: str | None, longest: int) -> str | None:
    """The one value of an attribute; several would leave open which is meant."""
    values = said.attributes.get(name, ()) if name else ()
    if not values:
        return None
    if len(values) != 1 or len(values[0]) > longest:
        raise SamlRefused("attributes")
    return values[0]
