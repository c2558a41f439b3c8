# SPDX-License-Identifier: Apache-2.0
"""Writes the SAML responses that must be refused, one file each, and `cases.json` with the reason of each.

Run as `python -m tests.vectors.credentials.saml.make`. The provider's key is made, used and forgotten, so every file is
made anew together; `sp.key` is the key of a service provider that exists in these tests alone. `sound*` files are
accepted, so that a verifier that refuses everything fails too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from tests.identity.assertions import DS, ENVELOPED, EXCLUSIVE, SAML, SAMLP, Provider, encrypted

HERE = Path(__file__).parent
NOW = 1_790_000_000
AUDIENCE = "https://plane.example/auth/saml/corp/metadata"
ACS = "https://plane.example/auth/saml/corp/acs"
REQUEST = "_request"
ISSUER = "https://idp.example/metadata"
ATTRIBUTES = {"mail": ["alice@corp.example"], "groups": ["lab", "staff"], "qcos": ["quantum-engineer@demo"]}

Element: TypeAlias = Any  # lxml's, which has no types
IDP, STRANGER = Provider(ISSUER, NOW), Provider(ISSUER, NOW)
SP, OTHER_SP = generate_private_key(65537, 2048), generate_private_key(65537, 2048)


def assertion(**bent: object) -> Element:
    """A sound assertion but for what is bent."""
    values: dict[str, object] = {
        "audience": AUDIENCE,
        "recipient": ACS,
        "request": REQUEST,
        "attributes": ATTRIBUTES,
    }
    return IDP.assertion(**(values | bent))  # type: ignore[arg-type]


def response(*contents: Element, **bent: object) -> Element:
    """A sound envelope but for what is bent."""
    values: dict[str, object] = {"destination": ACS, "request": REQUEST}
    return IDP.response(*contents, **(values | bent))  # type: ignore[arg-type]


def signed(**bent: object) -> Element:
    """Envelope and signed assertion, the assertion bent before it was signed."""
    return response(IDP.sign(assertion(**bent)))


def text(element: Element) -> bytes:
    """As it goes over the wire."""
    return bytes(etree.tostring(element))


def evil(identifier: str = "_evil") -> Element:
    """What a forger would like to be read."""
    return assertion(subject="root@corp.example", identifier=identifier, attributes={"qcos": ["quantum-admin"]})


def replaced(old: str, new: str, root: Element | None = None) -> bytes:
    """The sound message with a piece of text changed after it was signed."""
    was = text(signed() if root is None else root)
    now = was.replace(old.encode(), new.encode())
    assert was != now
    return now


def declared(declaration: str, subject: str) -> bytes:
    """The sound message with a document type before it and an entity in a name."""
    return declaration.encode() + replaced("alice@corp.example", subject)


def wrapped(number: int) -> Element:
    """The eight ways to carry a signature to other contents, in the order of Somorovsky and others (2012)."""
    if number in (1, 2):
        root = IDP.sign(signed())
        forged = copy.deepcopy(root)
        forged.set("ID", "_evil_response")
        signature = forged.find(f"{{{DS}}}Signature")
        assert signature is not None
        old = forged.find(f"{{{SAML}}}Assertion")
        assert old is not None
        forged.replace(old, evil())
        forged.remove(signature)
        original = copy.deepcopy(root)
        if number == 1:
            forged.insert(1, signature)
            _object(signature).append(original)
        else:
            forged.insert(1, signature)
            forged.append(original)
        return forged
    root = signed()
    original = root.find(f"{{{SAML}}}Assertion")
    assert original is not None
    signature = original.find(f"{{{DS}}}Signature")
    assert signature is not None
    forged = evil()
    if number == 3:
        root.insert(root.index(original), forged)
    elif number == 4:
        root.replace(original, forged)
        forged.append(original)
    elif number == 5:
        original.remove(signature)
        forged.insert(1, signature)
        root.append(forged)
    elif number == 6:
        original.remove(signature)
        root.replace(original, forged)
        forged.insert(1, signature)
        _object(signature).append(original)
    elif number == 7:
        extensions = etree.Element(f"{{{SAMLP}}}Extensions")
        extensions.append(evil("_assertion"))
        root.insert(1, extensions)
    else:
        moved = copy.deepcopy(original)
        root.replace(original, forged)
        original.remove(signature)
        forged.insert(1, signature)
        bare = moved.find(f"{{{DS}}}Signature")
        assert bare is not None
        moved.remove(bare)
        _object(signature).append(moved)
    return root


def _object(signature: Element) -> Element:
    return etree.SubElement(signature, f"{{{DS}}}Object")


def without(path: str) -> Element:
    """The sound assertion without one of its parts, signed so."""
    one = assertion()
    found = one.find(path, {"saml": SAML})
    assert found is not None
    parent = found.getparent()
    assert parent is not None
    parent.remove(found)
    return response(IDP.sign(one))


def within(plain: bytes, **how: str) -> bytes:
    """The sound envelope around an encrypted assertion of exactly these bytes."""
    return text(response(encrypted(plain, SP.public_key(), **how)))


def twice_referred() -> Element:
    """A signature with a second reference, to something harmless."""
    root = signed()
    reference = root.find(f".//{{{DS}}}Reference")
    assert reference is not None
    reference.addnext(copy.deepcopy(reference))
    return root


def holder_of_key() -> Element:
    """An assertion that only who has a key may show, which a browser's form doesn't prove."""
    one = assertion()
    confirmation = one.find(f".//{{{SAML}}}SubjectConfirmation")
    assert confirmation is not None
    confirmation.set("Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key")
    return response(IDP.sign(one))


def with_attribute(element: Element, name: str, value: str) -> Element:
    """The element with one attribute more, or another value."""
    element.set(name, value)
    return element


_ENCRYPTED_ID = (
    etree.tostring(encrypted(b"<saml:NameID/>", SP.public_key())).decode().replace("EncryptedAssertion", "EncryptedID")
)
_LAUGHS = "<!DOCTYPE a [<!ENTITY a '1234567890'>" + "".join(
    f"<!ENTITY {name} '{f'&{before};' * 10}'>" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
_XSLT = "http://www.w3.org/TR/1999/REC-xslt-19991116"
_XPATH = "http://www.w3.org/TR/1999/REC-xpath-19991116"
_HMAC = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"
_SHA1 = f"{DS}sha1"
_DENIED = "urn:oasis:names:tc:SAML:2.0:status:Requester"
_SOUND = text(IDP.sign(assertion()))

CASES: dict[str, tuple[str | None, Callable[[], bytes]]] = {
    "sound": (None, lambda: text(signed())),
    "sound_signed_twice": (None, lambda: text(IDP.sign(signed()))),
    "sound_encrypted_gcm": (None, lambda: within(_SOUND)),
    "sound_encrypted_cbc": (None, lambda: within(_SOUND, cipher="cbc")),
    "unsigned": ("unsigned", lambda: text(response(assertion()))),
    "response_signed_only": ("unsigned", lambda: text(IDP.sign(response(assertion())))),
    "signed_by_stranger": ("signature", lambda: text(response(STRANGER.sign(assertion())))),
    "changed_name": (
        "signature",
        lambda: replaced("alice@corp.example</saml:NameID", "root@corp.example</saml:NameID"),
    ),
    "changed_role": ("signature", lambda: replaced("quantum-engineer@demo", "quantum-admin")),
    "changed_response": (
        "signature",
        lambda: replaced('Version="2.0" IssueInstant="2026', 'Version="2.0" IssueInstant="2025', IDP.sign(signed())),
    ),
    "hmac_with_certificate": (
        "algorithm",
        lambda: text(response(IDP.sign(assertion(), method=_HMAC, key=IDP.certificate.public_bytes(Encoding.PEM)))),
    ),
    "sha1_signature": ("algorithm", lambda: text(response(IDP.sign(assertion(), method=f"{DS}rsa-sha1")))),
    "sha1_digest": ("algorithm", lambda: text(response(IDP.sign(assertion(), digest=_SHA1)))),
    "xslt_transform": (
        "signature_form",
        lambda: text(response(IDP.sign(assertion(), transforms=(ENVELOPED, _XSLT, EXCLUSIVE)))),
    ),
    "xpath_transform": (
        "signature_form",
        lambda: text(response(IDP.sign(assertion(), transforms=(ENVELOPED, _XPATH, EXCLUSIVE)))),
    ),
    "no_transforms": ("schema", lambda: text(response(IDP.sign(assertion(), transforms=())))),
    "two_references": ("signature_form", lambda: text(twice_referred())),
    "reference_to_whole": ("signature_form", lambda: text(response(IDP.sign(assertion(), uri="")))),
    "reference_to_file": ("signature_form", lambda: text(response(IDP.sign(assertion(), uri="file:///etc/passwd")))),
    "reference_to_network": (
        "signature_form",
        lambda: text(response(IDP.sign(assertion(), uri="http://127.0.0.1:9/"))),
    ),
    "reference_to_response": ("signature_form", lambda: text(response(IDP.sign(assertion(), uri="#_response")))),
    "object_in_signature": ("signature_form", lambda: text(response(IDP.sign(assertion(), extra="<ds:Object/>")))),
    "entity_file": ("dtd", lambda: declared("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>", "&x;")),
    "entity_network": ("dtd", lambda: declared("<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/x.dtd'>", "&x;")),
    "entity_parameter": ("dtd", lambda: declared("<!DOCTYPE a [<!ENTITY % x SYSTEM 'http://127.0.0.1:9/'> %x;]>", "a")),
    "entity_billion": ("dtd", lambda: declared(f"{_LAUGHS}]>", "&i;")),
    "entity_in_utf16": ("not_xml", lambda: declared("<!DOCTYPE a [<!ENTITY x 'y'>]>", "&x;").decode().encode("utf-16")),
    "entity_in_utf7": (
        "not_xml",
        lambda: b"<?xml version='1.0' encoding='utf-7'?>+ADwAIQ-DOCTYPE a+AD4-" + text(signed()),
    ),
    "comment_in_name": (
        "comment",
        lambda: replaced("alice@corp.example</saml:NameID", "alice@corp.example<!---->.evil.example</saml:NameID"),
    ),
    "cdata_in_name": (
        "dtd",
        lambda: replaced("alice@corp.example</saml:NameID", "<![CDATA[alice@corp.example]]></saml:NameID"),
    ),
    "stylesheet": ("processing_instruction", lambda: b"<?xml-stylesheet href='http://127.0.0.1:9/'?>" + text(signed())),
    "instruction_in_name": (
        "processing_instruction",
        lambda: replaced("alice@corp.example</saml:NameID", "alice@corp.example<?x?>.evil.example</saml:NameID"),
    ),
    "not_well_formed": ("not_xml", lambda: text(signed())[:-5]),
    "nothing": ("not_xml", lambda: b""),
    "not_xml": ("not_xml", lambda: b'{"assertion": true}'),
    "binary": ("not_xml", lambda: bytes(range(256))),
    "deep": ("too_large", lambda: b"<a>" * 200 + b"</a>" * 200),
    "wide": ("too_large", lambda: b"<a>" + b"<b/>" * 10_000 + b"</a>"),
    "wrapping_1": ("assertions", lambda: text(wrapped(1))),
    "wrapping_2": ("schema", lambda: text(wrapped(2))),
    "wrapping_3": ("assertions", lambda: text(wrapped(3))),
    "wrapping_4": ("schema", lambda: text(wrapped(4))),
    "wrapping_5": ("assertions", lambda: text(wrapped(5))),
    "wrapping_6": ("assertions", lambda: text(wrapped(6))),
    "wrapping_7": ("identifiers", lambda: text(wrapped(7))),
    "wrapping_8": ("assertions", lambda: text(wrapped(8))),
    "same_identifier": (
        "identifiers",
        lambda: text(response(IDP.sign(assertion()), with_attribute(assertion(), "ID", "_assertion"))),
    ),
    "xml_identifier": (
        "identifiers",
        lambda: text(with_attribute(signed(), "{http://www.w3.org/XML/1998/namespace}id", "_assertion")),
    ),
    "odd_identifier": ("identifiers", lambda: text(signed(identifier="#xpointer(//a)"))),
    "encrypted_for_other": ("decryption", lambda: text(response(encrypted(_SOUND, OTHER_SP.public_key())))),
    "encrypted_pkcs1": ("algorithm", lambda: within(_SOUND, transport="pkcs1")),
    "encrypted_unsigned": ("decryption", lambda: within(text(assertion()))),
    "encrypted_changed": ("decryption", lambda: within(_SOUND.replace(b"alice", b"mallo"), cipher="cbc")),
    "encrypted_entity": ("decryption", lambda: within(b"<!DOCTYPE a [<!ENTITY x 'y'>]>" + _SOUND)),
    "encrypted_two": ("decryption", lambda: within(_SOUND + text(evil()))),
    "encrypted_escape": ("decryption", lambda: within(_SOUND + b"</within><within>")),
    "encrypted_nothing": ("decryption", lambda: within(b"", cipher="cbc")),
    "expired": ("expired", lambda: text(signed(after=-60))),
    "confirmation_expired": ("expired", lambda: text(signed(confirmed_until=-60))),
    "not_yet_valid": ("not_yet_valid", lambda: text(signed(before=60))),
    "made_in_future": ("not_yet_valid", lambda: text(signed(made=60))),
    "stale": ("stale", lambda: text(signed(made=-3_600, after=86_400, confirmed_until=86_400))),
    "time_of_elsewhere": (
        "schema",
        lambda: text(response(IDP.sign(with_attribute(assertion(), "IssueInstant", "2026-09-21T16:13:20+02:00")))),
    ),
    "session_ended": ("authentication", lambda: text(signed(session_ends=-60))),
    "signed_in_in_future": ("authentication", lambda: text(signed(signed_in=600))),
    "other_audience": ("audience", lambda: text(signed(audience="https://other.example/metadata"))),
    "longer_audience": ("audience", lambda: text(signed(audience=AUDIENCE + ".evil.example"))),
    "no_audience": ("audience", lambda: text(without("saml:Conditions/saml:AudienceRestriction"))),
    "second_audience": (
        "audience",
        lambda: text(
            signed(
                extra_condition="<saml:AudienceRestriction><saml:Audience>https://other.example</saml:Audience></saml:AudienceRestriction>"
            )
        ),
    ),
    "no_conditions": ("conditions", lambda: text(without("saml:Conditions"))),
    "unknown_condition": (
        "conditions",
        lambda: text(signed(extra_condition='<saml:Condition xsi:type="saml:OneTimeUseType"/>')),
    ),
    "no_authentication": ("authentication", lambda: text(without("saml:AuthnStatement"))),
    "other_destination": (
        "destination",
        lambda: text(response(IDP.sign(assertion()), destination="https://other.example/acs")),
    ),
    "longer_destination": (
        "destination",
        lambda: text(response(IDP.sign(assertion()), destination=ACS + ".evil.example")),
    ),
    "longer_recipient": ("confirmation", lambda: text(signed(recipient="https://evil.example/?" + ACS))),
    "other_issuer": ("issuer", lambda: text(response(IDP.sign(assertion()), issuer="https://other.example/metadata"))),
    "other_issuer_signed": ("issuer", lambda: text(signed(issuer="https://other.example/metadata"))),
    "other_request": (
        "in_response_to",
        lambda: text(response(IDP.sign(assertion(request="_other")), request="_other")),
    ),
    "other_request_signed": ("in_response_to", lambda: text(signed(request="_other"))),
    "unsolicited": ("unsolicited", lambda: text(response(IDP.sign(assertion(request=None)), request=None))),
    "unsolicited_signed": ("in_response_to", lambda: text(signed(request=None))),
    "no_confirmation": ("confirmation", lambda: text(without("saml:Subject/saml:SubjectConfirmation"))),
    "holder_of_key": ("confirmation", lambda: text(holder_of_key())),
    "encrypted_name": ("encrypted_parts", lambda: text(signed(subject_xml=_ENCRYPTED_ID))),
    "encrypted_attribute": (
        "encrypted_parts",
        lambda: text(
            signed(
                extra="<saml:AttributeStatement>"
                + _ENCRYPTED_ID.replace("EncryptedID", "EncryptedAttribute")
                + "</saml:AttributeStatement>"
            )
        ),
    ),
    "name_for_other": (
        "subject",
        lambda: text(signed(subject_xml='<saml:NameID SPNameQualifier="https://other.example">alice</saml:NameID>')),
    ),
    "name_invisible": ("subject", lambda: text(signed(subject="alice\u200b@corp.example"))),
    "name_empty": ("subject", lambda: text(signed(subject=" "))),
    "name_long": ("subject", lambda: text(signed(subject="a" * 257))),
    "status_denied": ("status", lambda: text(response(IDP.sign(assertion()), status=_DENIED))),
    "another_version": ("not_saml", lambda: text(response(IDP.sign(with_attribute(assertion(), "Version", "1.1"))))),
    "another_message": (
        "not_saml",
        lambda: f'<samlp:LogoutResponse xmlns:samlp="{SAMLP}" ID="_a" Version="2.0"/>'.encode(),
    ),
    "metadata": ("not_saml", lambda: IDP.metadata().encode()),
    "no_assertion": ("assertions", lambda: text(response())),
    "two_assertions": ("assertions", lambda: text(response(IDP.sign(assertion()), IDP.sign(evil())))),
    "assertion_beside_encrypted": ("assertions", lambda: text(response(evil(), encrypted(_SOUND, SP.public_key())))),
    "group_bomb": (
        "attributes",
        lambda: text(signed(attributes={"groups": [f"g{number}" for number in range(1_100)]})),
    ),
    "long_attribute": ("attributes", lambda: text(signed(attributes={"groups": ["g" * 2_000]}))),
}


def main() -> None:
    """Write them all."""
    for old in HERE.glob("*.xml"):
        old.unlink()
    (HERE / "idp.metadata").write_text(IDP.metadata())
    (HERE / "sp.key").write_bytes(SP.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for name, (_, made) in CASES.items():
        (HERE / f"{name}.xml").write_bytes(made())
    facts = {"now": NOW, "issuer": ISSUER, "audience": AUDIENCE, "destination": ACS, "in_response_to": REQUEST}
    document = facts | {
        "attributes": sorted(ATTRIBUTES),
        "cases": {name: reason for name, (reason, _) in CASES.items()},
    }
    (HERE / "cases.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
