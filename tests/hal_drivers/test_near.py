# SPDX-License-Identifier: Apache-2.0
"""Drivers whose tasks run elsewhere read circuits here, and claim no more than they do (G14, N15)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hal_drivers.base import Analyst, ExactRequest
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendUnknown
from hal_drivers.table import open_drivers
from tests.conformance.driver import BELL

FAR = [
    BackendConfig(id="far", cluster="dask://127.0.0.1:1"),
    BackendConfig(id="far", cluster="slurm://debug/nowhere"),
    BackendConfig(id="far", provider="aws-braket", cluster="slurm://debug/nowhere"),
    BackendConfig(id="far", provider="aws-braket", device="arn:aws:braket:::device/x", url="s3://bucket/here"),
    BackendConfig(id="far", provider="ibm-quantum", device="ibm_hanoi"),
]


@pytest.mark.parametrize("backend", FAR)
async def test_what_runs_elsewhere_claims_what_its_driver_can_do(backend: BackendConfig) -> None:
    driver = open_drivers(DriversConfig(backends=(backend,), children=4))["far"]
    (device,) = await driver.devices()
    claims = device.capabilities
    assert claims.handle_scope == "anywhere"
    assert claims.exact == (backend.provider == "aer")
    assert isinstance(driver, Analyst)
    with pytest.raises(BackendUnknown):
        await driver.analyse(ExactRequest("QASM3", BELL, {}, "no-such-backend", ("statevector",)))


async def test_exact_states_of_a_cluster_s_backend_are_computed_here(tmp_path: Path) -> None:
    backend = BackendConfig(id="far", cluster=f"slurm://debug{tmp_path}")
    async with open_drivers(DriversConfig(backends=(backend,)))["far"] as driver:
        assert isinstance(driver, Analyst)
        found = await driver.analyse(ExactRequest("QASM3", BELL, {}, "far", ("statevector",)))
    assert found.label == "exact_ideal"
    assert [abs(complex(*amplitude)) ** 2 for amplitude in found.amplitudes] == pytest.approx([0.5, 0, 0, 0.5])


@pytest.mark.parametrize(
    "backend",
    [
        BackendConfig(id="x", provider="remote", url="https://127.0.0.1:1", cluster="slurm://debug/x"),
        BackendConfig(id="x", provider="ibm-quantum", device="ibm_hanoi", cluster="slurm://debug/x"),
    ],
)
def test_a_cluster_runs_this_machine_s_simulators_only(backend: BackendConfig) -> None:
    with pytest.raises(BackendUnknown, match="a cluster runs simulators of this machine"):
        open_drivers(DriversConfig(backends=(backend,)))
