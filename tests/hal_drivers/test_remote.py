# SPDX-License-Identifier: Apache-2.0
"""The remote driver and the simulator that it reaches, over TLS on this machine (issue 4, items 1 and 2)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from hal_drivers.base import CompileRequest, Driver, Finished, Handle, Task, Unknown
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendUnavailable, CircuitInvalid
from hal_drivers.remote.driver import RemoteDriver
from hal_drivers.remote.link import Egress
from hal_drivers.simulator.certificate import CertificateUnusable
from hal_drivers.simulator.keep import InFolder, InMemory, Keep, Kept
from hal_drivers.simulator.serve import Serving
from tests.conformance.driver import BELL, check_driver
from tests.hal_drivers import hostile
from tests.hal_drivers.hostile import Hostile
from tests.hal_drivers.served import driver_of, here, settings_of


def entered(far: Hostile, backend: BackendConfig | None = None, token: str = hostile.TOKEN) -> RemoteDriver:
    config = DriversConfig(credential=lambda name: token)
    return RemoteDriver(backend or far.settings(), config, hostile.SHORT)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Hostile]:
    made = Hostile(tmp_path)
    async with made.serving():
        yield made
        await made.close()


async def reason(driver: Driver) -> str | None:
    """Why the backend is offline."""
    status = await driver.status(hostile.BACKEND)
    assert status.online == (status.reason is None)
    return status.reason


@pytest.mark.timeout(120)
async def test_a_served_aer_conforms(tmp_path: Path) -> None:
    async with here(tmp_path, keep=tmp_path / "keep") as (server, token):
        await check_driver(driver_of(settings_of(server), token))


async def test_wrong_bit_order_is_found_by_the_conformance_suite(tmp_path: Path) -> None:
    """At run time nothing tells it from an honest answer; so a backend is held to the suite before it is offered."""

    from tests.conformance.driver import check_counts_add_up_in_qiskits_order

    def measuring(bits: str) -> hostile.Trick:
        def change(document: dict[str, Any]) -> None:
            for said in (document["outcome"], *document["outcome"]["blocks"]):
                said["counts"] = {bits: 1000}

        return hostile.changed(change)

    far = Hostile(tmp_path)
    async with far.serving(), entered(far) as driver:
        (device,) = await driver.devices()
        far.at("result", measuring("01"))
        await check_counts_add_up_in_qiskits_order(driver, device)
        far.at("result", measuring("10"))
        with pytest.raises(AssertionError, match="last classical bit stands left"):
            await check_counts_add_up_in_qiskits_order(driver, device)
    await far.close()


async def test_what_it_claims_counts_within_what_is_granted(far: Hostile) -> None:
    def boast(document: dict[str, Any]) -> None:
        (device,) = document["devices"]
        device |= {"qubits": 10**9, "max_shots": 10**12, "region": "moon", "sovereign": True, "provider": "aer"}
        device["capabilities"] |= {"formats": ["QPY", "QASM3"], "tasks_at_once": 10**9, "session": True}

    far.at("capabilities", hostile.changed(boast))
    async with entered(far, far.settings(region="lab", sovereign=False, max_shots=5_000)) as driver:
        (device,) = await driver.devices()
    assert (device.id, device.provider, device.region, device.sovereign) == (hostile.BACKEND, "remote", "lab", False)
    assert (device.qubits, device.max_shots, device.capabilities.formats) == (1_000, 5_000, ("QASM3",))
    assert (device.capabilities.tasks_at_once, device.capabilities.session) == (256, False)


@pytest.mark.parametrize(
    ("place", "trick", "why"),
    [
        ("capabilities", hostile.says(401, "token_invalid"), "refuses the credential"),
        ("capabilities", hostile.silent, "does not answer in time"),
        ("capabilities", hostile.garbage, "can't be read"),
        ("capabilities", hostile.endless, "too long"),
        ("capabilities", hostile.elsewhere, "can't be read (307)"),
        ("device", hostile.says(503), "busy"),
        ("capabilities", hostile.changed(lambda d: d.update(protocol=2)), "speaks protocol 2"),
        ("capabilities", hostile.changed(lambda d: d.update(devices=[])), "has no device"),
    ],
)
async def test_why_a_backend_is_down_is_told(far: Hostile, place: str, trick: hostile.Trick, why: str) -> None:
    far.at(place, trick)
    async with entered(far) as driver:
        assert why in str(await reason(driver))
        far.heal()
        await driver._look()
        assert await reason(driver) is None


async def test_another_certificate_is_not_spoken_to(tmp_path: Path) -> None:
    """Changed while a driver runs, and for one that starts: nothing is sent, not even the token."""
    far = Hostile(tmp_path)
    async with far.serving():
        port = int(far.url.rpartition(":")[2])
        driver = entered(far)
        await driver.__aenter__()
        assert await reason(driver) is None
    async with far.serving(port, name="other"):
        far.seen.clear()
        await driver._look()
        assert "not one that its ca vouches for" in str(await reason(driver))
        assert far.seen == []
        Path(far.ca).write_bytes((tmp_path / "other.pem").read_bytes())
        await driver._look()
        assert await reason(driver) is None, "the administrator has accepted the new one"
    await driver.__aexit__(None, None, None)
    await far.close()


async def test_a_certificate_of_another_host_is_not_spoken_to(far: Hostile, tmp_path: Path) -> None:
    from hal_drivers.simulator import certificate

    folder = tmp_path / "o"
    folder.mkdir()
    certificate.prepare(folder / "c.pem", folder / "c.key", ["elsewhere.example"])
    with pytest.raises(CertificateUnusable, match=r"doesn't name 10\.0\.0\.9"):
        certificate.prepare(folder / "c.pem", folder / "c.key", ["10.0.0.9"])


async def test_no_other_address_is_reached_whatever_is_asked(far: Hostile) -> None:
    """S6: names, addresses and ports beyond the configured one, and the environment's proxies."""
    egress = Egress("127.0.0.1", 8443)
    with pytest.raises(OSError, match="egress"):
        await egress.resolve("localhost", 8443)
    for address in (("127.0.0.1", 8444), ("198.51.100.7", 8443)):
        with pytest.raises(OSError, match="egress"):
            egress.make((socket.AF_INET, socket.SOCK_STREAM, 0, "", address))
    async with entered(far) as driver:
        session = driver._link._opened()
        for url in ("https://127.0.0.1:1/", "https://localhost:9/", far.url.replace("127.0.0.1", "127.0.0.2")):
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url)


