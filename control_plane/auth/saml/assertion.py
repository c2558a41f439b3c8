# SPDX-License-Identifier: Apache-2.0
"""A signed assertion's contents, judged against what was expected (SAML 2.0 profiles section 4.1.4). Pure.

Enters: the root of the bytes that the signature covers. Leaves: `Asserted`, or SamlRefused. Lists are bounded here, so
that a person with a hundred thousand groups is refused and not carried through every later request.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from control_plane.auth.saml.document import NAMES, Element, find, text_of
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.schema import moment

__all__ = ["MAX_AGE_S", "Asserted", "NameId", "age", "name_id", "read", "session_index"]

MAX_AGE_S: Final = 600.0
"""An assertion is for now: providers give theirs minutes. It also bounds how long used ones must be remembered."""
MAX_VALUES: Final = 1_024
"""Of one attribute: a directory's own bound on what one person may be a member of is about a thousand."""
_MAX_TEXT = 1_024
_MAX_NAME = 255
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_ASSERTION = f"{{{NAMES['saml']}}}Assertion"
_CONDITIONS = frozenset(
    f"{{{NAMES['saml']}}}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction")
)


class NameId(Struct, frozen=True):
    """Whom the provider means, in its own words; a logout repeats them."""

    text: str
    format: str | None = None
    qualifier: str | None = None
    for_plane: str | None = None


class Asserted(Struct, frozen=True, kw_only=True):
    """What the provider says of a person, verified. `until`: from then on this assertion is refused as too old."""

    issuer: str
    assertion: str
    name: NameId
    session: str | None
    session_ends: float | None
    signed_in_at: float
    made_at: float
    context: str | None
    until: float
    attributes: dict[str, tuple[str, ...]]


def read(
    root: Element,
    *,
    issuer: str,
    audience: str,
    recipient: str,
    in_response_to: str | None,
    attributes: frozenset[str],
    now: float,
    leeway_s: float,
) -> Asserted:
    """The contents of a signed assertion that is for us, now."""
    if root.tag != _ASSERTION or root.get("Version") != "2.0":
        raise SamlRefused("not_saml")
    identifier = root.get("ID")
    if not identifier:
        raise SamlRefused("identifiers")
    if text_of(_one(root, "saml:Issuer", "issuer"), _MAX_TEXT) != issuer:
        raise SamlRefused("issuer")
    made = age(moment(root.get("IssueInstant")), now, leeway_s)
    _conditions(_one(root, "saml:Conditions", "conditions"), audience, now, leeway_s)
    subject = _one(root, "saml:Subject", "subject")
    named = name_id(subject, audience)
    confirmed = _confirmed(subject, recipient, in_response_to, now, leeway_s)
    statement = _one(root, "saml:AuthnStatement", "authentication")
    signed_in_at = moment(statement.get("AuthnInstant"))
    ends = moment(statement.get("SessionNotOnOrAfter"))
    if signed_in_at is None or signed_in_at > now + leeway_s or (ends is not None and ends <= now - leeway_s):
        raise SamlRefused("authentication")
    contexts = find(statement, "saml:AuthnContext/saml:AuthnContextClassRef")
    return Asserted(
        issuer=issuer,
        assertion=str(identifier),
        name=named,
        session=session_index(statement.get("SessionIndex")),
        session_ends=ends,
        signed_in_at=signed_in_at,
        made_at=made,
        context=text_of(contexts[0], _MAX_TEXT) if contexts else None,
        until=min(confirmed, made + MAX_AGE_S) + leeway_s,
        attributes=_attributes(root, attributes),
    )


def age(made: float | None, now: float, leeway_s: float) -> float:
    """When a message was made, if that was just now."""
    if made is None or made > now + leeway_s:
        raise SamlRefused("not_yet_valid")
    if made <= now - MAX_AGE_S - leeway_s:
        raise SamlRefused("stale")
    return made


def _conditions(conditions: Element, audience: str, now: float, leeway_s: float) -> None:
    before, after = moment(conditions.get("NotBefore")), moment(conditions.get("NotOnOrAfter"))
    if before is not None and before > now + leeway_s:
        raise SamlRefused("not_yet_valid")
    if after is not None and after <= now - leeway_s:
        raise SamlRefused("expired")
    if any(one.tag not in _CONDITIONS for one in conditions):  # core section 2.5.1: not understood is not met
        raise SamlRefused("conditions")
    restrictions = find(conditions, "saml:AudienceRestriction")
    # Each restriction must hold; within one, any audience does.
    if not restrictions or not all(
        audience in {text_of(one, _MAX_TEXT) for one in find(each, "saml:Audience")} for each in restrictions
    ):
        raise SamlRefused("audience")


def name_id(holder: Element, audience: str) -> NameId:
    """The one name in a subject, or in a logout request."""
    if find(holder, "saml:EncryptedID"):
        raise SamlRefused("encrypted_parts")
    name = _one(holder, "saml:NameID", "subject")
    text = text_of(name, _MAX_NAME)
    said = [name.get(key) for key in ("Format", "NameQualifier", "SPNameQualifier")]
    # A name that was made for another service provider is a name of nobody here.
    if text is None or said[2] not in (None, audience) or any(len(one or "") > _MAX_TEXT for one in said):
        raise SamlRefused("subject")
    return NameId(text, *said)


def _confirmed(subject: Element, recipient: str, in_response_to: str | None, now: float, leeway_s: float) -> float:
    """Until when the bearer of this assertion may be believed; the reason of the last confirmation that fails."""
    reason = "confirmation"
    for one in find(subject, "saml:SubjectConfirmation"):
        data = find(one, "saml:SubjectConfirmationData")
        if one.get("Method") != _BEARER or len(data) != 1:
            continue
        until = moment(data[0].get("NotOnOrAfter"))
        if until is None or data[0].get("NotBefore") is not None or data[0].get("Recipient") != recipient:
            reason = "confirmation"
        elif data[0].get("InResponseTo") != in_response_to:
            reason = "in_response_to"
        elif until <= now - leeway_s:
            reason = "expired"
        else:
            return until
    raise SamlRefused(reason)


def session_index(text: str | None) -> str | None:
    """The provider's name of a session, if it is one that can be kept."""
    if text is not None and not (0 < len(text) <= _MAX_NAME and text.isprintable()):
        raise SamlRefused("authentication")
    return text


def _attributes(root: Element, wanted: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Those that the settings name; what else the provider says of a person is neither judged nor kept."""
    if find(root, "saml:AttributeStatement/saml:EncryptedAttribute"):
        raise SamlRefused("encrypted_parts")
    found: dict[str, list[str]] = {}
    for one in find(root, "saml:AttributeStatement/saml:Attribute"):
        name = one.get("Name")
        if name not in wanted:
            continue
        values = [text_of(value, _MAX_TEXT) for value in find(one, "saml:AttributeValue") if value.text or len(value)]
        held = found.setdefault(name, [])  # a provider may send an attribute once for each value
        if len(held) + len(values) > MAX_VALUES or None in values:
            raise SamlRefused("attributes")
        held += [value for value in values if value is not None]
    return {name: tuple(dict.fromkeys(held)) for name, held in found.items()}


def _one(element: Element, path: str, reason: str) -> Element:
    found = find(element, path)
    if len(found) != 1:
        raise SamlRefused(reason)
    return found[0]
