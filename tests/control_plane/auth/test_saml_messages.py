# SPDX-License-Identifier: Apache-2.0
"""G13: what the plane says to SAML providers, what of their logouts it believes, its own keys, and its settings."""

from __future__ import annotations

import base64
import datetime as dt
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from control_plane.auth.saml import document, keys, logout, metadata, request, tables
from control_plane.auth.saml.assertion import NameId
from control_plane.auth.saml.metadata import Idp
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.request import Us
from control_plane.auth.saml.schema import follows
from control_plane.auth.saml.tables import SamlFacts
from control_plane.errors import SettingInvalid
from tests.identity.assertions import SAML, SAMLP, Provider, stamp

NOW = 1_790_000_000
ISSUER = "https://idp.example"
US = Us(
    "https://plane/auth/saml/corp/metadata", "https://plane/auth/saml/corp/acs", "https://plane/auth/saml/corp/logout"
)
NAME = NameId('al"ice <&>', "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", ISSUER, US.entity_id)


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider(ISSUER, NOW)


@pytest.fixture(scope="module")
def idp(provider: Provider) -> Idp:
    return metadata.read(provider.metadata().encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keys, the older of which signs."""
    path = tmp_path_factory.mktemp("keys") / "saml"
    for _ in range(2):
        keys.add(path, "dev", dt.datetime.fromtimestamp(NOW, dt.UTC))
    return path


def unpacked(address: str, kind: str) -> bytes:
    return zlib.decompress(base64.b64decode(parse_qs(address.partition("?")[2])[kind][0]), -15)


def asked(**bent: str) -> str:
    """A provider's logout request, as it stands in an address before it is signed."""
    values = {
        "ID": "_l",
        "Version": "2.0",
        "IssueInstant": stamp(NOW),
        "NotOnOrAfter": stamp(NOW + 60),
        "Destination": US.logout,
        "issuer": ISSUER,
        "index": "_session",
    } | bent
    head = " ".join(f'{key}="{value}"' for key, value in values.items() if key[0].isupper())
    return (
        f'<samlp:LogoutRequest xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" {head}><saml:Issuer>{values["issuer"]}'
        f"</saml:Issuer><saml:NameID>alice</saml:NameID><samlp:SessionIndex>{values['index']}</samlp:SessionIndex>"
        f"</samlp:LogoutRequest>"
    )


def signed(provider: Provider, message: str, method: str = "rsa-sha256") -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = base64.b64encode(packer.compress(message.encode()) + packer.flush()).decode()
    fields = {"SAMLRequest": packed, "RelayState": "a b", "SigAlg": f"http://www.w3.org/2001/04/xmldsig-more#{method}"}
    query = urlencode(fields)
    value = provider.key.sign(query.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{query}&{urlencode({'Signature': base64.b64encode(value).decode()})}"


def reason(query: str, idp: Idp) -> str:
    with pytest.raises(SamlRefused) as refused:
        kind, root, relay = logout.brought(query, idp.certificates, NOW)
        assert kind == "SAMLRequest"
        logout.read_request(root, relay, US, ISSUER, NOW, 10)
    return refused.value.reason


def test_what_the_plane_asks_follows_the_schema_and_escapes_what_it_repeats(folder: Path) -> None:
    signer = keys.load(folder)[0]
    for message in (
        request.login(US, "https://idp.example/sso", identifier="_a", now=NOW),
        request.logout(US, "https://idp.example/slo", identifier="_b", now=NOW, name=NAME, session="_s"),
        request.logout_answer(US, "https://idp.example/slo", identifier="_c", now=NOW, in_response_to="_l"),
    ):
        root = document.parsed(message)
        assert follows(root, "protocol"), message
        address = request.redirect("https://idp.example/x?tenant=1", "SAMLRequest", message, signer, "relay")
        assert address.startswith("https://idp.example/x?tenant=1&SAMLRequest=")
        assert unpacked(address, "SAMLRequest") == message
        over, _, signature = address.partition("?tenant=1&")[2].partition("&Signature=")
        key = signer.certificate.public_key()
        assert isinstance(key, RSAPublicKey)
        key.verify(
            base64.b64decode(parse_qs(f"s={signature}")["s"][0]), over.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
    told = document.parsed(request.logout(US, "x", identifier="_b", now=NOW, name=NAME, session=None))
    assert document.find(told, "saml:NameID")[0].text == NAME.text


def test_our_metadata_has_every_key_to_check_with_and_the_newest_to_encrypt_with(folder: Path) -> None:
    root = document.parsed(request.our_metadata(US, keys.load(folder)))
    uses = [one.get("use") for one in root.iter("{*}KeyDescriptor")]
    assert uses == ["signing", "signing", "encryption"]
    shown = [x509.load_der_x509_certificate(base64.b64decode(one.text)) for one in root.iter("{*}X509Certificate")]
    assert [one.fingerprint(hashes.SHA256()) for one in shown[1:]] == [shown[1].fingerprint(hashes.SHA256())] * 2


def test_keys_are_rotated_with_overlap_and_the_last_one_stays(tmp_path: Path) -> None:
    at = dt.datetime.fromtimestamp(NOW, dt.UTC)
    first = keys.add(tmp_path, "dev", at)
    with pytest.raises(ValueError, match="last"):
        keys.retire(tmp_path)
    second = keys.add(tmp_path, "dev", at)
    assert [one.fingerprint for one in keys.load(tmp_path)] == [first.fingerprint, second.fingerprint]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.pem")} == {0o600}
    assert [row["uses"] for row in keys.told(keys.load(tmp_path))] == ["signs and opens", "opens; to encrypt with"]
    assert keys.retire(tmp_path).fingerprint == first.fingerprint
    assert [one.number for one in keys.load(tmp_path)] == [2]
    assert "PRIVATE" not in repr(keys.load(tmp_path))


def test_a_logout_of_the_provider_is_believed_when_it_signed_it(provider: Provider, idp: Idp) -> None:
    kind, root, relay = logout.brought(signed(provider, asked()), idp.certificates, NOW)
    assert (kind, relay) == ("SAMLRequest", "a b")
    said = logout.read_request(root, relay, US, ISSUER, NOW, 10)
    assert (said.name.text, said.sessions, said.identifier) == ("alice", ("_session",), "_l")


@pytest.mark.parametrize(
    ("bent", "wanted"),
    [
        ({"issuer": "https://other.example"}, "issuer"),
        ({"Destination": "https://other.example/logout"}, "destination"),
        ({"NotOnOrAfter": stamp(NOW - 60)}, "expired"),
        ({"IssueInstant": stamp(NOW - 3_600)}, "stale"),
        ({"IssueInstant": stamp(NOW + 60)}, "not_yet_valid"),
        ({"index": "&#x200B;"}, "authentication"),
        ({"Version": "1.1"}, "not_saml"),
        ({"issuer": "<!---->"}, "comment"),
    ],
)
def test_each_bent_logout_is_refused_for_its_reason(
    provider: Provider, idp: Idp, bent: dict[str, str], wanted: str
) -> None:
    assert reason(signed(provider, asked(**bent)), idp) == wanted


def test_a_logout_that_the_provider_did_not_sign_is_refused(provider: Provider, idp: Idp) -> None:
    whole = signed(provider, asked())
    assert reason(whole.partition("&Signature")[0], idp) == "unsigned"
    assert reason(signed(Provider(ISSUER, NOW), asked()), idp) == "signature"
    assert reason(whole.replace("RelayState=a+b", "RelayState=c"), idp) == "signature"
    assert reason(whole.replace("RelayState=a+b&", ""), idp) == "signature"
    assert reason(f"SAMLRequest=other&{whole}", idp) == "signature_form"
    assert reason(f"SAMLResponse=other&{whole}", idp) == "not_saml"
    assert reason(signed(provider, asked(), "hmac-sha256"), idp) == "algorithm"
    bomb = "<a>" + " " * (document.MAX_BYTES + 10) + "</a>"
    assert reason(signed(provider, bomb), idp) == "too_large"


def facts(path: Path, **more: object) -> SamlFacts:
    values: dict[str, object] = {"name": "corp", "issuer": ISSUER, "tenant": "demo", "metadata": str(path)}
    return SamlFacts(**(values | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tenant": "No Tenant"}, "tenant"),
        ({"issuer": ""}, "issuer"),
        ({"issuer": "https://other.example"}, "metadata"),
        ({"metadata": "/nowhere"}, "metadata"),
        ({"groups_attribute": "with space"}, "groups_attribute"),
        ({"entity_id": "a\nb"}, "entity_id"),
    ],
)
def test_a_table_that_can_t_be_used_is_refused_with_its_field(
    provider: Provider, tmp_path: Path, more: dict[str, object], field: str
) -> None:
    path = tmp_path / "idp.xml"
    path.write_text(provider.metadata())
    tables.check((facts(path),), ())
    with pytest.raises(SettingInvalid) as refused:
        tables.check((facts(path, **more),), ())
    assert f"saml[0].{field}" in str(refused.value)


def test_two_providers_of_a_tenant_never_share_a_name_of_people(provider: Provider, tmp_path: Path) -> None:
    path = tmp_path / "idp.xml"
    path.write_text(provider.metadata())
    with pytest.raises(SettingInvalid, match=r"saml\[1\].issuer"):
        tables.check((facts(path), facts(path, name="other")), ())
    tables.check((facts(path), facts(path, name="other", tenant="other")), ())
