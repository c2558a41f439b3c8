# SPDX-License-Identifier: Apache-2.0
"""G13: keys come from a real issuer over HTTP on loopback; it rotates them, is slow, lies, or is down."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from control_plane.auth.addresses import reachable
from control_plane.auth.errors import IdentityUnavailable, Unauthenticated
from control_plane.auth.http import MAX_BYTES, Http
from control_plane.auth.jwks import (
    MAX_AGE_S,
    PAUSE_S,
    STALE_S,
    UNKNOWN_BURST,
    UNKNOWN_EVERY_S,
    parse_jwks,
)
from control_plane.auth.oidc import Authenticator
from control_plane.auth.providers import OidcIssuer
from control_plane.errors import SettingInvalid


class Provider:
    """A small real issuer: signs, serves discovery and keys over HTTP, counts what it is asked."""

    def __init__(self, key: Key | None = None, alg: str = "ES256") -> None:
        self.alg = alg
        self.now = 1_790_000_000.0
        self.asked: list[str] = []
        self.status = 200
        self.body: bytes | None = None
        self.issuer_said: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""
        self.keys: dict[str, Key] = {}
        self.rotate("first", key or ECKey.generate_key("P-256"))

    def rotate(self, kid: str, key: Key) -> None:
        """Sign with this key from now on and forget the others."""
        self.kid = kid
        self.keys = {kid: key}

    def token(self, **claims: Any) -> str:
        """An access token by the present key."""
        said = {"iss": self.url, "aud": "plane", "sub": "alice", "exp": int(self.now) + 86_400, **claims}
        header = {"alg": self.alg, "typ": "at+jwt", "kid": self.kid}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # joserfc: EdDSA has a newer name
            return jwt.encode(header, said, self.keys[self.kid], algorithms=[self.alg])

    def jwks(self) -> bytes:
        """The public keys."""
        listed = [{**key.as_dict(private=False), "kid": kid} for kid, key in self.keys.items()]
        return json.dumps({"keys": listed}).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One HTTP/1.1 answer a connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.asked.append(path)
        await self.gate.wait()
        body = self.jwks()
        if path.endswith("/openid-configuration"):
            said = {"issuer": self.issuer_said or self.url, "jwks_uri": f"{self.url}/keys"}
            body = json.dumps(said).encode()
        elif self.body is not None:
            body = self.body
        location = f"Location: {self.url}/keys\r\n" if self.status == 302 else ""
        writer.write(
            f"HTTP/1.1 {self.status} x\r\n{location}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        writer.close()

    def config(self, **changed: Any) -> OidcIssuer:
        """Its `[[oidc]]`."""
        return OidcIssuer(**{"issuer": self.url, "audience": "plane", "tenant": "acme", **changed})


@asynccontextmanager
async def running(provider: Provider) -> AsyncIterator[Provider]:
    """The provider on a free port of this machine."""
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        provider.gate.set()
        server.close()


@asynccontextmanager
async def trusting(*issuers: OidcIssuer, clock: Provider, timeout_s: float = 3.0) -> AsyncIterator[Authenticator]:
    """An authenticator with a real HTTP client and the provider's clock."""
    http = Http(timeout_s)
    found = Authenticator(issuers, pseudonym_key=bytes(32), fetch=http.fetch, clock=lambda: clock.now)
    try:
        yield found
    finally:
        await found.close()
        await http.close()


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("ES256", lambda: ECKey.generate_key("P-256")),
        ("ES384", lambda: ECKey.generate_key("P-384")),
        ("RS256", lambda: RSAKey.generate_key(2048)),
        ("PS256", lambda: RSAKey.generate_key(2048)),
        ("Ed25519", lambda: OKPKey.generate_key("Ed25519")),
        ("EdDSA", lambda: OKPKey.generate_key("Ed25519")),
    ],
)
async def test_discovery_keys_and_each_algorithm(alg: str, key: Any) -> None:
    """G13: from issuer name to principal, over HTTP."""
    async with running(Provider(key(), alg)) as idp, trusting(idp.config(), clock=idp) as doorman:
        found = await doorman.authenticate(idp.token(roles=["auditor"], team="red", department="research"))
        assert (found.tenant, found.roles, found.team, found.department) == (
            "acme",
            ("auditor",),
            "red",
            "research",
        )
        assert idp.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_a_rotated_key_is_taken_at_once_and_the_old_one_dropped() -> None:
    """G13: rotation in the middle of traffic; a token of the dropped key is refused, though it was remembered."""
    async with running(Provider()) as idp, trusting(idp.config(), clock=idp) as doorman:
        old = idp.token()
        await doorman.authenticate(old)
        idp.rotate("second", ECKey.generate_key("P-256"))
        assert (await doorman.authenticate(idp.token())).subject == "alice"
        with pytest.raises(Unauthenticated) as caught:
            await doorman.authenticate(old)
        assert caught.value.reason == "key_unknown"


