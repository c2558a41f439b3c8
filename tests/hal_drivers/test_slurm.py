# SPDX-License-Identifier: Apache-2.0
"""A Slurm cluster runs the engine behind the same contract: conformance, one run a task, its job id told (G14, N15)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hal_drivers.base import Driver, Failed, Finished, Handle, Stopped
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendUnavailable, BackendUnknown
from hal_drivers.table import open_drivers
from tests import slurm
from tests.conformance.driver import BELL, LONG, check_driver
from tests.hal_drivers.one import submitted, until_running

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(slurm.missing() is not None, reason=f"no Slurm here: {slurm.missing()}"),
]
WAIT_S = 120.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch, slurm.one_node(folder / "s") as config:
        patch.setenv("SLURM_CONF", str(config))
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
        yield folder / "shared"


def make(shared: Path) -> Driver:
    backend = BackendConfig(id="aer-slurm", memory_bytes=512 << 20, cluster=f"slurm://debug{shared}")
    return open_drivers(DriversConfig(backends=(backend,)))["aer-slurm"]


@pytest.fixture
async def driver(cluster: Path) -> AsyncIterator[Driver]:
    async with make(cluster) as entered:
        yield entered


def folder_of(handle: Handle, shared: Path) -> Path:
    (job,) = [path for path in shared.glob("*/job") if path.read_text() == str(handle["job"])]
    return job.parent


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


async def test_slurm_conforms(cluster: Path) -> None:
    await check_driver(make(cluster))


async def test_the_outcome_names_the_slurm_job(driver: Driver) -> None:
    handle = await submitted(driver, BELL, "named")
    assert isinstance(await driver.poll(handle, WAIT_S), Finished)
    outcome = await driver.result(handle)
    assert outcome.accounting == {"slurm_job_id": str(handle["job"]), "slurm_partition": "debug"}
    assert outcome.usage.cpu_s is not None
    assert outcome.usage.source == "measured"


async def test_another_worker_finds_the_task_and_submits_no_second_one(driver: Driver, cluster: Path) -> None:
    handle = await submitted(driver, BELL, "found")
    (folder_of(handle, cluster) / "job").unlink()  # as if the first worker had died between sbatch and its note
    other = make(cluster)
    assert await other.find("found") == handle
    async with other:
        assert await submitted(other, BELL, "found") == handle
        assert isinstance(await other.poll(handle, WAIT_S), Finished)


async def test_a_node_that_dies_fails_the_task_and_runs_nothing_twice(driver: Driver, cluster: Path) -> None:
    handle = await submitted(driver, LONG, "dies", shots=1_000_000, deadline_s=300.0)
    await until_running(driver, handle)
    async with asyncio.timeout(WAIT_S):
        while not (folder_of(handle, cluster) / "started").exists():  # Slurm says RUNNING before there is a process
            await driver.poll(handle, 0.2)
    told = await asyncio.to_thread(ask, "scontrol", "listpids", str(handle["job"]))
    for line in told.splitlines()[1:]:
        os.kill(int(line.split()[0]), signal.SIGKILL)
    status = await driver.poll(handle, WAIT_S)
    assert isinstance(status, Failed)
    assert status.code == "backend_failed"


async def test_a_cancelled_job_is_gone_from_slurm(driver: Driver) -> None:
    handle = await submitted(driver, LONG, "stops", shots=1_000_000, deadline_s=300.0)
    await until_running(driver, handle)
    await driver.cancel(handle)
    assert isinstance(await driver.poll(handle, 1.0), Stopped)
    assert await asyncio.to_thread(ask, "squeue", "--noheader", f"--jobs={handle['job']}") == ""


async def test_an_absent_controller_concludes_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handle = await submitted(driver, BELL, "away")
    assert isinstance(await driver.poll(handle, WAIT_S), Finished)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not (await driver.status("aer-slurm")).online
    with pytest.raises(BackendUnavailable):
        await submitted(driver, BELL, "never")


def test_a_cluster_without_a_shared_folder_is_refused() -> None:
    with pytest.raises(BackendUnknown, match="slurm://PARTITION/FOLDER"):
        open_drivers(DriversConfig(backends=(BackendConfig(id="x", cluster="slurm://debug"),)))
