# SPDX-License-Identifier: Apache-2.0
"""The driver of IBM's processors against a server that answers, over TLS, in the shapes of IBM's REST interface."""

from __future__ import annotations

import importlib.util
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hal_drivers.base import Canceled, Failed, Finished, Handle, Queued, Running, Stopped, Task, TooLate, Unknown
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendFailed, BackendUnavailable, ProgramUnsupported
from hal_drivers.ibm import snapshot
from hal_drivers.ibm_cloud import IbmDriver
from hal_drivers.remote.link import Patience
from hal_drivers.simulator.certificate import prepare
from tests.hal_drivers.one import HEAD, compiled

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        importlib.util.find_spec("qiskit_ibm_runtime") is None, reason="package qiskit-ibm-runtime is not installed"
    ),
]
KEY, CRN = "an-api-key", "crn:v1:bluemix:public:quantum-computing:us-east:a/0:1::"
TOKEN = "1-" + "a" * 32
STAR = HEAD + "qubit[5] q;\nbit[2] a;\nbit[3] b;\nh q[0];\n" + "".join(f"cx q[0], q[{i}];\n" for i in range(1, 5))
STAR += "a[0] = measure q[0];\na[1] = measure q[1];\nb[0] = measure q[2];\nb[1] = measure q[3];\nb[2] = measure q[4];\n"
QUICK = Patience(connect_s=2.0, answer_s=3.0, whole_s=3.0, pause_s=0.01, longest_pause_s=0.05)
Handler = Callable[[web.Request], Any]


