# SPDX-License-Identifier: Apache-2.0
"""G13, N13: every forged token is refused by code, and nothing that is sent as a token does anything else."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.claims import ALGORITHMS, Rule, bearer, read
from control_plane.auth.errors import Unauthenticated
from control_plane.auth.oidc import CACHE_SIZE, REMEMBER_S, Authenticator

VECTORS = Path(__file__).parents[2] / "vectors" / "tokens"
FORGED: dict[str, Any] = json.loads((VECTORS / "forged.json").read_text(encoding="utf-8"))
JWKS = (VECTORS / "jwks.json").read_bytes()


def generator() -> ModuleType:
    """`generate.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("token_vectors", VECTORS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def authenticator(now: list[float] | None = None) -> Authenticator:
    """One that trusts the vectors' issuer, at the vectors' time or at `now[0]`."""
    clock = now if now is not None else [float(FORGED["now"])]
    rule = Rule(issuer=FORGED["issuer"], audience=FORGED["audience"], tenant="demo")
    return Authenticator([], pseudonym_key=bytes(32), local=(rule, JWKS), clock=lambda: clock[0], leeway_s=10)


@pytest.mark.parametrize("case", FORGED["refused"], ids=lambda case: case["name"])
async def test_a_forged_token_is_refused_and_its_text_shows_nothing_of_it(
    case: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """G13, I10: code and reason as the vector says; no part of the token is in the error, its causes or a log."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unauthenticated) as caught:
        await authenticator().authenticate(case["token"])
    assert (caught.value.code, caught.value.reason) == (case["code"], case["reason"])
    assert caught.value.headers["WWW-Authenticate"].startswith("Bearer ")
    shown = f"{caught.value} {caught.value.detail} {caught.value.extras} {caplog.text}"
    for part in case["token"].split("."):
        assert len(part) < 8 or part not in shown
    assert caught.value.__cause__ is None


async def test_the_sound_token_is_accepted() -> None:
    """G13: the verifier that refuses the forgeries isn't one that refuses everything."""
    found = await authenticator().authenticate(FORGED["accepted"])
    assert (found.actor, found.tenant, found.roles_in("demo")) == (
        "user:alice@demo",
        "demo",
        ("quantum-engineer",),
    )
    assert found.roles_in("another") == ()


def test_the_vectors_are_those_that_the_generator_makes() -> None:
    """Committed vectors are generated files."""
    for name, text in generator().documents().items():
        assert (VECTORS / name).read_text(encoding="utf-8") == text
    names = [case["name"] for case in FORGED["refused"]]
    assert len(set(names)) == len(names) > 100


def test_only_signatures_with_a_private_half_are_known() -> None:
    """RFC 8725 section 3.1: neither `none` nor an HMAC, whose key would be the public one."""
    assert not [name for name in ALGORITHMS if name.lower() == "none" or name.startswith("HS")]


@given(st.one_of(st.text(), st.none(), st.text(alphabet="ABab01-_.=", max_size=200)))
def test_whatever_stands_in_the_header_is_a_token_or_unauthenticated(header: str | None) -> None:
    """N13: fuzz of the Authorization header; never anything but Unauthenticated."""
    for text in (header, None if header is None else f"Bearer {header}"):
        try:
            read(bearer(text))
        except Unauthenticated as refused:
            assert refused.code in ("token_missing", "token_invalid", "token_expired")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_NAMES = st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "roles", "team", "preferred_username", "client_id"])
VECTOR = generator()


@given(
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "x5t", "cty"]), _JSON, max_size=2),
    claims=st.dictionaries(_NAMES, _JSON, max_size=3),
)
async def test_signed_nonsense_is_a_principal_or_unauthenticated(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    """N13: even an issuer that signs anything causes no 500, and no principal outside its tenant."""
    try:
        found = await authenticator().authenticate(VECTOR.token(header=header, **claims))
    except Unauthenticated:
        return
    assert found.tenant == "demo"
    assert found.name.isascii()
    assert found.actor.isprintable()


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
async def test_no_changed_bit_of_a_sound_token_passes(at: int, bit: int) -> None:
    """G13: one flipped bit anywhere in header, claims or signature is refused."""
    sound = bytearray(FORGED["accepted"].encode())
    sound[at % len(sound)] ^= 1 << bit
    with pytest.raises(Unauthenticated):
        await authenticator().authenticate(sound.decode("latin-1"))


async def test_a_remembered_token_still_expires() -> None:
    """G13: the memory never outlives the token, and is left in time for keys to be looked at anew."""
    now = [float(FORGED["now"])]
    doorman = authenticator(now)
    first = await doorman.authenticate(FORGED["accepted"])
    now[0] += REMEMBER_S - 1
    assert await doorman.authenticate(FORGED["accepted"]) is first
    now[0] += 2
    assert await doorman.authenticate(FORGED["accepted"]) is not first
    now[0] += 3_600 + 10
    with pytest.raises(Unauthenticated) as caught:
        await doorman.authenticate(FORGED["accepted"])
    assert caught.value.code == "token_expired"


async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """N13: a flood of sound tokens does not grow the process."""
    monkeypatch.setattr("control_plane.auth.oidc.CACHE_SIZE", 8)
    doorman = authenticator()
    for number in range(20):
        await doorman.authenticate(VECTOR.token(sub=f"person-{number}"))
    assert len(doorman._remembered) == 8
    assert CACHE_SIZE <= 10_000


def test_a_missing_or_foreign_credential_is_told_apart_from_a_bad_one() -> None:
    """RFC 6750 section 3.1: without a token the challenge names no error."""
    for header in (None, "", "  ", "Basic YTpi", "Bearer", "Bearer   "):
        with pytest.raises(Unauthenticated) as caught:
            bearer(header)
        assert caught.value.code == "token_missing"
        assert "error" not in caught.value.headers["WWW-Authenticate"]
    assert bearer("bEARER abc") == "abc"
