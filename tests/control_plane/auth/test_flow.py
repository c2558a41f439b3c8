# SPDX-License-Identifier: Apache-2.0
"""G13, N13: what comes back from a provider is the login that was begun, or it is refused by a reason."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth import claims, flow
from control_plane.auth.browser import csrf_of, demand_own_form, demand_own_origin, origins
from control_plane.auth.claims import SignedClaims
from control_plane.auth.discovery import Metadata, parse
from control_plane.auth.errors import CsrfRefused, IdentityUnavailable, LoginFailed
from control_plane.auth.flow import Begun
from control_plane.auth.providers import OidcIssuer
from control_plane.auth.sealed import Sealer

ISSUER = "https://id.example"
METADATA = Metadata(
    issuer=ISSUER,
    jwks_uri=f"{ISSUER}/keys",
    authorization_endpoint=f"{ISSUER}/auth?realm=a",
    token_endpoint=f"{ISSUER}/token",
    names_itself=True,
)
TABLE = OidcIssuer(issuer=ISSUER, audience="qcos", tenant="acme", client_id="web", resource="https://q.example/")
BEGUN = Begun(provider="company", state="the state", nonce="the nonce", verifier="v" * 43, next="/auth")
GOOD = {"state": "the state", "iss": ISSUER, "code": "c0de"}
ACCESS = "an access token"
HALF = base64.urlsafe_b64encode(hashlib.sha256(ACCESS.encode()).digest()[:16]).rstrip(b"=").decode()


def test_the_way_there_binds_code_answer_and_token() -> None:
    """RFC 7636, RFC 8707: the provider learns the verifier's hash alone, and the parameters of its own address stay."""
    address = urlsplit(flow.authorization_url(METADATA, TABLE, "https://q.example/auth/callback/company", BEGUN))
    asked = {name: value[0] for name, value in parse_qs(address.query).items()}
    hashed = base64.urlsafe_b64encode(hashlib.sha256(BEGUN.verifier.encode()).digest()).rstrip(b"=").decode()
    assert asked["code_challenge"] == hashed
    assert (asked["realm"], asked["nonce"], asked["state"], asked["code_challenge_method"]) == (
        "a",
        "the nonce",
        "the state",
        "S256",
    )
    assert BEGUN.verifier not in address.query


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"state": "another"}, "state"),
        ({"state": ""}, "state"),
        ({"iss": "https://evil.example"}, "mixed_up"),
        ({"iss": None}, "mixed_up"),
        ({"code": ""}, "code"),
        ({"error": "access_denied"}, "refused"),
        ({"error": "<script>alert(1)</script>"}, "refused"),
    ],
)
def test_another_answer_is_refused(changed: dict[str, str | None], reason: str) -> None:
    parameters = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    with pytest.raises(LoginFailed) as caught:
        flow.answered(parameters, BEGUN, "company", METADATA)
    assert caught.value.reason == reason
    assert "<" not in caught.value.detail


def test_an_answer_is_for_the_provider_that_was_asked() -> None:
    assert flow.answered(GOOD, BEGUN, "company", METADATA) == "c0de"
    for begun, provider in ((BEGUN, "other"), (None, "company")):
        with pytest.raises(LoginFailed):
            flow.answered(GOOD, begun, provider, METADATA)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": "another"}, "audience"),
        ({"aud": ["web", "another"]}, "audience"),
        ({"aud": ["web", "another"], "azp": "another"}, "audience"),
        ({"azp": "another"}, "audience"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"at_hash": "another"}, "at_hash"),
        ({"at_hash": 7}, "at_hash"),
    ],
)
def test_an_id_token_of_another_login_is_refused(changed: dict[str, Any], reason: str) -> None:
    said = {"aud": "web", "nonce": "the nonce", "at_hash": HALF}
    flow.check_id(SignedClaims(said), "ES256", "web", "the nonce", ACCESS)
    with pytest.raises(LoginFailed) as caught:
        flow.check_id(SignedClaims(said | changed), "ES256", "web", "the nonce", ACCESS)
    assert caught.value.reason == reason


