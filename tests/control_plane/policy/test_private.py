# SPDX-License-Identifier: Apache-2.0
"""An engine of one's own answers by its policies, says why it can't, and is gone afterwards (G2)."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from control_plane.policy import private
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import load
from tests.control_plane.policy.opa_server import OPA, needs_opa
from tests.control_plane.policy.sample import document

POLICIES = load()
ENGINES = [pytest.param(OPA, marks=needs_opa, id="opa"), pytest.param(None, id="embedded")]


@pytest.mark.parametrize("opa_bin", ENGINES)
async def test_it_decides_by_its_policies(opa_bin: Path | None) -> None:
    async with private.opened(POLICIES, opa_bin) as engine:
        assert (await Pdp(engine, Held(POLICIES)).decide(document(), "d", datetime(2026, 11, 21, tzinfo=UTC))).allow


@pytest.mark.parametrize("opa_bin", ENGINES)
async def test_policies_that_do_not_load_are_told_in_the_engines_words(opa_bin: Path | None) -> None:
    broken = msgspec.structs.replace(
        POLICIES, modules={"qcos/main/decision.rego": "package qcos.main\n\na := [k | , }"}
    )
    with pytest.raises(PolicyUnavailable, match=r"compile|decision\.rego|bracket"):
        async with private.opened(broken, opa_bin):
            pass


@needs_opa
async def test_process_and_folder_end_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        async with private.opened(POLICIES, OPA):
            assert len(_running(tmp_path)) == 1
            raise ZeroDivisionError
    assert _running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def _running(folder: Path) -> list[str]:
    found = []
    for process in os.scandir("/proc"):
        if process.name.isdigit():
            try:
                words = (Path(process.path) / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in words:
                found.append(process.name)
    return found
