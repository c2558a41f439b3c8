# SPDX-License-Identifier: Apache-2.0
"""G13, N13: what a SAML provider asserts is believed where its signature covers it, and nowhere else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from control_plane.auth.saml import document, metadata, response
from control_plane.auth.saml.refusals import REASONS, SamlRefused
from control_plane.auth.saml.response import Expected
from tests.identity.assertions import Provider

VECTORS = Path(__file__).parents[2] / "vectors" / "credentials" / "saml"
FACTS: dict[str, Any] = json.loads((VECTORS / "cases.json").read_text())
NOW: float = FACTS["now"]
BAD = {name: reason for name, reason in FACTS["cases"].items() if reason is not None}
SOUND = [name for name, reason in FACTS["cases"].items() if reason is None]


@pytest.fixture(scope="module")
def expected() -> Expected:
    key = load_pem_private_key((VECTORS / "sp.key").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return Expected(
        issuer=FACTS["issuer"],
        certificates=metadata.read((VECTORS / "idp.metadata").read_bytes()).certificates,
        audience=FACTS["audience"],
        destination=FACTS["destination"],
        in_response_to=FACTS["in_response_to"],
        attributes=frozenset(FACTS["attributes"]),
        keys=(key,),
    )


def reason(raw: bytes, expected: Expected, now: float = NOW) -> str:
    with pytest.raises(SamlRefused) as refused:
        response.verify(raw, expected, now)
    return refused.value.reason


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_answer_says_who_it_is(name: str, expected: Expected) -> None:
    said = response.verify((VECTORS / f"{name}.xml").read_bytes(), expected, NOW)
    assert (said.name.text, said.issuer, said.session) == ("alice@corp.example", expected.issuer, "_session")
    assert said.attributes["groups"] == ("lab", "staff")
    assert said.until == NOW + 300 + expected.leeway_s


@pytest.mark.parametrize("name", sorted(BAD))
def test_each_bad_file_is_refused_for_its_reason(name: str, expected: Expected) -> None:
    assert reason((VECTORS / f"{name}.xml").read_bytes(), expected) == BAD[name]


def test_the_corpus_is_whole_and_every_reason_is_a_sentence() -> None:
    assert {path.stem for path in VECTORS.glob("*.xml")} == set(FACTS["cases"])
    assert set(BAD.values()) <= set(REASONS)


def test_no_change_of_a_byte_makes_another_person(expected: Expected) -> None:
    """I5: a changed message is refused, or says what the provider said."""
    sound = (VECTORS / "sound_signed_twice.xml").read_bytes()
    said = response.verify(sound, expected, NOW)
    chance = random.Random(8)
    for _ in range(100):
        changed = bytearray(sound)
        at = chance.randrange(len(changed))
        changed[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        try:
            assert response.verify(bytes(changed), expected, NOW) == said
        except SamlRefused:
            continue


def test_a_message_may_be_no_larger_than_is_read(expected: Expected) -> None:
    assert reason(b"<a>" + b" " * document.MAX_BYTES + b"</a>", expected) == "too_large"
    with pytest.raises(SamlRefused, match="too_large"):
        document.decoded("A" * (2 * document.MAX_BYTES + 1))
    with pytest.raises(SamlRefused, match="not_base64"):
        document.decoded("no base64!")


def test_a_certificate_counts_while_it_is_valid(expected: Expected) -> None:
    """The old and the new one of a rotation both stand in the metadata; one that has ended doesn't count."""
    raw = (VECTORS / "sound.xml").read_bytes()
    ended = msgspec.structs.replace(expected.certificates[0], not_after=NOW - 1)
    assert reason(raw, msgspec.structs.replace(expected, certificates=(ended,))) == "certificates"
    another = metadata.read(Provider("x", NOW).metadata().encode()).certificates
    rotating = msgspec.structs.replace(expected, certificates=(*another, *expected.certificates))
    assert response.verify(raw, rotating, NOW).name.text == "alice@corp.example"


def test_where_assertions_must_be_encrypted_a_plain_one_is_refused(expected: Expected) -> None:
    wanted = msgspec.structs.replace(expected, encrypted=True)
    assert reason((VECTORS / "sound.xml").read_bytes(), wanted) == "unencrypted"
    assert response.verify((VECTORS / "sound_encrypted_gcm.xml").read_bytes(), wanted, NOW).session == "_session"
    assert reason((VECTORS / "sound_encrypted_gcm.xml").read_bytes(), msgspec.structs.replace(wanted, keys=())) == (
        "decryption"
    )


def test_what_nobody_asked_for_is_taken_only_where_that_was_expected(expected: Expected) -> None:
    open_ = msgspec.structs.replace(expected, in_response_to=None)
    assert response.verify((VECTORS / "unsolicited.xml").read_bytes(), open_, NOW).name.text == "alice@corp.example"
    assert reason((VECTORS / "sound.xml").read_bytes(), open_) == "in_response_to"


def test_clocks_may_differ_by_the_leeway_and_not_more(expected: Expected) -> None:
    raw = (VECTORS / "sound.xml").read_bytes()
    assert response.verify(raw, expected, NOW + 309.9).name.text
    assert reason(raw, expected, NOW + 310.1) == "expired"
    assert reason(raw, expected, NOW - 45) == "not_yet_valid"


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("https://idp.example/sso", "http://idp.example/sso", "https"),
        ("https://idp.example/sso", "javascript:alert(1)", "https"),
        ("HTTP-Redirect", "HTTP-Artifact", "SingleSignOnService"),
        ("IDPSSODescriptor", "SPSSODescriptor", "exactly one"),
        ('use="signing"', 'use="encryption"', "signing certificate"),
        ("<ds:X509Certificate>", "<ds:X509Certificate>AAAA", "can be read"),
        ("<md:EntityDescriptor", "<!DOCTYPE a><md:EntityDescriptor", "dtd"),
    ],
)
def test_metadata_that_can_t_be_used_says_what_is_wanted(old: str, new: str, wanted: str) -> None:
    text = (VECTORS / "idp.metadata").read_text()
    assert old in text
    with pytest.raises(metadata.MetadataUnusable, match=wanted):
        metadata.read(text.replace(old, new).encode())


def test_weak_keys_of_a_provider_are_refused() -> None:
    with pytest.raises(metadata.MetadataUnusable, match="2048"):
        metadata.read(Provider("x", NOW, bits=1024).metadata().encode())


def test_metadata_of_several_providers_is_chosen_by_name() -> None:
    one, two = Provider("https://one.example", NOW).metadata(), Provider("https://two.example", NOW).metadata()
    both = f'<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"><!-- ours -->{one}{two}'
    raw = (both + "</md:EntitiesDescriptor>").encode()
    assert metadata.read(raw, "https://two.example").entity_id == "https://two.example"
    with pytest.raises(metadata.MetadataUnusable, match="exactly one"):
        metadata.read(raw)