async def test_forged_key_ids_do_not_hammer_the_issuer() -> None:
    """N13: unknown ids cost the issuer a burst and then one fetch in `UNKNOWN_EVERY_S`; a good token costs none."""
    async with (
        running(Provider()) as idp,
        trusting(idp.config(jwks_uri=f"{idp.url}/keys"), clock=idp) as doorman,
    ):
        good = idp.token()
        await doorman.authenticate(good)
        real, idp.kid = idp.kid, "forged"
        idp.keys["forged"] = ECKey.generate_key("P-256")
        forged = [idp.token(sub=str(number)) for number in range(40)]
        del idp.keys["forged"]
        idp.kid = real
        for token in forged:
            with pytest.raises(Unauthenticated):
                await doorman.authenticate(token)
        assert len(idp.asked) == 1 + UNKNOWN_BURST
        await doorman.authenticate(idp.token(sub="bob"))
        idp.now += UNKNOWN_EVERY_S
        with pytest.raises(Unauthenticated):
            await doorman.authenticate(forged[0])
        assert len(idp.asked) == 2 + UNKNOWN_BURST


async def test_an_issuer_that_is_down_is_a_503_and_never_an_allow() -> None:
    """G13, I5: nobody can be recognised, and the plane says so; when it is back, so is everybody."""
    async with running(Provider()) as idp, trusting(idp.config(), clock=idp) as doorman:
        idp.status = 500
        for _ in range(3):
            with pytest.raises(IdentityUnavailable) as caught:
                await doorman.authenticate(idp.token())
            assert caught.value.code == "identity_unavailable"
        assert len(idp.asked) == 1, "it was tried once, then left alone"
        idp.status = 200
        idp.now += PAUSE_S
        assert (await doorman.authenticate(idp.token())).tenant == "acme"


async def test_nobody_listens() -> None:
    """G13: a refused connection is unavailable too."""
    idp = Provider()
    async with running(idp):
        pass
    async with trusting(idp.config(), clock=idp) as doorman:
        with pytest.raises(IdentityUnavailable):
            await doorman.authenticate(idp.token())


async def test_a_slow_issuer_is_given_up() -> None:
    """G13: the wait is the plane's to bound; callers at the same time share one fetch and its failure."""
    async with running(Provider()) as idp, trusting(idp.config(), clock=idp, timeout_s=0.05) as doorman:
        idp.gate.clear()
        tokens = [idp.token(sub=str(number)) for number in range(8)]
        answers = await asyncio.gather(*map(doorman.authenticate, tokens), return_exceptions=True)
        assert {type(answer) for answer in answers} == {IdentityUnavailable}
        assert len(idp.asked) == 1


async def test_a_caller_who_goes_away_leaves_the_others_their_answer() -> None:
    """G13: a cancelled request neither loses the keys nor counts as an issuer that knows no keys."""
    async with running(Provider()) as idp, trusting(idp.config(), clock=idp) as doorman:
        idp.gate.clear()
        leaving = asyncio.create_task(doorman.authenticate(idp.token(sub="leaving")))
        while not idp.asked:  # noqa: ASYNC110 - the provider of this test tells by a list
            await asyncio.sleep(0)
        staying = asyncio.create_task(doorman.authenticate(idp.token(sub="staying")))
        await asyncio.sleep(0)
        leaving.cancel()
        idp.gate.set()
        assert (await staying).subject == "staying"


async def test_known_keys_outlast_a_short_absence_but_not_a_long_one() -> None:
    """G13: kept keys serve up to `STALE_S` while the issuer is away; then the plane can't know any more."""
    async with running(Provider()) as idp, trusting(idp.config(), clock=idp) as doorman:
        await doorman.authenticate(idp.token())
        idp.status = 503
        idp.now += MAX_AGE_S + 1
        assert (await doorman.authenticate(idp.token(sub="bob"))).subject == "bob"
        idp.now += STALE_S
        with pytest.raises(IdentityUnavailable):
            await doorman.authenticate(idp.token(sub="carol"))


async def test_old_keys_are_fetched_again_without_anyone_waiting() -> None:
    """G13: a withdrawn key is noticed within `MAX_AGE_S` and one request, though no unknown id shows it."""
    async with running(Provider()) as idp, trusting(idp.config(), clock=idp) as doorman:
        old = idp.token()
        await doorman.authenticate(old)
        idp.rotate("second", ECKey.generate_key("P-256"))
        idp.now += MAX_AGE_S + 1
        assert (await doorman.authenticate(old)).subject == "alice"
        background = doorman._trusted[idp.url].keys._background  # type: ignore[attr-defined]
        await background
        with pytest.raises(Unauthenticated):
            await doorman.authenticate(old)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b"\xff",
        b"[" * 100_000,
        b'{"keys":[1,null,{"kty":"oct","k":"AAAA"}]}',
    ],
)
async def test_a_key_set_that_makes_no_sense_is_unavailable(body: bytes) -> None:
    """G13: the issuer's fault is no 500 and no refusal of the person."""
    async with running(Provider()) as idp, trusting(idp.config(), clock=idp) as doorman:
        idp.body = body
        with pytest.raises(IdentityUnavailable):
            await doorman.authenticate(idp.token())


