# SPDX-License-Identifier: Apache-2.0
"""The driver of Braket's devices against answers of the service's own shapes; botocore checks each call and answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from hal_drivers.aws import AwsDriver
from hal_drivers.base import (
    Canceled,
    Compiled,
    CompiledFacts,
    Failed,
    Finished,
    Queued,
    Stopped,
    Task,
    TooLate,
    Unknown,
)
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendFailed, BackendUnavailable, BackendUnknown, NotFinished, ProgramUnsupported
from hal_drivers.table import open_drivers
from tests.hal_drivers import recorded
from tests.hal_drivers.one import BELL, HEAD, compiled

pytestmark = [pytest.mark.timeout(180)]
BACKEND = BackendConfig(
    id="one", provider="aws-braket", device=recorded.ARN, url="s3://amazon-braket-results/qcos", credential="aws"
)
TOKEN = "1-" + "a" * 32
CREATE = {
    "clientToken": hashlib.sha256(TOKEN.encode()).hexdigest(),
    "deviceArn": recorded.ARN,
    "shots": 100,
    "outputS3Bucket": "amazon-braket-results",
    "outputS3KeyPrefix": "qcos",
    "action": ANY,
    "tags": {"qcos-token": TOKEN},
}


class Service:
    """Both of botocore's clients, stubbed by the service models: a request or answer of another shape is an error."""

    def __init__(self, device: dict[str, Any] | None = None) -> None:
        keys = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        session = boto3.session.Session(**keys)
        self.clients = session.client("braket"), session.client("s3")
        self.braket, self.s3 = (Stubber(client) for client in self.clients)
        self.braket.activate()
        self.s3.activate()
        self.braket.add_response("get_device", device or recorded.device(), {"deviceArn": recorded.ARN})

    def create(self) -> None:
        self.braket.add_response("create_quantum_task", {"quantumTaskArn": recorded.TASK}, CREATE)

    def told(self, status: str, **more: Any) -> None:
        self.braket.add_response("get_quantum_task", recorded.task(status, **more), {"quantumTaskArn": recorded.TASK})

    def result(self, source: str, qubits: list[int], **outcome: Any) -> None:
        key = "qcos/5f8a9d0e-1111-4222-8333-444455556666/results.json"
        wanted = {"Bucket": "amazon-braket-results", "Key": key}
        self.s3.add_response("get_object", recorded.results(source, qubits, **outcome), wanted)


@asynccontextmanager
async def reached(service: Service) -> AsyncIterator[AwsDriver]:
    async with AwsDriver(BACKEND, DriversConfig(backends=(BACKEND,)), lambda: service.clients) as driver:
        yield driver
    service.braket.assert_no_pending_responses()
    service.s3.assert_no_pending_responses()


PROGRAM = "OPENQASM 3.0;\nbit[2] c;\nqubit[2] q;\nh q[0];\nc[0] = measure q[0];\nc[1] = measure q[1];\n"


def artefact(source: str = PROGRAM) -> Compiled:
    facts = CompiledFacts(2, 2, 2, 1, 1, {"h": 1}, None, (0, 1), "device", 0)
    return Compiled("one", source.encode(), "QASM3", source, facts, {})


async def test_a_device_is_described_by_its_own_word_within_the_administrator_s() -> None:
    async with reached(Service()) as driver:
        (device,) = await driver.devices()
        status = await driver.status("one")
        calibration = await driver.calibration("one")
    assert (device.qubits, device.max_shots, device.simulator, device.sku) == (36, 5000, False, recorded.ARN)
    assert (device.region, device.compliance_zone) == ("local", "sovereign")
    assert (status.online, status.queue_depth) == (True, 4007)
    assert calibration.valid_from.isoformat() == "2026-11-01T00:00:00+00:00"
    assert json.loads(calibration.data)["paradigm"]["qubitCount"] == 36


async def test_a_circuit_is_translated_to_the_gates_that_the_device_takes() -> None:
    async with reached(Service()) as driver:
        made = await compiled(
            driver, HEAD + "qubit[3] q;\nbit[3] c;\nccx q[0], q[1], q[2];\nc = measure q;\n", shots=10
        )
        with pytest.raises(ProgramUnsupported, match="5000"):
            await compiled(driver, BELL, shots=5001)
    gates = {line.split("(")[0].split(" ")[0] for line in made.artefact.decode().splitlines()[3:-3]}
    assert gates <= {"x", "h", "t", "ti", "rz", "cnot", "s", "si"}, gates
    assert made.facts.method == "device"


