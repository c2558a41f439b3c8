# SPDX-License-Identifier: Apache-2.0
"""Which engine decides: the rule of design decision 5."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.errors import SettingInvalid
from control_plane.policy.choice import choose_engine, find_opa, open_engine
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.opa import OpaEngine


@pytest.fixture
def opa(tmp_path: Path) -> str:
    """A file that looks like the binary."""
    path = tmp_path / "opa"
    path.touch(mode=0o755)
    return str(path)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any opa."""
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path / "bare")
    monkeypatch.setenv("PATH", str(tmp_path / "bare"))


def test_auto_takes_an_opa_that_is_found(opa: str) -> None:
    choice = choose_engine("auto", "dev", opa)
    assert (choice.engine, choice.opa_bin) == ("opa", Path(opa))


@pytest.mark.usefixtures("bare")
def test_auto_without_opa_is_embedded_in_dev_and_says_how_to_get_opa() -> None:
    choice = choose_engine("auto", "dev", None)
    assert (choice.engine, choice.opa_bin) == ("embedded", None)
    assert "make tools" in choice.why


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("profile", ["saas", "dedicated", "onprem", "airgapped"])
@pytest.mark.parametrize("setting", ["auto", "embedded", "opa"])
def test_no_other_profile_starts_without_opa(setting: str, profile: str) -> None:
    with pytest.raises(SettingInvalid, match="QCOS_POLICY_ENGINE"):
        choose_engine(setting, profile, None)  # type: ignore[arg-type]


def test_embedded_is_not_replaced_by_an_opa_that_is_there(opa: str) -> None:
    assert choose_engine("embedded", "dev", opa).engine == "embedded"


@pytest.mark.usefixtures("bare")
def test_a_sidecar_by_url_needs_no_binary() -> None:
    choice = choose_engine("auto", "onprem", None, "unix:///run/opa.sock")
    assert (choice.engine, choice.opa_bin, choice.opa_url) == ("opa", None, "unix:///run/opa.sock")


def test_a_named_binary_that_is_not_there_is_an_error_and_no_fallback(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="QCOS_OPA_BIN"):
        choose_engine("auto", "dev", str(tmp_path / "opa"))


@pytest.mark.usefixtures("bare")
def test_tools_folder_goes_before_path(tmp_path: Path) -> None:
    tool = tmp_path / "bare/.tools/bin/opa"
    tool.parent.mkdir(parents=True)
    tool.touch(mode=0o755)
    (tmp_path / "bare/opa").touch(mode=0o755)
    assert find_opa(None) == tool
    tool.unlink()
    assert find_opa(None) == tmp_path / "bare/opa"


async def test_engines_are_opened_by_name() -> None:
    engine = open_engine("embedded")
    assert isinstance(engine, EmbeddedEngine)
    await engine.close()
    assert isinstance(open_engine("opa", "http://127.0.0.1:8181"), OpaEngine)
    with pytest.raises(SettingInvalid, match="QCOS_OPA_URL"):
        open_engine("opa")
