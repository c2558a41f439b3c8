# SPDX-License-Identifier: Apache-2.0
"""Outside time-stamping authorities: what a setting may name, and the times of use that the trust file will tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control_plane.authorities import change, read_chain, used
from control_plane.errors import SettingInvalid
from control_plane.settings import Settings, load
from ledger.canonical import parse_time
from ledger.tsa import create_tsa_keys, load_chain

T0 = datetime(2026, 1, 6, 10, 0, 0, 250_000, tzinfo=UTC)
URL = "http://127.0.0.1:9/stamp"


def authority(room: Path, name: str) -> Path:
    """The PEM file of a new authority."""
    create_tsa_keys(room / name, now=T0, name=name)
    return room / name / "tsa-chain.pem"


def settings(home: Path, pem: Path | None) -> Settings:
    (home / "keys" / "tsa").mkdir(parents=True, exist_ok=True)
    return Settings(home=home, tsa_url=URL if pem else None, tsa_certificates=str(pem) if pem else None)


def test_the_certificates_are_demanded_with_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """N11: evidence stamped by an authority that no trust file names would be worth nothing."""
    monkeypatch.chdir(tmp_path)
    pem = authority(tmp_path, "outside")
    with pytest.raises(SettingInvalid, match="tsa_certificates = None: wanted a PEM file"):
        load({}, {"QCOS_TSA_URL": URL})
    with pytest.raises(SettingInvalid, match="tsa_url"):
        load({}, {"QCOS_TSA_CERTIFICATES": str(pem)})
    with pytest.raises(SettingInvalid, match="No such file"):
        load({}, {"QCOS_TSA_URL": URL, "QCOS_TSA_CERTIFICATES": "none.pem"})
    found = load({}, {"QCOS_TSA_URL": URL, "QCOS_TSA_CERTIFICATES": "outside/tsa-chain.pem"})
    assert found.tsa_certificates == str(pem)


def test_only_a_chain_that_may_stamp_time_is_taken(tmp_path: Path) -> None:
    pem, other = authority(tmp_path, "one"), authority(tmp_path, "two")
    assert read_chain(pem) == load_chain(tmp_path / "one")
    leaf, root = pem.read_text().split("-----END CERTIFICATE-----\n")[:2]
    end = "-----END CERTIFICATE-----\n"
    stranger = other.read_text().split(end)[1] + end
    for number, text in enumerate(
        ("", "no PEM", root + end, root + end + leaf + end, leaf + end, leaf + end + stranger)
    ):
        bad = tmp_path / f"{number}.pem"
        bad.write_text(text)
        with pytest.raises(SettingInvalid, match="wanted a PEM file"):
            read_chain(bad)


def test_an_authority_is_in_use_from_its_first_start_to_the_first_without_it(tmp_path: Path) -> None:
    """Decision 3: between both its token is due; a token's whole second never falls into a window that was closed."""
    one, two = authority(tmp_path, "one"), authority(tmp_path, "two")
    home = tmp_path / "home"
    assert change(settings(home, None), T0, 0) == ()
    (begun,) = change(settings(home, one), T0, 5)
    assert (begun.certificates, parse_time(begun.valid_from), begun.valid_until) == (read_chain(one), T0, None)
    assert change(settings(home, one), T0 + timedelta(hours=1), 3) == (begun,)
    later = T0 + timedelta(hours=2)
    ended, second = change(settings(home, two), later, 0)
    assert ended.valid_until is not None
    assert parse_time(ended.valid_until) < later.replace(microsecond=0)
    assert parse_time(second.valid_from) == later
    assert len({entry.name for entry in (ended, second)}) == 2
    assert used(home) == (ended, second)
    assert change(settings(home, None), later + timedelta(hours=1), 0)[-1].valid_until is not None


def test_an_authority_whose_tokens_are_awaited_is_not_given_up(tmp_path: Path) -> None:
    """G3: what waits for its token would never have evidence."""
    home = tmp_path / "home"
    change(settings(home, authority(tmp_path, "one")), T0, 0)
    for other in (None, authority(tmp_path, "two")):
        with pytest.raises(SettingInvalid, match="until its 2 awaited tokens are there"):
            change(settings(home, other), T0 + timedelta(hours=1), 2)
    assert used(home)[-1].valid_until is None


def test_one_certificate_has_one_time_of_use(tmp_path: Path) -> None:
    home, pem = tmp_path / "home", authority(tmp_path, "one")
    change(settings(home, pem), T0, 0)
    change(settings(home, None), T0 + timedelta(hours=1), 0)
    with pytest.raises(SettingInvalid, match="has not ended before"):
        change(settings(home, pem), T0 + timedelta(hours=2), 0)
