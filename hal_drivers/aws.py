# SPDX-License-Identifier: Apache-2.0
"""Driver of one Amazon Braket device: tasks by the service's API, results from S3 (G14).

Written to the contract of botocore's service model and tested against answers of its shapes; it has not been run
against AWS. ``device`` is the ARN, ``url`` the ``s3://BUCKET/PREFIX`` for results, ``credential`` names a JSON object
of ``aws_access_key_id``, ``aws_secret_access_key`` and, where there is one, ``aws_session_token``.

Circuits are translated in a guarded child of the Braket engine. The service's client token makes a submission run
once; a task carries the plane's token as a tag, so another worker finds it. That nothing is found proves nothing.
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec.structs import replace

from hal_drivers.aws_wire import Facts, Reading, device_facts, read_result, where
from hal_drivers.base import (
    Calibration,
    Canceled,
    Cancellation,
    Capabilities,
    Compiled,
    CompileRequest,
    Device,
    DeviceStatus,
    Exact,
    ExactRequest,
    Failed,
    Finished,
    Handle,
    Outcome,
    Queued,
    Running,
    Status,
    Stopped,
    Task,
    TooLate,
    Unknown,
    Unsupported,
)
from hal_drivers.braket import BraketEngine
from hal_drivers.engine import formats, missing
from hal_drivers.errors import (
    BackendFailed,
    BackendUnavailable,
    BackendUnknown,
    DriverError,
    HandleUnknown,
    NotFinished,
    ProgramUnsupported,
)
from hal_drivers.frames import Setup
from hal_drivers.local import LocalDriver

if TYPE_CHECKING:
    from hal_drivers.table import BackendConfig, DriversConfig

LOOK_S = 30.0
POLL_S = 1.0
CANCEL_S = 30.0
PAGES = 20
"""Of a hundred tasks each, looked through for a token."""
TAG = "qcos-token"
Clients = tuple[Any, Any]
"""botocore's clients of Braket and S3, which have no types."""
_AWAY = frozenset(
    {"ThrottlingException", "InternalServiceException", "DeviceOfflineException", "ServiceQuotaExceededException"}
)


class _Translator(BraketEngine):
    """The Braket engine, told to translate for a processor: its gates, and no memory of ours."""

    gates: tuple[str, ...] = ()

    def unusable(self, backend: BackendConfig) -> str | None:
        del backend
        return None

    def setup(self, backend: BackendConfig) -> Setup:
        del backend
        return Setup(device="qpu", gates=self.gates)


