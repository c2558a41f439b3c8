# SPDX-License-Identifier: Apache-2.0
"""The remote driver and the simulator that it reaches, over TLS on this machine (issue 4, items 1 and 2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.driver import check_driver
from tests.hal_drivers.served import driver_of, here, settings_of


@pytest.mark.timeout(120)
async def test_a_served_aer_conforms(tmp_path: Path) -> None:
    async with here(tmp_path, keep=tmp_path / "keep") as (server, token):
        await check_driver(lambda: driver_of(settings_of(server), token))