async def test_a_key_set_without_end_a_redirect_and_another_issuers_metadata_are_refused() -> None:
    """G13: bounded bytes; no redirect is followed; metadata must name the issuer that was asked."""
    async with running(Provider()) as idp:
        for change in (
            {"body": b" " * (MAX_BYTES + 1)},
            {"status": 302},
            {"issuer_said": "https://other.example"},
        ):
            before = {name: getattr(idp, name) for name in change}
            for name, value in change.items():
                setattr(idp, name, value)
            async with trusting(idp.config(), clock=idp) as doorman:
                with pytest.raises(IdentityUnavailable):
                    await doorman.authenticate(idp.token())
            for name, value in before.items():
                setattr(idp, name, value)


async def test_one_issuer_serves_two_tenants_by_audience_and_a_token_for_both_is_for_neither() -> None:
    """I7: which tenant a person acts in is never a guess."""
    async with running(Provider()) as idp:
        both = (idp.config(), idp.config(audience="plane-2", tenant="globex"))
        async with trusting(*both, clock=idp) as doorman:
            assert (await doorman.authenticate(idp.token())).tenant == "acme"
            assert (await doorman.authenticate(idp.token(aud=["x", "plane-2"]))).tenant == "globex"
            with pytest.raises(Unauthenticated):
                await doorman.authenticate(idp.token(aud=["plane", "plane-2"]))


async def test_one_issuers_key_signs_nothing_for_another() -> None:
    """I7: two issuers, each believed for its own tenant only."""
    async with (
        running(Provider()) as one,
        running(Provider()) as two,
        trusting(one.config(), two.config(tenant="globex"), clock=one) as doorman,
    ):
        assert (await doorman.authenticate(two.token())).tenant == "globex"
        with pytest.raises(Unauthenticated):
            await doorman.authenticate(two.token(iss=one.url))
        # A claim `tenant` means something from the local issuer only.
        assert (await doorman.authenticate(two.token(tenant="acme"))).tenant == "globex"


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "http://idp.example"},
        {"issuer": "ftp://127.0.0.1"},
        {"issuer": "https://"},
        {"issuer": "https://user:pw@idp.example"},
        {"jwks_uri": "http://idp.example/keys"},
        {"audience": ""},
        {"tenant": "Acme"},
        {"tenant": "_plane"},
        {"tenant": ""},
    ],
)
def test_an_unsafe_issuer_does_not_start(changed: dict[str, str]) -> None:
    """N11: the message names the setting."""
    config = msgspec.convert(
        {"issuer": "https://idp.example", "audience": "plane", "tenant": "acme", **changed}, OidcIssuer
    )
    with pytest.raises(SettingInvalid, match=rf"oidc\[0\]\.{next(iter(changed))}"):
        Authenticator([config], pseudonym_key=bytes(32))


def test_an_audience_given_twice_does_not_start() -> None:
    """I7: two tenants for one audience would be a guess."""
    config = OidcIssuer(issuer="https://idp.example", audience="plane", tenant="acme")
    with pytest.raises(SettingInvalid, match=r"oidc\[1\]\.audience"):
        Authenticator([config, config], pseudonym_key=bytes(32))


def test_only_sound_public_signing_keys_are_taken() -> None:
    """G13: secret, private, encryption, weak and unknown keys of a set are left out."""
    good = ECKey.generate_key("P-256").as_dict(private=False)
    bad: list[Any] = [
        OctKey.generate_key(256).as_dict(private=True),
        ECKey.generate_key("P-256").as_dict(private=True),
        {**good, "use": "enc"},
        {**good, "key_ops": ["sign"]},
        {**good, "alg": "HS256"},
        {**good, "alg": "ES384"},
        {**good, "kid": 7},
        {**good, "x": "AAAA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "OKP", "crv": "X25519", "x": good["x"]},
        {"kty": "unheard-of"},
        None,
    ]
    assert len(parse_jwks(json.dumps({"keys": [good]}).encode())) == 1
    for one in bad:
        with pytest.raises(ValueError, match="key"):
            parse_jwks(json.dumps({"keys": [one]}).encode())


@pytest.mark.parametrize("address", ["http://[::1", "//x", "", "http://localhost.evil.example", "https://[bad"])
def test_odd_addresses_are_not_reachable(address: str) -> None:
    """G13: no address that parses oddly is ever fetched."""
    assert not reachable(address)
