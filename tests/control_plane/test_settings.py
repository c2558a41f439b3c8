# SPDX-License-Identifier: Apache-2.0
"""Settings: authority of sources, exact refusals, what profiles forbid (N11, G11)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.providers import OidcIssuer
from control_plane.errors import SettingInvalid, problem
from control_plane.fields import FIELDS
from control_plane.settings import TABLES, BackendFacts, Settings, from_json, load, located, to_json

_SAAS = {"QCOS_PROFILE": "saas", "QCOS_DATABASE_URL": "postgresql://a:b@db/qcos", "QCOS_PLANE": "eu-1"}
_OIDC = "[[oidc]]\nissuer = 'https://id.example'\naudience = 'qcos'\ntenant = 'acme'\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_flag_beats_the_environment_and_that_the_file() -> None:
    Path("qcos.toml").write_text("http_port = 1001\nworkers = 5\n")
    assert load({}, {}).http_port == 1001
    assert load({}, {"QCOS_HTTP_PORT": "1002"}).http_port == 1002
    assert load({"http_port": "1003"}, {"QCOS_HTTP_PORT": "1002"}).http_port == 1003
    assert load({"http_port": None}, {}).workers == 5


def test_each_field_has_a_reader_and_each_reader_a_field() -> None:
    assert set(FIELDS) | set(TABLES) == set(Settings.__struct_fields__)


def test_the_homes_own_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "qcos.toml").write_text("workers = 3\n")
    assert load({}, {"QCOS_HOME": str(tmp_path / "h")}).workers == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QCOS_HTTP_PORT", "eighty"),
        ("QCOS_HTTP_PORT", "65536"),
        ("QCOS_WORKERS", "0"),
        ("QCOS_PROFILE", "prod"),
        ("QCOS_POLICY_ENGINE", "none"),
        ("QCOS_LEASE_S", "nan"),
        ("QCOS_LEASE_S", "inf"),
        ("QCOS_DATABASE_URL", "mysql://x/y"),
        ("QCOS_DATABASE_URL", "postgresql://a:b@host"),
        ("QCOS_DATABASE_URL", "postgresql://a:b@host:port/db"),
        ("QCOS_TSA_URL", "ftp://x"),
        ("QCOS_QPY", "maybe"),
    ],
)
def test_a_wrong_value_is_refused_by_name_value_and_wish(name: str, value: str) -> None:
    """N11: the message names the field, the value and what is wanted."""
    with pytest.raises(SettingInvalid) as caught:
        load({}, {name: value})
    detail = caught.value.detail
    assert name in detail
    assert "wanted" in detail
    assert repr(value) in detail or "***" in detail
    assert problem(caught.value)[1]["errors"][0]["field"] == name


def test_a_refused_database_url_shows_no_password() -> None:
    """I10."""
    with pytest.raises(SettingInvalid) as caught:
        load({}, {"QCOS_DATABASE_URL": "mysql://me:s3cret@host/db"})
    assert "s3cret" not in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "wrokers = 2",
        "workers = true",
        "workers = 2.0",
        "workers = [",
        "oidc = 3",
        "[[oidc]]\nissuer = 'https://i'",
        "[[oidc]]\nissuer = 'https://i'\naudience = 'a'\ntenant = 't'\nrole_claim = 'x'",
        "[[backend]]\nid = 'a'\nprovider = 'aer'\nregion = 'r'\ncompliance_zone = 'z'\nsovereign = 'yes'",
    ],
)
def test_a_file_that_is_not_understood_stops_the_start(text: str) -> None:
    Path("qcos.toml").write_text(text)
    with pytest.raises(SettingInvalid):
        load({}, {})


def test_issuers_and_backend_facts_come_from_the_file() -> None:
    Path("qcos.toml").write_text(
        "[[oidc]]\nissuer = 'http://127.0.0.1:1/'\naudience = 'qcos'\ntenant = 'demo'\nroles_claim = 'groups'\n"
        "[[backend]]\nid = 'aer-1'\nprovider = 'aer'\nregion = 'here'\ncompliance_zone = 'sovereign'\n"
        "sovereign = true\n"
    )
    settings = load({}, {})
    assert settings.oidc == (OidcIssuer("http://127.0.0.1:1/", "qcos", "demo", "groups"),)
    assert settings.backend == (BackendFacts("aer-1", "aer", "here", "sovereign", sovereign=True),)


def test_dev_binds_loopback_only() -> None:
    with pytest.raises(SettingInvalid, match="loopback"):
        load({}, {"QCOS_HTTP_HOST": "0.0.0.0"})


@pytest.mark.parametrize("profile", ["saas", "dedicated", "onprem", "airgapped"])
@pytest.mark.parametrize(
    ("missing", "wish"),
    [
        ({"QCOS_DATABASE_URL": ""}, "QCOS_DATABASE_URL"),
        ({"QCOS_POLICY_ENGINE": "embedded"}, "embedded engine is for dev only"),
        ({"QCOS_LOCAL_ISSUER": "true"}, "local_issuer"),
        ({"QCOS_PLANE": ""}, "plane"),
    ],
)
def test_other_profiles_refuse_what_is_for_development(profile: str, missing: dict[str, str], wish: str) -> None:
    """G11: local issuer, the wheel's PostgreSQL and the embedded engine are dev's alone."""
    with pytest.raises(SettingInvalid, match=wish):
        load({}, {**_SAAS, "QCOS_PROFILE": profile, **missing})


def test_another_profile_needs_an_issuer_of_tokens() -> None:
    """Without one nobody could sign in, and the local issuer is dev's alone."""
    with pytest.raises(SettingInvalid, match="oidc"):
        load({}, _SAAS)


