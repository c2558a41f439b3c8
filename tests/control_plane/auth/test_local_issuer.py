# SPDX-License-Identifier: Apache-2.0
"""G13: the development users' issuer: real tokens, files that only their owner reads, no use outside `dev`."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.auth.errors import Unauthenticated
from control_plane.auth.issuer import IDENTITY, TOKEN_S, LocalIssuer, dev_users
from control_plane.auth.keys import dev_login_is, prepare, pseudonym_key
from control_plane.auth.oidc import Authenticator
from control_plane.errors import Refused, SettingInvalid

NOW = datetime(2026, 11, 21, tzinfo=UTC)
URL = "http://127.0.0.1:8470"


def doorman(home: Path, *issuers: LocalIssuer) -> Authenticator:
    """A plane of this home, at `NOW`."""
    (one,) = issuers
    return Authenticator(
        [],
        pseudonym_key=pseudonym_key(home),
        local=one.trusted(),
        clock=lambda: NOW.timestamp() + 1,
        leeway_s=0,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A prepared home."""
    prepare(tmp_path, "dev")
    return tmp_path


@pytest.mark.parametrize(
    ("user", "tenant", "role"),
    [
        ("engineer", "demo", "quantum-engineer"),
        ("user", "demo", "quantum-user"),
        ("admin", "demo", "quantum-admin"),
        ("auditor", "demo", "auditor"),
        ("finops", "demo", "finops"),
        ("outsider", "other", "quantum-engineer"),
    ],
)
async def test_each_development_user_signs_in(home: Path, user: str, tenant: str, role: str) -> None:
    """The contracts' seed: users, roles, tenants."""
    local = LocalIssuer.opened(home, url=URL, profile="dev")
    issued = local.issue(user, now=NOW)
    found = await doorman(home, local).authenticate(issued.access_token)
    assert (found.actor, found.tenant, found.roles) == (f"user:{user}@{tenant}", tenant, (role,))
    assert (found.kind, found.team is None, found.department is None) == ("user", False, False)
    assert issued.expires_at.timestamp() == NOW.timestamp() + TOKEN_S


def test_the_seed_is_whole() -> None:
    """The contracts name six users."""
    assert sorted(dev_users()) == ["admin", "auditor", "engineer", "finops", "outsider", "user"]


async def test_a_person_stays_the_same_person_on_another_port(home: Path) -> None:
    """The ledger's name for them rests on the issuer's identity, not on where the plane listens today."""
    found = []
    for url in (URL, "http://127.0.0.1:1"):
        local = LocalIssuer.opened(home, url=url, profile="dev")
        found.append(await doorman(home, local).authenticate(local.issue("engineer", now=NOW).access_token))
    assert found[0] == found[1]
    assert found[0].issuer == IDENTITY


async def test_another_homes_issuer_is_not_believed(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """G13: the address is not the trust; the key is."""
    elsewhere = tmp_path_factory.mktemp("other")
    prepare(elsewhere, "dev")
    theirs = LocalIssuer.opened(elsewhere, url=URL, profile="dev").issue("admin", now=NOW)
    with pytest.raises(Unauthenticated):
        await doorman(home, LocalIssuer.opened(home, url=URL, profile="dev")).authenticate(theirs.access_token)


def test_discovery_names_the_issuer_of_the_tokens(home: Path) -> None:
    """OIDC Discovery 4.3; and the key set holds public keys only."""
    local = LocalIssuer.opened(home, url=URL + "/", profile="dev")
    document = local.discovery()
    assert document["issuer"] == f"{URL}/issuer"
    assert document["jwks_uri"] == f"{URL}/issuer/jwks.json"
    (key,) = local.jwks()["keys"]
    assert sorted(key) == ["alg", "crv", "kid", "kty", "use", "x", "y"]


def test_secrets_are_made_once_and_only_their_owner_reads_them(home: Path) -> None:
    """I10: 0600 files in 0700 folders, unchanged by a second start; the login secret is compared whole."""
    files = [path for path in home.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if path.is_dir()} == {0o700}
    prepare(home, "dev")
    assert {path: path.read_bytes() for path in files} == before
    secret = (home / "dev-login").read_text().strip()
    assert dev_login_is(home, secret)
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "\udcff", "é"):
        assert not dev_login_is(home, wrong)


@pytest.mark.parametrize("profile", ["saas", "dedicated", "onprem", "airgapped", ""])
def test_no_other_profile_has_a_local_issuer(home: Path, tmp_path: Path, profile: str) -> None:
    """G11: neither the issuer nor its key or login secret."""
    with pytest.raises(SettingInvalid):
        LocalIssuer.opened(home, url=URL, profile=profile)
    fresh = tmp_path / "fresh"
    prepare(fresh, profile)
    assert sorted(path.name for path in fresh.rglob("*") if path.is_file()) == ["pseudonym", "sidecar"]


def test_a_stranger_gets_no_token(home: Path) -> None:
    """G13: only the seed's users, by exact name."""
    local = LocalIssuer.opened(home, url=URL, profile="dev")
    for name in ("root", "", "Engineer", "engineer "):
        with pytest.raises(Refused) as caught:
            local.issue(name, now=NOW)
        assert caught.value.code == "request_invalid"