async def test_proxies_of_the_environment_are_not_asked(far: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        proxy.setblocking(False)
        async with entered(far) as driver:
            assert await reason(driver) is None
        with pytest.raises(BlockingIOError):
            proxy.accept()


async def test_a_process_without_credentials_reaches_no_backend(far: Hostile) -> None:
    """S6: what the API has is a config without them; the simulator lets nobody in without its token."""
    bare = RemoteDriver(far.settings(), DriversConfig(), hostile.SHORT)
    async with bare:
        assert "holds no credentials" in str(await reason(bare))
    assert far.seen == []
    async with entered(far, token="another-token-altogether") as driver:
        assert "refuses the credential (401)" in str(await reason(driver))
    async with entered(far, far.settings(credential=None)) as driver:
        assert "refuses the credential (401)" in str(await reason(driver))


async def test_an_error_quotes_neither_circuit_nor_token(far: Hostile) -> None:
    """I10: a far side that echoes is cut off; one that explains is heard."""
    far.at("compile", hostile.says(422, "circuit_invalid", f"cannot read {BELL.decode()[40:80]}"))
    request = CompileRequest(format="QASM3", source=BELL, parameters={}, backend=hostile.BACKEND, shots=10)
    async with entered(far) as driver:
        with pytest.raises(CircuitInvalid) as told:
            await driver.compile(request)
        assert told.value.detail == "the backend says no more"
        far.at("compile", hostile.says(422, "circuit_invalid", "too \x1b[31mdeep\n"))
        with pytest.raises(CircuitInvalid, match=r"^too \[31mdeep$"):
            await driver.compile(request)


async def test_an_endless_wait_is_resumed_poll_after_poll(far: Hostile) -> None:
    far.engine.gate.clear()
    async with entered(far) as driver:
        handle = await submitted(driver)
        assert not isinstance(await driver.poll(handle, 0.05), Finished)
        asyncio.get_running_loop().call_later(0.05, far.engine.gate.set)
        assert isinstance(await driver.poll(handle, 5.0), Finished)


async def submitted(driver: Driver, token: str = "1-aa") -> Handle:
    compiled = await driver.compile(
        CompileRequest(format="QASM3", source=BELL, parameters={}, backend=hostile.BACKEND, shots=10)
    )
    return await driver.submit(compiled, Task(token=token, shots=10, seed=7))


async def test_another_process_goes_on_with_a_handle(far: Hostile) -> None:
    async with entered(far) as first:
        handle = await submitted(first)
    async with entered(far) as second:
        assert await second.find("1-aa") == handle
        assert isinstance(await second.poll(handle, 5.0), Finished)
        assert (await second.result(handle)).shots_executed == 10
        await second.forget(handle)
        assert isinstance(await second.poll(handle), Unknown)


async def ask(server: Serving, token: str | None, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    import ssl

    context = ssl.create_default_context(cafile=server.certificate)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.request(method, server.url + path, data=body and io.BytesIO(body), headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


@pytest.mark.timeout(120)
async def test_a_simulator_survives_what_is_sent_to_it(tmp_path: Path) -> None:
    good = b'{"format":"QASM3","source":"","parameters":{},"backend":"aer","shots":1}'
    bad = [
        ("POST", "/v1/compile", b"", 400, "request_invalid"),
        ("POST", "/v1/compile", b"[" * 100_000, 400, "request_invalid"),
        ("POST", "/v1/compile", good[:-1] + b',"extra":1}', 400, "request_invalid"),
        ("POST", "/v1/compile", good.replace(b":1}", b":0}"), 400, "request_invalid"),
        ("POST", "/v1/compile", good, 422, "circuit_invalid"),
        ("POST", "/v1/compile", good.replace(b'"aer"', b'"other"'), 404, "backend_unknown"),
        ("POST", "/v1/compile", b" " * ((16 << 20) + 1), 413, "body_too_large"),
        ("POST", "/v1/compile?x=1", good, 400, "request_invalid"),
        ("PUT", "/v1/tasks/a%20b", b"{}", 400, "request_invalid"),
        ("GET", "/v1/tasks/unknown", None, 404, "task_unknown"),
        ("GET", "/v1/tasks/unknown?wait=1e9", None, 400, "request_invalid"),
        ("GET", "/v1/tasks/unknown?wait=nan", None, 400, "request_invalid"),
        ("GET", "/v1/tasks/..%2f..%2ftoken", None, 404, "task_unknown"),
        ("GET", "/v2/capabilities", None, 404, "request_invalid"),
        ("PATCH", "/v1/capabilities", None, 405, "request_invalid"),
    ]
    async with here(tmp_path) as (server, token):
        for method, path, body, status, code in bad:
            said, fault = await ask(server, token, method, path, body)
            assert (said, fault["code"]) == (status, code), (method, path)
        assert await ask(server, None, "GET", "/v1/capabilities") == await ask(server, "x" * 40, "POST", "/v1/compile")
        async with driver_of(settings_of(server), token) as driver:
            compiled = await driver.compile(
                CompileRequest(format="QASM3", source=BELL, parameters={}, backend="remote-1", shots=10)
            )
            for forged in (replace(compiled, artefact=b"QISKIT"), replace(compiled, ticket=None)):
                with pytest.raises(Exception, match="did not compile that"):
                    await driver.submit(forged, Task(token="2-bb", shots=10))
            await driver.submit(compiled, Task(token="2-bb", shots=10, seed=1))
            with pytest.raises(Exception, match="another task"):
                await driver.submit(compiled, Task(token="2-bb", shots=9, seed=1))


async def test_a_simulator_limits_how_often_it_is_asked(tmp_path: Path) -> None:
    from hal_drivers.simulator.server import Rate

    now = [0.0]
    rate = Rate(10, lambda: now[0])
    assert sum(rate.draw() for _ in range(100)) == 20
    now[0] = 1.0
    assert sum(rate.draw() for _ in range(100)) == 10


@contextlib.asynccontextmanager
async def kept(folder: Path, keep: Keep) -> AsyncIterator[RemoteDriver]:
    """A server with this memory, and a driver of it."""
    far = Hostile(folder, keep)
    try:
        async with far.serving(), entered(far) as driver:
            yield driver
    finally:
        await far.close()
        keep.close()


async def test_what_is_kept_survives_a_restart_and_the_rest_is_known_to_be_gone(tmp_path: Path) -> None:
    """With a folder unknown is proof, and a token that was used stays used; without one a restart proves nothing."""
    folder = tmp_path / "keep"
    async with kept(tmp_path, InFolder(folder)) as driver:
        done, gone = await submitted(driver, "1-done"), await submitted(driver, "1-gone")
        assert isinstance(await driver.poll(done, 5.0), Finished)
        assert isinstance(await driver.poll(gone, 5.0), Finished)
        before = await driver.result(done)
        await driver.forget(gone)
        with pytest.raises(OSError, match="another simulator"):
            InFolder(folder)
    (folder / "tasks" / "0.part").write_bytes(b"cut off")
    with contextlib.closing(InFolder(folder)) as between:
        between.write("1-cut", Kept("sha256"))
    async with kept(tmp_path, InFolder(folder)) as driver:
        after = await driver.result(done)
        assert (after.counts, after.started_at) == (before.counts, before.started_at)
        assert isinstance(await driver.poll(gone), Unknown)
        assert await driver.find("1-gone") is not None, "used, so not free to run again"
        assert [await driver.find(token) for token in ("1-never", "1-cut")] == [None, None]
        assert (await driver.devices())[0].capabilities.find_authoritative
    async with kept(tmp_path, InMemory()) as driver:
        assert await driver.find("1-done") is None
        assert not (await driver.devices())[0].capabilities.find_authoritative


async def test_a_backend_that_is_gone_says_so_at_once(far: Hostile) -> None:
    driver = entered(far, far.settings(url="https://127.0.0.1:9"))
    async with driver:
        assert await reason(driver) == "nobody can be reached there"
        with pytest.raises(BackendUnavailable):
            await driver.find("1-aa")