@pytest.fixture
def passphrase(tmp_path: Path) -> dict[str, str]:
    """A file with a passphrase, and the variable that names it."""
    (tmp_path / "passphrase").write_text("correct horse battery staple")
    return {"QCOS_KEY_PASSPHRASE_FILE": str(tmp_path / "passphrase")}


@pytest.mark.parametrize(
    ("table", "environment", "wish"),
    [
        ("", {}, "keys.passphrase_file"),
        ("", {"QCOS_KEY_PASSPHRASE_FILE": "/nowhere"}, "keys.passphrase_file.*exists"),
        ("backend = 'vault'", {}, "keys.backend.*file or pkcs11"),
        ("backend = 'pkcs11'", {}, "keys.module"),
        ("backend = 'pkcs11'\nmodule = '/m.so'\npin_file = '/p'", {}, "keys.token"),
        ("backend = 'pkcs11'\nmodule = '/m.so'\npin_file = '/p'\ntoken = 't'", {}, "keys.module.*exists"),
        ("pin = '1234'", {}, "keys.pin.*known keys"),
    ],
)
def test_other_profiles_refuse_keys_that_nothing_protects(table: str, environment: dict[str, str], wish: str) -> None:
    """G12: a key file is encrypted, or the key lies in an HSM whose library, token and PIN are named."""
    Path("qcos.toml").write_text(f"{_OIDC}[keys]\n{table}\n")
    with pytest.raises(SettingInvalid, match=wish):
        load({}, _SAAS | environment)


def test_systemd_hands_over_the_passphrase(tmp_path: Path) -> None:
    """G12: LoadCredential=qcos-key-passphrase:… is enough."""
    Path("qcos.toml").write_text(_OIDC)
    (tmp_path / "qcos-key-passphrase").write_text("correct horse battery staple")
    settings = load({}, _SAAS | {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.keys.passphrase_file == tmp_path / "qcos-key-passphrase"
    assert from_json(to_json(settings)).keys == settings.keys


def test_another_profile_starts_with_everything_said(passphrase: dict[str, str]) -> None:
    Path("qcos.toml").write_text(_OIDC)
    settings = load({}, _SAAS | passphrase)
    assert (settings.local_issuer, settings.plane) == (False, "eu-1")
    assert settings.database_url == "postgresql+psycopg://a:b@db/qcos"


def test_a_command_finds_the_plane_without_what_only_a_start_needs() -> None:
    """The administrator's database URL is for `up`; `down` and `status` need the home alone."""
    environment = {"QCOS_PROFILE": "onprem", "QCOS_PLANE": "eu-1", "QCOS_HOME": "/h"}
    assert located({}, environment).home == Path("/h")
    with pytest.raises(SettingInvalid, match="QCOS_DATABASE_URL"):
        load({}, environment)


def test_a_long_home_gets_a_short_runtime_folder(tmp_path: Path) -> None:
    short = load({}, {"QCOS_HOME": "/h"})
    assert short.runtime == Path("/h/run")
    long = load({}, {"QCOS_HOME": str(tmp_path / ("x" * 90))})
    assert len(str(long.postgres_sockets / ".s.PGSQL.5432.lock")) < 100
    assert long.runtime != load({}, {"QCOS_HOME": str(tmp_path / ("y" * 90))}).runtime


@pytest.mark.parametrize("name", ["a b", "a,b", "50%", "ü", "a+b"])
def test_a_home_whose_name_a_url_would_change_gets_a_plain_runtime_folder(tmp_path: Path, name: str) -> None:
    """libpq takes a comma for a list of hosts, and blanks and % don't survive each URL."""
    settings = load({}, {"QCOS_HOME": str(tmp_path / name)})
    assert name not in str(settings.postgres_sockets)
    assert settings.runtime != load({}, {"QCOS_HOME": str(tmp_path / (name + "2"))}).runtime


def test_children_get_the_settings_without_the_administrators_login(passphrase: dict[str, str]) -> None:
    """Decision 4: that login creates roles and is used for nothing else."""
    Path("qcos.toml").write_text(_OIDC)
    settings = load({}, _SAAS | passphrase)
    handed = from_json(to_json(settings))
    assert handed == msgspec.structs.replace(settings, database_url=None)


@given(
    st.sampled_from(sorted(FIELDS)),
    st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()),
)
def test_a_reader_returns_a_value_or_refuses_by_name(name: str, value: object) -> None:
    try:
        FIELDS[name].parse(name, value)
    except SettingInvalid as refusal:
        assert refusal.field == name
