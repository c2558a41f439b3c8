# SPDX-License-Identifier: Apache-2.0
"""Every reader of a SAML provider's bytes, before its signature and behind it: a value, or a refusal (N13, G13)."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.saml import assertion, logout, metadata, person, response
from control_plane.auth.saml.decryption import opened
from control_plane.auth.saml.document import canonical, find, parsed
from control_plane.auth.saml.metadata import MetadataUnusable
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.request import Us
from control_plane.auth.saml.response import Expected
from control_plane.auth.saml.tables import SamlFacts
from tests.fuzz.test_readers import changed, ends_in, fuzzed
from tests.identity.assertions import SAML, SAMLP

FOLDER = Path(__file__).parents[1] / "vectors" / "credentials" / "saml"
FACTS = json.loads((FOLDER / "cases.json").read_text())
WORDS = (
    b"<|>|/>|</|&|&#0;|&#x200B;|&#xD800;|&lt;|<!--|-->|<![CDATA[|]]>|<?|<!DOCTYPE a>|\"|'|=|\xc3\xa9|\x00|\xff|"
    b' xmlns=""| xmlns:saml="x"| ID="_assertion"| Id="_response"| xml:id="a"| xsi:type="xs:int"| xsi:nil="true"|'
    b"<saml:NameID>a</saml:NameID>|<saml:Assertion/>|<ds:Signature/>|<saml:Audience/>|9999-99-99T99:99:99Z|"
    b"0000-01-01T00:00:00Z|2026-09-21T14:13:20.999999999Z|"
).split(b"|")
_KEY = load_pem_private_key((FOLDER / "sp.key").read_bytes(), None)
assert isinstance(_KEY, RSAPrivateKey)
EXPECTED = Expected(
    issuer=FACTS["issuer"],
    certificates=metadata.read((FOLDER / "idp.metadata").read_bytes()).certificates,
    audience=FACTS["audience"],
    destination=FACTS["destination"],
    in_response_to=FACTS["in_response_to"],
    attributes=frozenset(FACTS["attributes"]),
    keys=(_KEY,),
)
TABLE = SamlFacts(name="corp", issuer=FACTS["issuer"], tenant="demo", metadata="", name_attribute="mail")
SOUND = [(FOLDER / f"{name}.xml").read_bytes() for name, reason in FACTS["cases"].items() if reason is None]
SIGNED = canonical(find(parsed(SOUND[0]), "saml:Assertion")[0])
US = Us("https://plane", "https://plane/acs", "https://plane/logout")
LOGOUT = (
    f'<samlp:LogoutRequest xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="_l" Version="2.0"'
    f' IssueInstant="2026-09-21T14:13:20Z" Destination="{US.logout}"><saml:Issuer>{FACTS["issuer"]}</saml:Issuer>'
    f"<saml:NameID>alice</saml:NameID><samlp:SessionIndex>_s</samlp:SessionIndex></samlp:LogoutRequest>"
).encode()


@fuzzed
@given(changed(SOUND, WORDS))
def test_answers(data: bytes) -> None:
    """I5: whatever is changed, the plane hears what was signed or nothing."""
    try:
        said = response.verify(data, EXPECTED, FACTS["now"])
    except SamlRefused:
        return
    assert (said.name.text, said.attributes["qcos"]) == ("alice@corp.example", ("quantum-engineer@demo",))


@fuzzed
@given(changed([SIGNED], WORDS))
def test_what_a_provider_could_sign(data: bytes) -> None:
    """Behind the signature: a provider that says odd things is refused, or is somebody without a hole."""
    try:
        said = assertion.read(
            parsed(data),
            issuer=EXPECTED.issuer,
            audience=EXPECTED.audience,
            recipient=EXPECTED.destination,
            in_response_to=EXPECTED.in_response_to,
            attributes=EXPECTED.attributes,
            now=FACTS["now"],
            leeway_s=10,
        )
        who = person.principal(said, TABLE, b"k" * 32)
    except SamlRefused:
        return
    assert who.tenant == "demo"
    assert who.subject.isprintable()


@fuzzed
@given(changed([SOUND[-1]], WORDS))
def test_what_is_encrypted(data: bytes) -> None:
    def read(raw: bytes) -> None:
        for one in find(parsed(raw), "saml:EncryptedAssertion"):
            opened(one, EXPECTED.keys)

    ends_in(read, data, SamlRefused)


@fuzzed
@given(changed([(FOLDER / "idp.metadata").read_bytes()], WORDS))
def test_metadata(data: bytes) -> None:
    ends_in(metadata.read, data, MetadataUnusable)


@fuzzed
@given(changed([LOGOUT], WORDS))
def test_logouts(data: bytes) -> None:
    ends_in(
        lambda raw: logout.read_request(parsed(raw), None, US, EXPECTED.issuer, FACTS["now"], 10), data, SamlRefused
    )


@fuzzed
@given(changed([b"SAMLRequest=eJw%3D&RelayState=a&SigAlg=http%3A%2F%2Fx%23rsa-sha256&Signature=AAAA"]) | st.binary())
def test_addresses_of_logouts(data: bytes) -> None:
    ends_in(lambda raw: logout.brought(raw.decode("latin-1"), EXPECTED.certificates, FACTS["now"]), data, SamlRefused)
