# SPDX-License-Identifier: Apache-2.0
"""Driver of one IBM Quantum processor: sampler jobs by IBM's REST interface (G14).

Written to the contract that qiskit-ibm-runtime speaks and tested against answers in its shapes, over TLS; it has not
been run against IBM. ``device`` is the processor's name, ``credential`` names a JSON object of ``api_key`` and ``crn``,
``url`` another place than IBM's own. Nothing but that host and IBM's sign-in is ever connected to.

Circuits are placed on the processor's couplings in a guarded child and sent as OpenQASM 3. A job carries the plane's
token as a tag, so another worker finds it; that nothing is found proves nothing. The service knows no client token, so
a submission is sent once, and where its answer is lost the job is looked for, never sent anew.
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hal_drivers import ibm_wire as wire
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
    Format,
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
from hal_drivers.engine import formats
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
from hal_drivers.ibm import IbmEngine
from hal_drivers.local import LocalDriver
from hal_drivers.remote.link import Answer, Away, Link, Oversize, Patience

if TYPE_CHECKING:
    from hal_drivers.table import BackendConfig, DriversConfig

URL = "https://quantum.cloud.ibm.com/api/v1"
IAM = "https://iam.cloud.ibm.com"
API_VERSION = "2026-04-15"
LOOK_S = 30.0
POLL_S = 1.0
CANCEL_S = 30.0
SMALL_BYTES = 8 << 20
RESULT_BYTES = 256 << 20
T = TypeVar("T")


class _Secret(Struct, frozen=True):
    api_key: str
    crn: str


class _Translator(IbmEngine):
    """The IBM engine, told of a real processor."""

    artefact_format: Format = "QASM3"
    processor = Setup()

    def unusable(self, backend: BackendConfig) -> str | None:
        del backend
        return None

    def setup(self, backend: BackendConfig) -> Setup:
        del backend
        return self.processor


class IbmDriver:
    """One configured processor."""

    def __init__(
        self, backend: BackendConfig, config: DriversConfig, iam: str = IAM, patience: Patience | None = None
    ) -> None:
        """Nothing is reached yet; raises BackendUnknown for settings that can reach nothing."""
        self._config, self._credential = backend, config.credential
        self._name = backend.device or ""
        waits = patience or Patience()
        try:
            self._link = Link(backend.url or URL, backend.ca, self._bearer, waits, self._headers)
            self._iam = Link(iam, backend.ca, lambda: None, waits, _form)
        except ValueError as error:
            raise BackendUnknown(f"backend {backend.id}: {error}") from None
        self._translator = _Translator()
        self._near = LocalDriver(self._translator, (backend,), config)
        self._signed: tuple[str, float, str] | None = None
        """Bearer token, until when (loop's clock), CRN."""
        self._device = self._described(formats(config.limits))
        self._calibration: Calibration | None = None
        self._queue = 0
        self._why: str | None = "no worker has reached it yet"
        self._looking: asyncio.Task[None] | None = None

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
        await self._link.__aexit__(kind, error, trace)
        await self._iam.__aexit__(kind, error, trace)

    def walls(self) -> dict[str, str]:
        return self._near.walls()

    # ---- Query

    async def devices(self) -> tuple[Device, ...]:
        return (self._device,)

    async def status(self, backend: str) -> DeviceStatus:
        self._mine(backend)
        return DeviceStatus(online=self._why is None, queue_depth=self._queue, reason=self._why)

    async def calibration(self, backend: str) -> Calibration:
        """The processor's properties as the service gave them, valid from the time that they state."""
        self._mine(backend)
        if self._calibration is None:
            raise BackendUnavailable(f"{backend}: {self._why}")
        return self._calibration

    def _described(self, taken: tuple[Format, ...]) -> Device:
        return Device(
            id=self._config.id,
            provider=self._config.provider,
            qubits=0,
            simulator=False,
            region=self._config.region,
            compliance_zone=self._config.compliance_zone,
            sovereign=self._config.sovereign,
            max_shots=self._config.max_shots,
            capabilities=Capabilities(formats=taken, mid_circuit=True, cancel="queued", tasks_at_once=3),
            sku=self._name,
        )

    def _mine(self, backend: str) -> None:
        if backend != self._config.id:
            raise BackendUnknown(f"no backend {backend[:64]} here")

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        """What the processor is and how it is; what keeps it from answering is why it is offline."""
        if (lacking := self._translator.lacking()) is not None:
            self._why = lacking
            return
        try:
            place = f"/backends/{quote(self._name, safe='')}"
            described = await self._asked("GET", f"{place}/configuration")
            properties = await self._asked("GET", f"{place}/properties")
            standing = _read(await self._asked("GET", f"{place}/status"), wire.Standing)
            self._take(described, properties)
        except DriverError as error:
            self._why = error.detail
        else:
            self._queue = max(0, min(standing.length_queue, 1 << 31))
            self._why = None if standing.state else "IBM says that it takes no jobs"

    def _take(self, described: bytes, properties: bytes) -> None:
        facts = _read(described, wire.Configuration)
        stated = _read(properties, _Dated).last_update_date
        at = stated.astimezone(UTC) if stated.tzinfo is not None else stated.replace(tzinfo=UTC)
        self._calibration = Calibration("sha256:" + hashlib.sha256(properties).hexdigest(), at, properties)
        self._translator.processor = Setup(device=self._name, configuration=described, properties=properties)
        most = max(0, min(facts.max_shots, self._config.max_shots))
        self._device = replace(self._device, qubits=max(0, facts.n_qubits), max_shots=most)

    # ---- Compile

    async def compile(self, request: CompileRequest) -> Compiled:
        self._mine(request.backend)
        if self._calibration is None:
            raise BackendUnavailable(f"{request.backend}: {self._why}")
        if request.shots > self._device.max_shots:
            raise ProgramUnsupported(f"{request.shots} shots asked, the backend takes {self._device.max_shots}")
        return await self._near.compile(request)

    async def analyse(self, request: ExactRequest) -> Exact:
        raise ProgramUnsupported(f"{request.backend} computes no exact states")

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        self._mine(compiled.backend)
        if not 1 <= task.shots <= self._device.max_shots:
            raise ProgramUnsupported(f"{task.shots} shots asked, the backend takes 1 to {self._device.max_shots}")
        job = {
            "program_id": "sampler",
            "backend": self._name,
            "tags": [task.token],
            "params": {
                "pubs": [[compiled.artefact.decode(), None, task.shots]],
                "version": 2,
                "support_qiskit": False,
                "options": {},
            },
        }
        handle = self._handle(task.token) | {"shots": task.shots}
        await self._sign_in()
        try:
            body = msgspec.json.encode(job)
            answer = await self._link.ask("POST", "/jobs", body, limit=SMALL_BYTES, once=True)
        except Away as away:
            if away.sent:
                return handle  # it may run: its tag tells, and if nothing does the job is UNCERTAIN
            raise BackendUnavailable(f"{self._config.id}: {away.reason}") from None
        except Oversize:
            return handle
        if answer.status >= 500:
            return handle
        created = _read(self._judged(answer), wire.Created)
        return handle | {"job": created.id}

    def _handle(self, token: str) -> Handle:
        return {"driver": "ibm-quantum", "backend": self._config.id, "token": token}

    async def find(self, token: str) -> Handle | None:
        query = urlencode({"tags": token, "exclude_params": "true", "limit": 10})
        found = _read(await self._asked("GET", f"/jobs?{query}"), wire.Jobs)
        mine = next((job for job in found.jobs if token in job.tags), None)
        return self._handle(token) | {"job": mine.id} if mine is not None else None

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        name = await self._job_of(handle)
        clock = asyncio.get_running_loop().time
        until = clock() + wait_s
        while name is not None:
            try:
                job = await self._told(name)
            except HandleUnknown:
                break
            status, left = wire.status_of(job), until - clock()
            if not isinstance(status, Queued | Running) or left <= 0:
                return status
            await asyncio.sleep(min(POLL_S, left))
        return Unknown()

    async def _job_of(self, handle: Handle) -> str | None:
        """The job's name: of the handle, or found by the tag where the answer to submit was lost."""
        if (handle.get("driver"), handle.get("backend")) != ("ibm-quantum", self._config.id):
            return None
        if "job" in handle:
            return str(handle["job"])
        found = await self.find(str(handle.get("token")))
        return str(found["job"]) if found is not None else None

    async def _told(self, name: str) -> wire.Job:
        return _read(await self._asked("GET", f"/jobs/{quote(name, safe='')}?exclude_params=true"), wire.Job)

    async def cancel(self, handle: Handle) -> Cancellation:
        name = await self._job_of(handle)
        if name is None:
            raise HandleUnknown("that handle is of no job of this backend")
        with contextlib.suppress(ProgramUnsupported):  # a conflict: it has ended already
            await self._asked("POST", f"/jobs/{quote(name, safe='')}/cancel", b"{}")
        match await self.poll(handle, CANCEL_S):
            case Stopped():
                return Canceled()
            case Finished() | Failed() | Unknown():
                return TooLate()
            case _:
                return Unsupported()

    async def result(self, handle: Handle) -> Outcome:
        name = await self._job_of(handle)
        if name is None:
            raise HandleUnknown("that handle is of no job of this backend")
        job = await self._told(name)
        if not isinstance(wire.status_of(job), Finished):
            raise NotFinished("the job has no result")
        place = f"/jobs/{quote(name, safe='')}"
        metrics = _read(await self._asked("GET", f"{place}/metrics"), wire.Metrics)
        body = await self._asked("GET", f"{place}/results", limit=RESULT_BYTES)
        asked = handle.get("shots")
        try:
            return wire.outcome_of(body, metrics, job, asked if isinstance(asked, int) else None)
        except ValueError as error:
            raise BackendFailed(f"the result can't be read: {error}") from None

    async def forget(self, handle: Handle) -> None:
        """The service keeps what it keeps."""

    async def open_session(self, backend: str) -> str:
        self._mine(backend)
        raise ProgramUnsupported("the driver opens no sessions at IBM")

    async def close_session(self, session: str) -> None:
        raise ProgramUnsupported(f"the driver has no session {session[:64]}")

    # ---- the service

    def _bearer(self) -> str | None:
        return self._signed[0] if self._signed is not None else None

    def _headers(self) -> dict[str, str]:
        return {"Service-CRN": self._signed[2] if self._signed is not None else "", "IBM-API-Version": API_VERSION}

    async def _sign_in(self) -> None:
        """A bearer token for the API key; each lasts an hour, and is renewed before."""
        now = asyncio.get_running_loop().time()
        if self._signed is not None and now < self._signed[1]:
            return
        if self._config.credential is None or self._credential is None:
            raise BackendUnavailable(f"{self._config.id}: it needs a credential")
        try:
            secret = msgspec.json.decode(self._credential(self._config.credential), type=_Secret)
        except msgspec.MsgspecError:
            raise BackendUnavailable("the credential is no JSON object of api_key and crn") from None
        grant = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": secret.api_key}
        try:
            answer = await self._iam.ask("POST", "/identity/token", urlencode(grant).encode(), limit=SMALL_BYTES)
        except (Away, Oversize):
            raise BackendUnavailable("IBM's sign-in doesn't answer") from None
        if answer.status != 200:
            raise BackendUnavailable("IBM refuses the API key")
        token = _read(answer.body, wire.Signed)
        self._signed = token.access_token, now + max(30.0, 0.8 * token.expires_in), secret.crn

    async def _asked(self, method: str, path: str, body: bytes | None = None, limit: int = SMALL_BYTES) -> bytes:
        """An answer's body; raises BackendUnavailable, HandleUnknown or ProgramUnsupported."""
        await self._sign_in()
        try:
            return self._judged(await self._link.ask(method, path, body, limit=limit))
        except Away as away:
            raise BackendUnavailable(f"{self._config.id}: {away.reason}") from None
        except Oversize:
            raise BackendFailed("an answer of IBM's is too long") from None

    def _judged(self, answer: Answer) -> bytes:
        """What a status means here; the service's own text may quote the request, so it isn't told."""
        match answer.status:
            case 200 | 201 | 204:
                return answer.body
            case 401 | 403:
                self._signed = None
                raise BackendUnavailable("IBM refuses the credential, or what it may do")
            case 404:
                raise HandleUnknown("IBM knows no such thing")
            case 400 | 409 | 422:
                raise ProgramUnsupported("IBM refuses the request")
            case status:
                raise BackendUnavailable(f"IBM answers {status}")


class _Dated(Struct, frozen=True):
    last_update_date: datetime


def _form() -> dict[str, str]:
    return {"Content-Type": "application/x-www-form-urlencoded"}


def _read(body: bytes, kind: type[T]) -> T:
    try:
        found: Any = msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise BackendUnavailable("an answer of IBM's can't be read") from None
    return found  # type: ignore[no-any-return]