def test_a_logout_token_is_no_id_token() -> None:
    """OpenID Connect Back-Channel Logout 2.4: each is refused in the other's place."""
    events: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    flow.check_logout(SignedClaims({"aud": "web", "events": events}), "web")
    for wrong in ({"aud": "web"}, {"aud": "web", "events": events, "nonce": "n"}, {"aud": "x", "events": events}):
        with pytest.raises(LoginFailed):
            flow.check_logout(SignedClaims(wrong), "web")
    assert claims.ID.isdisjoint(claims.ACCESS)
    assert claims.LOGOUT.isdisjoint(claims.ACCESS)


@given(st.binary() | st.dictionaries(st.text(), st.integers() | st.text()).map(lambda one: json.dumps(one).encode()))
def test_whatever_a_token_endpoint_says_is_tokens_or_a_refusal(body: bytes) -> None:
    for status in (200, 400, 302):
        try:
            given = flow.tokens(status, body)
        except LoginFailed:
            continue
        assert given.access_token.isascii()
    with pytest.raises(IdentityUnavailable):
        flow.tokens(503, body)


@pytest.mark.parametrize(
    "given",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/a\nb", "", None, "a", "/ü",
     "/%0a//evil.example\r\nSet-Cookie: a=b", "/" + "a" * 2000],
)  # fmt: skip
def test_after_the_login_one_stays_on_this_plane(given: str | None) -> None:
    assert flow.next_of(given) == "/auth"
    assert flow.next_of("/auth/device?user_code=A-B") == "/auth/device?user_code=A-B"


@given(st.text(max_size=40))
def test_no_next_leaves_the_plane(given: str) -> None:
    for text in (given, "/" + given, "//" + given):
        assert urlsplit(flow.next_of(text)).netloc == ""
        assert flow.next_of(text).startswith("/")


def test_what_is_sealed_opens_as_it_was_for_its_purpose_in_its_time() -> None:
    sealer = Sealer(bytes(32), "one")
    text = sealer.seal(BEGUN, 100.0)
    assert sealer.open(text, Begun, 99.0) == BEGUN
    assert sealer.open(text, Begun, 100.0) is None
    assert Sealer(bytes(32), "another").open(text, Begun, 99.0) is None
    assert Sealer(b"1" * 32, "one").open(text, Begun, 99.0) is None
    for place in range(0, len(text), 7):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        assert sealer.open(changed, Begun, 99.0) is None
    assert sealer.open("ü", Begun, 0) is sealer.open(None, Begun, 0) is sealer.open("AAAA", Begun, 0) is None


def test_a_page_of_this_plane_is_known_by_its_origin_and_its_word() -> None:
    """S1: with an address of its own the plane believes that one, whatever Host says."""
    behind = origins("https://qcos.example/", b"127.0.0.1:8470")
    demand_own_origin({b"origin": b"https://qcos.example"}, behind)
    for wrong in (b"http://127.0.0.1:8470", b"null", b"https://qcos.example.evil", b""):
        with pytest.raises(CsrfRefused):
            demand_own_origin({b"origin": wrong}, behind)
    with pytest.raises(CsrfRefused):
        demand_own_origin({}, behind)
    demand_own_form(csrf_of("a session"), "a session")
    for word in (None, "", csrf_of("another"), "\udcff"):
        with pytest.raises(CsrfRefused):
            demand_own_form(word, "a session")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        json.dumps({"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/k"}).encode(),
        json.dumps({"issuer": ISSUER}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": "http://id.example/k"}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/k", "token_endpoint": "http://id.example/t"}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/k", "token_endpoint": 7}).encode(),
    ],
)
def test_metadata_of_another_or_with_an_open_address_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"metadata|Expecting"):
        parse(document, ISSUER)
