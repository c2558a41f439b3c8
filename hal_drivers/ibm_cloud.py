# SPDX-License-Identifier: Apache-2.0
"""Driver of one IBM Quantum processor: sampler jobs by IBM's REST interface (G14).

Written to the contract that qiskit-ibm-runtime speaks and tested against answers in its shapes, over TLS; it has not
been run against IBM. ``device`` is the processor's name, ``credential`` names a JSON object of ``api_key`` and ``crn``,
``url`` another place than IBM's own. Nothing but that host and IBM's sign-in is ever connected to.

Circuits are placed on the processor's couplings in a guarded child and sent as OpenQASM 3. A job carries the plane's
token as a tag, so another worker finds it; that nothing is found proves nothing. The service knows no client token, so
a submission is sent once, and where its answer is lost the job is looked for, never sent anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from hal_drivers import ibm_wire as wire
from hal_drivers.base import Capabilities, Compiled, Finished, Format, Handle, Outcome, Status, Task
from hal_drivers.device import formats, record
from hal_drivers.errors import (
    BackendFailed,
    BackendUnavailable,
    BackendUnknown,
    HandleUnknown,
    NotFinished,
    ProgramUnsupported,
)
from hal_drivers.frames import Setup
from hal_drivers.ibm import IbmEngine, calibration_of
from hal_drivers.remote.link import Answer, Away, Link, Oversize, Patience
from hal_drivers.vendor import Seen, Translating, VendorDriver

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

URL = "https://quantum.cloud.ibm.com/api/v1"
IAM = "https://iam.cloud.ibm.com"
API_VERSION = "2026-04-15"
SMALL_BYTES = 8 << 20
RESULT_BYTES = 256 << 20
T = TypeVar("T")


class _Secret(Struct, frozen=True):
    api_key: str
    crn: str


class _Translator(Translating, IbmEngine):
    """The IBM engine, told a real processor's couplings and properties."""

    artefact_format: Format = "QASM3"


class IbmDriver(VendorDriver):
    """One configured processor."""

    member = "job"

    def __init__(
        self, backend: BackendConfig, config: DriversConfig, iam: str = IAM, patience: Patience | None = None
    ) -> None:
        """Nothing is reached yet; raises BackendUnknown for settings that can reach nothing."""
        waits = patience or Patience()
        try:
            self._link = Link(backend.url or URL, backend.ca, self._bearer, waits, self._headers)
            self._iam = Link(iam, backend.ca, lambda: None, waits, _form)
        except ValueError as error:
            raise BackendUnknown(f"backend {backend.id}: {error}") from None
        self._processor = backend.device or ""
        self._translator = _Translator()
        claims = Capabilities(formats(config.limits), mid_circuit=True, cancel="queued", tasks_at_once=3)
        ours = record(backend, claims, qubits=0, simulator=False, sku=self._processor)
        super().__init__(self._translator, backend, config, ours)
        self._signed: tuple[str, float, str] | None = None
        """Bearer token, until when (loop's clock), CRN."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._link.__aexit__(kind, error, trace)
        await self._iam.__aexit__(kind, error, trace)

    async def _see(self) -> Seen:
        if (lacking := self._translator.lacking()) is not None:
            raise BackendUnavailable(lacking)
        place = f"/backends/{quote(self._processor, safe='')}"
        described = await self._asked("GET", f"{place}/configuration")
        properties = await self._asked("GET", f"{place}/properties")
        standing = _read(await self._asked("GET", f"{place}/status"), wire.Standing)
        facts = _read(described, wire.Configuration)
        try:
            calibration = calibration_of(properties)
        except msgspec.MsgspecError:
            raise BackendUnavailable("an answer of IBM's can't be read") from None
        self._translator.processor = Setup(device=self._processor, configuration=described, properties=properties)
        return Seen(
            qubits=max(0, facts.n_qubits),
            max_shots=max(0, facts.max_shots),
            calibration=calibration,
            queue_depth=max(0, min(standing.length_queue, 1 << 31)),
            offline=None if standing.state else "IBM says that it takes no jobs",
        )

    async def _send(self, compiled: Compiled, task: Task, handle: Handle) -> Handle:
        job = {
            "program_id": "sampler",
            "backend": self._processor,
            "tags": [task.token],
            "params": {
                "pubs": [[compiled.artefact.decode(), None, task.shots]],
                "version": 2,
                "support_qiskit": False,
                "options": {},
            },
        }
        handle["shots"] = task.shots
        await self._sign_in()
        try:
            body = msgspec.json.encode(job)
            answer = await self._link.ask("POST", "/jobs", body, limit=SMALL_BYTES, once=True)
        except Away as away:
            if away.sent:
                return handle  # it may run: its tag tells, and if nothing does the job is UNCERTAIN
            raise BackendUnavailable(f"{self._backend.id}: {away.reason}") from None
        except Oversize:
            return handle
        if answer.status >= 500:
            return handle
        created = _read(self._judged(answer), wire.Created)
        return handle | {self.member: created.id}

    async def _named(self, token: str) -> str | None:
        query = urlencode({"tags": token, "exclude_params": "true", "limit": 10})
        found = _read(await self._asked("GET", f"/jobs?{query}"), wire.Jobs)
        return next((job.id for job in found.jobs if token in job.tags), None)

    async def _status(self, name: str) -> Status:
        return wire.status_of(await self._told(name))

    async def _told(self, name: str) -> wire.Job:
        return _read(await self._asked("GET", f"{_place(name)}?exclude_params=true"), wire.Job)

    async def _stop(self, name: str) -> None:
        with contextlib.suppress(ProgramUnsupported):  # a conflict: it has ended already
            await self._asked("POST", f"{_place(name)}/cancel", b"{}")

    async def _outcome(self, name: str, handle: Handle) -> Outcome:
        job = await self._told(name)
        if not isinstance(wire.status_of(job), Finished):
            raise NotFinished("the job has no result")
        metrics = _read(await self._asked("GET", f"{_place(name)}/metrics"), wire.Metrics)
        body = await self._asked("GET", f"{_place(name)}/results", limit=RESULT_BYTES)
        asked = handle.get("shots")
        return wire.outcome_of(body, metrics, job, asked if isinstance(asked, int) else None)

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
        try:
            secret = msgspec.json.decode(self._secret(), type=_Secret)
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
            raise BackendUnavailable(f"{self._backend.id}: {away.reason}") from None
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


def _place(name: str) -> str:
    return f"/jobs/{quote(name, safe='')}"


def _form() -> dict[str, str]:
    return {"Content-Type": "application/x-www-form-urlencoded"}


def _read(body: bytes, kind: type[T]) -> T:
    try:
        found: Any = msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise BackendUnavailable("an answer of IBM's can't be read") from None
    return found  # type: ignore[no-any-return]