async def test_a_task_from_submit_to_counts_in_qiskit_s_order() -> None:
    service, made = Service(), artefact()
    service.create()
    for status in ("CREATED", "QUEUED", "COMPLETED", "COMPLETED"):
        service.told(status)
    rows = [[1, 0]] * 60 + [[0, 1]] * 40
    service.result(made.artefact.decode(), [0, 1], measurements=rows)
    async with reached(service) as driver:
        handle = await driver.submit(made, Task(token=TOKEN, shots=100))
        assert json.loads(json.dumps(handle)) == handle
        assert handle["task"] == recorded.TASK
        assert isinstance(await driver.poll(handle), Queued)
        assert isinstance(await driver.poll(handle), Queued)
        assert isinstance(await driver.poll(handle), Finished)
        outcome = await driver.result(handle)
    assert outcome.counts == {"01": 60, "10": 40}, "the last classical bit stands left"
    assert (outcome.shots_executed, outcome.partial, outcome.usage.qpu_s) == (100, None, None)
    assert outcome.usage.source == "vendor"
    assert outcome.started_at == recorded.BEGAN


async def test_probabilities_are_shots_and_fewer_shots_are_partial() -> None:
    service, made = Service(), artefact()
    service.told("COMPLETED")
    service.result(made.artefact.decode(), [0, 1], measurementProbabilities={"00": 0.5, "11": 0.4})
    async with reached(service) as driver:
        outcome = await driver.result({"driver": "aws-braket", "backend": "one", "token": TOKEN, "task": recorded.TASK})
    assert outcome.counts == {"00": 50, "11": 40}
    assert outcome.partial == "the device executed 90 of 100 shots"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ({"measurements": [[0, 1]] * 101}, "101 shots"),
        ({"measurements": [[0, 1, 1]]}, "no bit string"),
        ({"measurements": [[0, 7]]}, "no bit string"),
        ({"measurements": "garbage"}, "can't be read"),
        ({}, "no measurements"),
    ],
)
async def test_a_result_that_can_t_be_is_refused(outcome: dict[str, Any], reason: str) -> None:
    service = Service()
    service.told("COMPLETED")
    service.result(artefact().artefact.decode(), [0, 1], **outcome)
    async with reached(service) as driver:
        with pytest.raises(BackendFailed, match=reason):
            await driver.result({"driver": "aws-braket", "backend": "one", "token": TOKEN, "task": recorded.TASK})


async def test_a_result_of_another_program_is_refused() -> None:
    service, made = Service(), artefact()
    service.create()
    service.told("COMPLETED")
    service.result(made.artefact.decode().replace("h q", "x q"), [0, 1], measurements=[[0, 0]])
    async with reached(service) as driver:
        handle = await driver.submit(made, Task(token=TOKEN, shots=100))
        with pytest.raises(BackendFailed, match="of another program"):
            await driver.result(handle)


async def test_another_worker_finds_a_task_by_its_tag() -> None:
    service = Service()
    wanted = {"filters": [{"name": "deviceArn", "operator": "EQUAL", "values": [recorded.ARN]}], "maxResults": 100}
    summary = {k: v for k, v in recorded.task("RUNNING").items() if k != "deviceParameters"}
    service.braket.add_response("search_quantum_tasks", {"quantumTasks": [summary], "nextToken": "more"}, wanted)
    tagged = summary | {"tags": {"qcos-token": TOKEN}}
    service.braket.add_response("search_quantum_tasks", {"quantumTasks": [tagged]}, wanted | {"nextToken": "more"})
    service.braket.add_response("search_quantum_tasks", {"quantumTasks": [summary]}, wanted)
    async with reached(service) as driver:
        assert (await driver.find(TOKEN) or {})["task"] == recorded.TASK
        assert await driver.find("2-other") is None
        assert not (await driver.devices())[0].capabilities.find_authoritative


