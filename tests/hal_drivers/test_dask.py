# SPDX-License-Identifier: Apache-2.0
"""A Dask cluster of processes runs the engine by the same contract: conformance, kill, limits, meters (decision 7)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hal_drivers.base import Canceled, Driver, Failed, Finished, Stopped
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendUnknown
from hal_drivers.table import open_drivers
from tests.conformance.driver import BELL, LONG, check_driver
from tests.hal_drivers.one import submitted, until_running

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("dask"),
    # Dask's own client leaves these behind it.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
WAIT_S = 120.0
CLUSTER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", scheduler_port=0, dashboard_address=None
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    script = tmp_path_factory.mktemp("dask") / "cluster.py"
    script.write_text(CLUSTER, encoding="utf-8")
    cluster = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=script.parent,
        text=True,
    )
    assert cluster.stdout is not None
    assert cluster.stdin is not None
    try:
        yield cluster.stdout.readline().strip().replace("tcp://", "dask://")
    finally:
        cluster.stdin.close()
        try:
            cluster.wait(30)
        finally:
            cluster.kill()
            cluster.wait()
            cluster.stdout.close()


def make(scheduler: str) -> Driver:
    backend = BackendConfig(id="aer-dask", memory_bytes=512 << 20, cluster=scheduler)
    return open_drivers(DriversConfig(backends=(backend,)))["aer-dask"]


@pytest.fixture
async def driver(scheduler: str) -> AsyncIterator[Driver]:
    async with make(scheduler) as entered:
        yield entered


async def test_dask_conforms(scheduler: str) -> None:
    await check_driver(make(scheduler))


async def test_the_meters_are_those_of_the_child_in_the_cluster(driver: Driver) -> None:
    handle = await submitted(driver, BELL, "metered")
    assert isinstance(await driver.poll(handle, WAIT_S), Finished)
    usage = (await driver.result(handle)).usage
    assert usage.source == "measured"
    assert usage.cpu_s is not None
    assert usage.peak_memory_bytes is not None
    await driver.forget(handle)
    assert await driver.find("metered") is None


async def test_another_worker_of_the_plane_finds_the_task(driver: Driver, scheduler: str) -> None:
    handle = await submitted(driver, BELL, "found")
    async with make(scheduler) as other:
        assert await other.find("found") == handle
        assert isinstance(await other.poll(handle, WAIT_S), Finished)
        assert sum((await other.result(handle)).counts.values()) == 100


async def test_a_deadline_kills_the_child_in_the_cluster(driver: Driver) -> None:
    handle = await submitted(driver, LONG, "late", shots=1_000_000, deadline_s=1.0)
    status = await driver.poll(handle, WAIT_S)
    assert isinstance(status, Failed)
    assert status.code == "deadline_exceeded"


async def test_a_cancelled_task_is_stopped_where_it_runs(driver: Driver) -> None:
    handle = await submitted(driver, LONG, "stops", shots=1_000_000, deadline_s=300.0)
    await until_running(driver, handle)
    began = time.process_time()
    assert isinstance(await driver.cancel(handle), Canceled)
    assert isinstance(await driver.poll(handle), Stopped)
    assert time.process_time() - began < WAIT_S
    assert isinstance(await driver.cancel(handle), Canceled)


async def test_a_cluster_that_is_gone_is_offline_with_its_reason(tmp_path: Path) -> None:
    async with make("dask://127.0.0.1:1") as driver:
        status = await driver.status("aer-dask")
        assert not status.online
        assert status.reason == "the Dask scheduler doesn't answer"


def test_plain_text_is_for_development_only() -> None:
    backend = BackendConfig(id="x", cluster="dask://127.0.0.1:8786")
    with pytest.raises(BackendUnknown, match="dasks://"):
        open_drivers(DriversConfig(backends=(backend,), require_walls=True))
