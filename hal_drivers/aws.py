# SPDX-License-Identifier: Apache-2.0
"""Driver of one Amazon Braket device: tasks by the service's API, results from S3 (G14).

Written to the contract of botocore's service model and tested against answers of its shapes; it has not been run
against AWS. ``device`` is the ARN, ``url`` the ``s3://BUCKET/PREFIX`` for results, ``credential`` names a JSON object
of ``aws_access_key_id``, ``aws_secret_access_key`` and, where there is one, ``aws_session_token``.

Circuits are translated in a guarded child of the Braket engine. The service's client token makes a submission run
once; a task carries the plane's token as a tag, so another worker finds it. That nothing is found proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from hal_drivers.aws_wire import Reading, device_facts, read_result, where
from hal_drivers.base import (
    Calibration,
    Capabilities,
    Compiled,
    Failed,
    Finished,
    Handle,
    Outcome,
    Queued,
    Running,
    Status,
    Stopped,
    Task,
)
from hal_drivers.braket import BraketEngine
from hal_drivers.device import formats, record
from hal_drivers.engine import missing
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
from hal_drivers.vendor import Seen, Translating, VendorDriver

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

PAGES = 20
"""Of a hundred tasks each, looked through for a token."""
TAG = "qcos-token"
Clients = tuple[Any, Any]
"""botocore's clients of Braket and S3, which have no types."""
_AWAY = frozenset(
    {"ThrottlingException", "InternalServiceException", "DeviceOfflineException", "ServiceQuotaExceededException"}
)


class _Translator(Translating, BraketEngine):
    """The Braket engine, told a processor's gates."""


class AwsDriver(VendorDriver):
    """One configured device."""

    def __init__(
        self, backend: BackendConfig, config: DriversConfig, clients: Callable[[], Clients] | None = None
    ) -> None:
        """Nothing is reached yet; raises BackendUnknown for settings that can reach nothing."""
        try:
            self._bucket, self._prefix = where(backend.url)
        except ValueError as error:
            raise BackendUnknown(f"backend {backend.id}: {error}") from None
        self._arn = backend.device or ""
        self._translator = _Translator()
        claims = Capabilities(formats(config.limits), cancel="queued", idempotent_submit=True, tasks_at_once=8)
        simulator = "quantum-simulator" in self._arn
        super().__init__(
            self._translator, backend, config, record(backend, claims, qubits=0, simulator=simulator, sku=self._arn)
        )
        self._make = clients or self._connected
        self._made: Clients | None = None
        self._since = datetime.now(UTC)

    async def _see(self) -> Seen:
        """The device's capabilities as the service gives them, its calibration among them."""
        if (lacking := self._translator.lacking() or missing(("boto3", "boto3"))) is not None:
            raise BackendUnavailable(lacking)
        try:
            facts = device_facts(await self._asked("get_device", deviceArn=self._arn))
        except ValueError as error:
            raise BackendUnavailable(f"its description can't be read: {error}") from None
        self._translator.processor = Setup(device="qpu", gates=facts.gates)
        name = "sha256:" + hashlib.sha256(facts.document).hexdigest()
        return Seen(
            qubits=facts.qubits,
            max_shots=facts.max_shots,
            calibration=Calibration(name, facts.updated_at or self._since, facts.document),
            queue_depth=facts.queue_depth,
            offline=None if facts.online else f"the device is {facts.state}",
        )

    async def _send(self, compiled: Compiled, task: Task, handle: Handle) -> Handle:
        program = {
            "braketSchemaHeader": {"name": "braket.ir.openqasm.program", "version": "1"},
            "source": compiled.artefact.decode(),
            "inputs": {},
        }
        handle["program"] = hashlib.sha256(compiled.artefact).hexdigest()
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
            handle[self.member] = str(answer["quantumTaskArn"])
        return handle

    async def _named(self, token: str) -> str | None:
        wanted = [{"name": "deviceArn", "operator": "EQUAL", "values": [self._arn]}]
        more: dict[str, str] = {}
        for _ in range(PAGES):
            page = await self._asked("search_quantum_tasks", filters=wanted, maxResults=100, **more)
            for task in page["quantumTasks"]:
                if task.get("tags", {}).get(TAG) == token:
                    return str(task["quantumTaskArn"])
            if not page.get("nextToken"):
                return None
            more = {"nextToken": page["nextToken"]}
        return None

    async def _status(self, name: str) -> Status:
        return _status(await self._asked("get_quantum_task", quantumTaskArn=name))

    async def _stop(self, name: str) -> None:
        with contextlib.suppress(BackendFailed):  # a conflict: it has ended already
            token = hashlib.sha256(b"cancel" + name.encode()).hexdigest()
            await self._asked("cancel_quantum_task", quantumTaskArn=name, clientToken=token)

    async def _outcome(self, name: str, handle: Handle) -> Outcome:
        told = await self._asked("get_quantum_task", quantumTaskArn=name)
        if not isinstance(_status(told), Finished):
            raise NotFinished("the task has no result")
        place = {"Bucket": told["outputS3Bucket"], "Key": f"{told['outputS3Directory']}/results.json"}
        body = await self._asked("get_object", **place)
        return read_result(Reading(told, body["read"], str(handle.get("program", ""))))

    # ---- the service

    def _connected(self) -> Clients:
        import boto3
        from botocore.config import Config

        secret = msgspec.json.decode(self._secret(), type=dict[str, str])
        region = self._arn.split(":")[3] if self._arn.count(":") >= 5 else ""
        session = boto3.session.Session(**secret, region_name=region or self._backend.region)
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