async def test_cancel_says_what_became_of_the_task() -> None:
    service = Service()
    asked = {"quantumTaskArn": recorded.TASK, "clientToken": ANY}
    answer = {"quantumTaskArn": recorded.TASK, "cancellationStatus": "CANCELLED"}
    service.braket.add_response("cancel_quantum_task", answer, asked)
    service.told("CANCELLED")
    service.braket.add_client_error("cancel_quantum_task", "ConflictException", expected_params=asked)
    service.told("COMPLETED")
    handle = {"driver": "aws-braket", "backend": "one", "token": TOKEN, "task": recorded.TASK}
    async with reached(service) as driver:
        assert isinstance(await driver.cancel(dict(handle)), Canceled)
        assert isinstance(await driver.cancel(dict(handle)), TooLate)


async def test_every_end_of_a_task_has_its_word() -> None:
    service = Service()
    for status in ("FAILED", "CANCELLED", "RUNNING"):
        service.told(status, failureReason="line 3: secretname is wrong")
    service.braket.add_client_error("get_quantum_task", "ResourceNotFoundException")
    handle = {"driver": "aws-braket", "backend": "one", "token": TOKEN, "task": recorded.TASK}
    async with reached(service) as driver:
        failed = await driver.poll(dict(handle))
        assert isinstance(failed, Failed)
        assert "secret" not in failed.detail, "the vendor's words may quote the circuit"
        assert isinstance(await driver.poll(dict(handle)), Stopped)
        with pytest.raises(NotFinished):
            await driver.result(dict(handle))
        assert isinstance(await driver.poll(dict(handle)), Unknown)
        assert isinstance(await driver.poll({"driver": "aer", "token": TOKEN}), Unknown)


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("ThrottlingException", BackendUnavailable, "ThrottlingException"),
        ("DeviceOfflineException", BackendUnavailable, "DeviceOfflineException"),
        ("AccessDeniedException", BackendUnavailable, "AWS refuses the credential"),
        ("ExpiredTokenException", BackendUnavailable, "AWS refuses the credential"),
        ("ValidationException", ProgramUnsupported, "refuses the request"),
    ],
)
async def test_a_refusal_is_mapped_and_quotes_nothing(code: str, error: type[Exception], said: str) -> None:
    service = Service()
    service.braket.add_client_error("create_quantum_task", code, "secret AKIAEXAMPLE", expected_params=CREATE)
    async with reached(service) as driver:
        with pytest.raises(error, match=said) as caught:
            await driver.submit(artefact(), Task(token=TOKEN, shots=100))
    assert "AKIA" not in str(caught.value)


async def test_a_lost_answer_leaves_a_handle_that_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request may have arrived: the task is found by its tag, or its status is unknown; never is it sent anew."""
    from botocore.exceptions import ReadTimeoutError

    service = Service()
    service.braket.add_response("search_quantum_tasks", {"quantumTasks": []})

    def lost(**_: object) -> None:
        raise ReadTimeoutError(endpoint_url="https://braket")

    monkeypatch.setattr(service.clients[0], "create_quantum_task", lost)
    async with reached(service) as driver:
        handle = await driver.submit(artefact(), Task(token=TOKEN, shots=100))
        assert "task" not in handle
        assert isinstance(await driver.poll(handle), Unknown)


async def test_a_device_that_is_off_or_unreadable_is_offline_with_the_reason() -> None:
    for answer, reason in (
        (recorded.device("OFFLINE"), "the device is offline"),
        (recorded.device() | {"deviceCapabilities": "{}"}, "its description can't be read"),
    ):
        async with reached(Service(answer)) as driver:
            status = await driver.status("one")
        assert not status.online
        assert reason in (status.reason or "")


async def test_without_a_credential_it_is_offline_and_settings_that_reach_nothing_are_refused() -> None:
    local = BackendConfig(id="local", provider="aws-braket")
    drivers = open_drivers(DriversConfig(backends=(local, BACKEND)))
    driver = drivers["one"]
    assert drivers["local"] is not driver, "a device elsewhere has a driver of its own"
    async with driver:
        assert (await driver.status("one")).reason == "one: it needs a credential"
    with pytest.raises(BackendUnknown, match="s3://BUCKET/PREFIX"):
        open_drivers(DriversConfig(backends=(BackendConfig(id="x", provider="aws-braket", device=recorded.ARN),)))