class Ibm:
    """IBM's sign-in and REST interface, as far as the driver speaks to them; `plays` overrides a path's answer."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.bodies: list[dict[str, Any]] = []
        self.plays: dict[str, Handler] = {}
        files = snapshot("fake_hanoi")
        assert files is not None
        self.configuration, self.properties = (path.read_bytes() for path in files)
        self.results = {"results": [{"data": {"c": {"samples": ["0x0", "0x1f", "0x1f"], "num_bits": 5}}}]}

    async def answer(self, request: web.Request) -> web.Response:
        path, method = request.path, request.method
        if path == "/identity/token":
            form = await request.post()
            if form["apikey"] != KEY:
                return web.json_response({"errorMessage": "secret"}, status=400)
            return web.json_response({"access_token": "bearer", "expires_in": 3600})
        assert request.headers["Authorization"] == "Bearer bearer"
        assert request.headers["Service-CRN"] == CRN
        if path in self.plays:
            return await self.plays[path](request)  # type: ignore[no-any-return]
        return await self._rest(method, path.removeprefix("/api/v1"), request)

    async def _rest(self, method: str, path: str, request: web.Request) -> web.Response:
        match method, path.split("/")[1:]:
            case "GET", ["backends", "ibm_hanoi", "configuration"]:
                return web.Response(body=self.configuration)
            case "GET", ["backends", "ibm_hanoi", "properties"]:
                return web.Response(body=self.properties)
            case "GET", ["backends", "ibm_hanoi", "status"]:
                return web.json_response({"state": True, "status": "active", "length_queue": 12, "message": ""})
            case "POST", ["jobs"]:
                body = await request.json()
                self.bodies.append(body)
                name = f"job{len(self.bodies)}"
                self.jobs[name] = self._job(name, "Queued", body["tags"])
                return web.json_response({"id": name, "backend": body["backend"]})
            case "GET", ["jobs"]:
                found = [job for job in self.jobs.values() if request.query["tags"] in job["tags"]]
                return web.json_response({"jobs": found, "count": len(found), "limit": 10, "offset": 0})
            case "GET", ["jobs", name] if name in self.jobs:
                return web.json_response(self.jobs[name])
            case "POST", ["jobs", name, "cancel"]:
                if self.jobs[name]["state"]["status"] != "Queued":
                    return web.json_response({"errors": [{"code": 1219}]}, status=409)
                self.jobs[name]["state"] = {"status": "Cancelled"}
                return web.Response(status=204)
            case "GET", ["jobs", _, "metrics"]:
                times = {"created": "2026-11-20T10:00:00Z", "running": "2026-11-20T10:05:00Z"}
                times["finished"] = "2026-11-20T10:05:07.500Z"
                return web.json_response({"usage": {"quantum_seconds": 2, "seconds": 2}, "timestamps": times})
            case "GET", ["jobs", _, "results"]:
                return web.json_response(self.results)
        return web.json_response({"errors": [{"message": "secret"}]}, status=404)

    @staticmethod
    def _job(name: str, state: str, tags: list[str]) -> dict[str, Any]:
        program = {"id": "sampler"}
        return {"id": name, "backend": "ibm_hanoi", "state": {"status": state}, "tags": tags, "program": program}

    def end(self, name: str, state: str, **more: object) -> None:
        self.jobs[name]["state"] = {"status": state, **more}


@asynccontextmanager
async def reached(ibm: Ibm, folder: Path, key: str = KEY) -> AsyncIterator[IbmDriver]:
    certificate, private = folder / "ca.pem", folder / "key.pem"
    prepare(certificate, private, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", ibm.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    backend = BackendConfig(
        id="one",
        provider="ibm-quantum",
        device="ibm_hanoi",
        url=f"https://127.0.0.1:{port}/api/v1",
        ca=str(certificate),
        credential="ibm",
    )
    secret = json.dumps({"api_key": key, "crn": CRN})
    config = DriversConfig(backends=(backend,), credential=lambda name: {"ibm": secret}[name])
    try:
        async with IbmDriver(backend, config, f"https://127.0.0.1:{port}", QUICK) as driver:
            yield driver
    finally:
        await runner.cleanup()


async def test_a_processor_is_described_by_its_own_word_within_the_administrator_s(tmp_path: Path) -> None:
    async with reached(Ibm(), tmp_path) as driver:
        (device,) = await driver.devices()
        status = await driver.status("one")
        calibration = await driver.calibration("one")
    assert (device.qubits, device.simulator, device.sku) == (27, False, "ibm_hanoi")
    assert (status.online, status.queue_depth) == (True, 12)
    assert calibration.valid_from.isoformat() == "2025-02-26T20:13:14+00:00"


async def test_a_job_from_circuit_to_counts(tmp_path: Path) -> None:
    """Two registers become one, qubits are physical, the result's bits are Qiskit's, the bill is in QPU seconds."""
    ibm = Ibm()
    async with reached(ibm, tmp_path) as driver:
        made = await compiled(driver, STAR, shots=3)
        text = made.artefact.decode()
        assert "bit[5] c;" in text
        assert "qubit[27] q;" in text
        assert made.facts.layout is not None
        assert set(made.facts.operations) <= {"rz", "sx", "x", "cx", "measure"}
        handle = await driver.submit(made, Task(token=TOKEN, shots=3))
        assert ibm.bodies[0]["params"]["pubs"] == [[text, None, 3]]
        assert (ibm.bodies[0]["program_id"], ibm.bodies[0]["tags"]) == ("sampler", [TOKEN])
        assert isinstance(await driver.poll(handle), Queued)
        ibm.end("job1", "Running")
        assert isinstance(await driver.poll(handle), Running)
        ibm.end("job1", "Completed")
        assert isinstance(await driver.poll(handle), Finished)
        outcome = await driver.result(handle)
    assert outcome.counts == {"00000": 1, "11111": 2}
    assert (outcome.usage.qpu_s, outcome.usage.source, outcome.usage.wall_s) == (2.0, "vendor", 7.5)
    assert outcome.metadata["ibm_job"] == "job1"


async def test_another_worker_finds_a_job_by_its_tag(tmp_path: Path) -> None:
    ibm = Ibm()
    ibm.jobs["job7"] = ibm._job("job7", "Running", [TOKEN])
    async with reached(ibm, tmp_path) as driver:
        assert (await driver.find(TOKEN) or {})["job"] == "job7"
        assert await driver.find("2-other") is None
        assert not (await driver.devices())[0].capabilities.find_authoritative


async def test_every_end_of_a_job_has_its_word(tmp_path: Path) -> None:
    ibm = Ibm()
    ibm.jobs["j"] = ibm._job("j", "Queued", [TOKEN])
    handle: Handle = {"driver": "ibm-quantum", "backend": "one", "token": TOKEN, "job": "j"}
    async with reached(ibm, tmp_path) as driver:
        ibm.end("j", "Failed", reason="line 3: secretname")
        failed = await driver.poll(handle)
        assert isinstance(failed, Failed)
        assert "secret" not in failed.detail
        ibm.end("j", "Cancelled", reason_code=1305)
        assert getattr(await driver.poll(handle), "code", None) == "deadline_exceeded"
        ibm.end("j", "Cancelled")
        assert isinstance(await driver.poll(handle), Stopped)
        assert isinstance(await driver.poll(handle | {"job": "gone"}), Unknown)
        assert isinstance(await driver.poll({"driver": "aer"}), Unknown)
        ibm.end("j", "Queued")
        assert isinstance(await driver.cancel(handle), Canceled)
        ibm.end("j", "Completed")
        assert isinstance(await driver.cancel(handle), TooLate)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"c": {"samples": ["0x20"], "num_bits": 5}}, "no bit string"),
        ({"c": {"samples": ["0x0"] * 4, "num_bits": 5}}, "4 shots"),
        ({"meas": {"samples": ["0x0"], "num_bits": 5}}, "one register"),
        ({"c": {"samples": "garbage", "num_bits": 5}}, "can't be read"),
        ({"c": {"samples": ["zz"], "num_bits": 5}}, "can't be read"),
    ],
)
async def test_a_result_that_can_t_be_is_refused(tmp_path: Path, data: dict[str, Any], reason: str) -> None:
    ibm = Ibm()
    ibm.jobs["j"] = ibm._job("j", "Completed", [TOKEN])
    ibm.results = {"results": [{"data": data}]}
    handle: Handle = {"driver": "ibm-quantum", "backend": "one", "token": TOKEN, "job": "j", "shots": 3}
    async with reached(ibm, tmp_path) as driver:
        with pytest.raises(BackendFailed, match=reason):
            await driver.result(handle)


async def test_a_lost_answer_is_looked_for_and_never_sent_anew(tmp_path: Path) -> None:
    """The service knows no client token: a second POST would be a second job."""
    ibm = Ibm()

    async def lost(request: web.Request) -> web.Response:
        body = await request.json()
        ibm.bodies.append(body)
        ibm.jobs["job1"] = ibm._job("job1", "Queued", body["tags"])
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with reached(ibm, tmp_path) as driver:
        made = await compiled(driver, STAR, shots=3)
        ibm.plays["/api/v1/jobs"] = lost
        handle = await driver.submit(made, Task(token=TOKEN, shots=3))
        del ibm.plays["/api/v1/jobs"]
        assert len(ibm.bodies) == 1
        assert "job" not in handle
        assert isinstance(await driver.poll(handle), Queued)
        ibm.jobs.clear()
        assert isinstance(await driver.poll(handle), Unknown)


async def test_a_refused_key_takes_it_offline_and_is_quoted_nowhere(tmp_path: Path) -> None:
    async with reached(Ibm(), tmp_path, key="a-wrong-key") as driver:
        status = await driver.status("one")
        assert (status.online, status.reason) == (False, "IBM refuses the API key")
        with pytest.raises(BackendUnavailable) as caught:
            await compiled(driver, STAR)
    assert "wrong" not in str(caught.value)


async def test_what_is_not_sent_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with reached(Ibm(), tmp_path) as driver:
        with pytest.raises(ProgramUnsupported, match="control flow is not sent"):
            source = (
                "qubit[1] q;\nbit[2] c;\nc[0] = measure q[0];\nif (c[0] == true) { x q[0]; }\nc[1] = measure q[0];\n"
            )
            await compiled(driver, HEAD + source)
        with pytest.raises(ProgramUnsupported, match="28 qubits, the processor 27"):
            await compiled(driver, HEAD + "qubit[28] q;\nbit[1] c;\nh q;\nc[0] = measure q[0];\n")