class AwsDriver:
    """One configured device."""

    def __init__(
        self, backend: BackendConfig, config: DriversConfig, clients: Callable[[], Clients] | None = None
    ) -> None:
        """Nothing is reached yet; raises BackendUnknown for settings that can reach nothing."""
        self._config, self._credential = backend, config.credential
        try:
            self._bucket, self._prefix = where(backend.url)
        except ValueError as error:
            raise BackendUnknown(f"backend {backend.id}: {error}") from None
        self._arn = backend.device or ""
        self._translator = _Translator()
        self._near = LocalDriver(self._translator, (backend,), config)
        self._make = clients or self._connected
        self._made: Clients | None = None
        self._facts: Facts | None = None
        self._why: str | None = "no worker has reached it yet"
        self._looking: asyncio.Task[None] | None = None
        self._since = datetime.now(UTC)
        self._ours = self._described(formats(config.limits))

    async def __aenter__(self) -> Self:
        await self._near.__aenter__()
        await self._look()
        self._looking = asyncio.create_task(self._look_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._looking = None
        await self._near.__aexit__(kind, error, trace)

    def walls(self) -> dict[str, str]:
        return self._near.walls()

    # ---- Query

    async def devices(self) -> tuple[Device, ...]:
        if self._facts is None:
            return (self._ours,)
        most = min(self._facts.max_shots, self._config.max_shots)
        return (replace(self._ours, qubits=self._facts.qubits, max_shots=most),)

    async def status(self, backend: str) -> DeviceStatus:
        self._mine(backend)
        depth = self._facts.queue_depth if self._facts is not None else 0
        return DeviceStatus(online=self._why is None, queue_depth=depth, reason=self._why)

    async def calibration(self, backend: str) -> Calibration:
        """The device's capabilities as the service gave them, its calibration among them."""
        self._mine(backend)
        if self._facts is None:
            raise BackendUnavailable(f"{backend}: {self._why}")
        name = "sha256:" + hashlib.sha256(self._facts.document).hexdigest()
        return Calibration(name, self._facts.updated_at or self._since, self._facts.document)

    def _described(self, taken: tuple[Any, ...]) -> Device:
        return Device(
            id=self._config.id,
            provider=self._config.provider,
            qubits=0,
            simulator="quantum-simulator" in self._arn,
            region=self._config.region,
            compliance_zone=self._config.compliance_zone,
            sovereign=self._config.sovereign,
            max_shots=self._config.max_shots,
            capabilities=Capabilities(formats=taken, cancel="queued", idempotent_submit=True, tasks_at_once=8),
            sku=self._arn,
        )

    def _mine(self, backend: str) -> None:
        if backend != self._config.id:
            raise BackendUnknown(f"no backend {backend[:64]} here")

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        """What the device is and how it is; what keeps it from answering is why it is offline."""
        if (lacking := self._translator.lacking() or missing(("boto3", "boto3"))) is not None:
            self._why = lacking
            return
        try:
            self._facts = device_facts(await self._asked("get_device", deviceArn=self._arn))
        except DriverError as error:
            self._why = error.detail
        except ValueError as error:
            self._why = f"its description can't be read: {error}"
        else:
            self._translator.gates = self._facts.gates
            self._why = None if self._facts.online else f"the device is {self._facts.state}"

    # ---- Compile

    async def compile(self, request: CompileRequest) -> Compiled:
        self._mine(request.backend)
        device = (await self.devices())[0]
        if self._facts is None:
            raise BackendUnavailable(f"{request.backend}: {self._why}")
        if request.shots > device.max_shots:
            raise ProgramUnsupported(f"{request.shots} shots asked, the backend takes {device.max_shots}")
        compiled = await self._near.compile(request)
        if compiled.facts.qubits > device.qubits:
            raise ProgramUnsupported(f"the circuit has {compiled.facts.qubits} qubits, the device {device.qubits}")
        return compiled

    async def analyse(self, request: ExactRequest) -> Exact:
        raise ProgramUnsupported(f"{request.backend} computes no exact states")

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        self._mine(compiled.backend)
        device = (await self.devices())[0]
        if not 1 <= task.shots <= device.max_shots:
            raise ProgramUnsupported(f"{task.shots} shots asked, the backend takes 1 to {device.max_shots}")
        program = {
            "braketSchemaHeader": {"name": "braket.ir.openqasm.program", "version": "1"},
            "source": compiled.artefact.decode(),
            "inputs": {},
        }
        handle = self._handle(task.token) | {"program": hashlib.sha256(compiled.artefact).hexdigest()}
        with contextlib.suppress(_Unanswered):  # it may run: its tag tells, and if nothing does the job is UNCERTAIN
            answer = await self._asked(
                "create_quantum_task",
                clientToken=hashlib.sha256(task.token.encode()).hexdigest(),
                deviceArn=self._arn,
                shots=task.shots,
                outputS3Bucket=self._bucket,
                outputS3KeyPrefix=self._prefix,
                action=msgspec.json.encode(program).decode(),
                tags={TAG: task.token},
            )
            handle["task"] = str(answer["quantumTaskArn"])
        return handle

    def _handle(self, token: str) -> Handle:
        return {"driver": "aws-braket", "backend": self._config.id, "token": token}

    async def find(self, token: str) -> Handle | None:
        wanted = [{"name": "deviceArn", "operator": "EQUAL", "values": [self._arn]}]
        more: dict[str, str] = {}
        for _ in range(PAGES):
            page = await self._asked("search_quantum_tasks", filters=wanted, maxResults=100, **more)
            for task in page["quantumTasks"]:
                if task.get("tags", {}).get(TAG) == token:
                    return self._handle(token) | {"task": str(task["quantumTaskArn"])}
            if not page.get("nextToken"):
                return None
            more = {"nextToken": page["nextToken"]}
        return None

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        arn = await self._task(handle)
        until = asyncio.get_running_loop().time() + wait_s
        while arn is not None:
            try:
                told = await self._asked("get_quantum_task", quantumTaskArn=arn)
            except HandleUnknown:
                break
            status = _status(told)
            left = until - asyncio.get_running_loop().time()
            if not isinstance(status, Queued | Running) or left <= 0:
                return status
            await asyncio.sleep(min(POLL_S, left))
        return Unknown()

    async def _task(self, handle: Handle) -> str | None:
        """The task's ARN: of the handle, or found by the tag where the answer to submit was lost."""
        if (handle.get("driver"), handle.get("backend")) != ("aws-braket", self._config.id):
            return None
        if "task" in handle:
            return str(handle["task"])
        found = await self.find(str(handle.get("token")))
        return str(found["task"]) if found is not None else None

    async def cancel(self, handle: Handle) -> Cancellation:
        arn = await self._task(handle)
        if arn is None:
            raise HandleUnknown("that handle is of no task of this backend")
        with contextlib.suppress(BackendFailed):  # a conflict: it has ended already
            token = hashlib.sha256(b"cancel" + arn.encode()).hexdigest()
            await self._asked("cancel_quantum_task", quantumTaskArn=arn, clientToken=token)
        match await self.poll(handle, CANCEL_S):
            case Stopped():
                return Canceled()
            case Finished() | Failed() | Unknown():
                return TooLate()
            case _:
                return Unsupported()

    async def result(self, handle: Handle) -> Outcome:
        arn = await self._task(handle)
        if arn is None:
            raise HandleUnknown("that handle is of no task of this backend")
        told = await self._asked("get_quantum_task", quantumTaskArn=arn)
        if not isinstance(_status(told), Finished):
            raise NotFinished("the task has no result")
        place = {"Bucket": told["outputS3Bucket"], "Key": f"{told['outputS3Directory']}/results.json"}
        body = await self._asked("get_object", **place)
        try:
            return read_result(Reading(told, body["read"], str(handle.get("program", ""))))
        except ValueError as error:
            raise BackendFailed(f"the result can't be read: {error}") from None

    async def forget(self, handle: Handle) -> None:
        """The service and the bucket keep what they keep."""

    async def open_session(self, backend: str) -> str:
        self._mine(backend)
        raise ProgramUnsupported("the driver opens no sessions at Braket")

    async def close_session(self, session: str) -> None:
        raise ProgramUnsupported(f"the driver has no session {session[:64]}")

    # ---- the service

    def _connected(self) -> Clients:
        import boto3
        from botocore.config import Config

        if self._config.credential is None or self._credential is None:
            raise BackendUnavailable(f"{self._config.id}: it needs a credential")
        secret = msgspec.json.decode(self._credential(self._config.credential), type=dict[str, str])
        region = self._arn.split(":")[3] if self._arn.count(":") >= 5 else ""
        session = boto3.session.Session(**secret, region_name=region or self._config.region)
        patience = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3, "mode": "standard"})
        return session.client("braket", config=patience), session.client("s3", config=patience)

    async def _asked(self, call: str, **arguments: Any) -> dict[str, Any]:
        """One call in a thread; raises BackendUnavailable, BackendFailed, HandleUnknown or ProgramUnsupported."""
        return await asyncio.to_thread(self._ask, call, arguments)

    def _ask(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._made is None:
                self._made = self._make()
            client = self._made[1 if call == "get_object" else 0]
            answer: dict[str, Any] = getattr(client, call)(**arguments)
            return answer | {"read": answer["Body"].read()} if call == "get_object" else answer
        except ClientError as error:
            self._made = None  # the credential may have been renewed since
            raise _meaning(error.response["Error"]["Code"]) from None
        except (BotoCoreError, OSError) as error:
            name = type(error).__name__
            if call == "create_quantum_task" and name not in ("EndpointConnectionError", "ConnectTimeoutError"):
                raise _Unanswered(f"Braket doesn't answer: {name}") from None
            raise BackendUnavailable(f"Braket doesn't answer: {name}") from None
        except (msgspec.MsgspecError, TypeError):
            raise BackendUnavailable("the credential is no JSON object of AWS keys") from None


class _Unanswered(BackendUnavailable):
    """It was sent, and nobody knows what became of it."""


def _meaning(code: str) -> DriverError:
    """What a service's error means here; its text may quote the request, so it isn't told."""
    if code in ("ResourceNotFoundException", "NoSuchKey"):
        return HandleUnknown("Braket knows no such thing")
    if code == "ConflictException":
        return BackendFailed("the task has already ended")
    if code == "ValidationException":
        return ProgramUnsupported("Braket refuses the request")
    if code == "DeviceRetiredException":
        return BackendUnavailable("the device is retired")
    if code in _AWAY:
        return BackendUnavailable(f"Braket answers {code}")
    return BackendUnavailable("AWS refuses the credential, or what it may do")


def _status(told: dict[str, Any]) -> Status:
    match told["status"]:
        case "CREATED" | "QUEUED":
            return Queued()
        case "COMPLETED":
            return Finished()
        case "FAILED":
            return Failed(code=BackendFailed.code, detail="Braket says that the task failed")
        case "CANCELLED":
            return Stopped()
        case _:
            return Running(started_at=told["createdAt"])
