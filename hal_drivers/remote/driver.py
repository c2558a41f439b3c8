# SPDX-License-Identifier: Apache-2.0
"""Driver of one remote simulator: the Protocol over HTTPS (issue 4, items 1 and 2).

A circuit's bytes are scanned here, sent, and never parsed here. Submitting is a PUT under the plane's token, so that
asking twice is asking once; where nobody can say whether it arrived, the handle is given all the same, and the task's
own status tells. A handle is the token: any process with the credential can go on with it. What the far side claims and
reports is judged by ``judge``; what it doesn't know is proof of nothing unless it says that it is (``authoritative``).

While the driver is entered it looks at the far side every few seconds, so that ``devices``, ``status`` and
``calibration`` answer at once, whatever it does. Before that nothing is known of it and nothing is asked.
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from hal_drivers import prescan
from hal_drivers.base import (
    Calibration,
    Cancellation,
    Capabilities,
    Compiled,
    CompileRequest,
    Device,
    DeviceStatus,
    Handle,
    Outcome,
    Running,
    Status,
    Task,
    Unknown,
)
from hal_drivers.base import Failed as FailedStatus
from hal_drivers.device import check_shots, formats, record
from hal_drivers.errors import (
    BackendFailed,
    BackendUnavailable,
    BackendUnknown,
    CircuitInvalid,
    CircuitTooComplex,
    DriverError,
    HandleUnknown,
    NotFinished,
    ProgramUnsupported,
)
from hal_drivers.looking import Looking
from hal_drivers.remote import judge, wire
from hal_drivers.remote.link import Answer, Away, CredentialMissing, Link, Oversize, Patience
from hal_drivers.remote.wire import Ceased, Ended, Fault, Served, Shown, Standing, Submission

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

LOOK_S = 3.0
KEPT = 10_000
FIRST_LOOK_S = 3.0
SMALL_BYTES = 1 << 20
COMPILED_BYTES = 32 << 20
RESULT_BYTES = 64 << 20
_REFUSED = (401, 403)
_FAILURES = {"deadline_exceeded", "backend_failed", "circuit_invalid", "circuit_too_complex", "program_unsupported"}

T = TypeVar("T")


class RemoteDriver:
    """One configured backend."""

    def __init__(self, backend: BackendConfig, config: DriversConfig, patience: Patience | None = None) -> None:
        """Nothing is reached yet; raises BackendUnknown for settings that can reach nothing."""
        self._config, self._limits = backend, config.limits
        self._credential: Callable[[str], str] | None = config.credential
        self._patience = patience or Patience()
        try:
            self._link = Link(backend.url or "", backend.ca, self._token, self._patience, _headers)
        except ValueError as error:
            raise BackendUnknown(f"backend {backend.id}: {error}") from None
        claims = Capabilities(formats(config.limits))
        self._ours = record(backend, claims, qubits=config.limits.qubits)
        self._claimed: Device | None = None
        self._far = backend.device
        self._standing: Standing | None = None
        self._why: str | None = "no worker has reached it yet"
        self._looking = Looking(self._look, LOOK_S, FIRST_LOOK_S)
        self._handed: dict[str, datetime] = {}
        """When this process handed a task over; another one doesn't know, and takes the times that it is told."""

    async def __aenter__(self) -> Self:
        await self._looking.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._looking.__aexit__(kind, error, trace)
        await self._link.__aexit__(kind, error, trace)

    def walls(self) -> dict[str, str]:
        return {}

    # ---- Query

    async def devices(self) -> tuple[Device, ...]:
        return (self._claimed or self._ours,)

    async def status(self, backend: str) -> DeviceStatus:
        self._mine(backend)
        if self._standing is None or self._why is not None:
            return DeviceStatus(online=False, queue_depth=0, reason=self._why)
        return self._standing.status

    async def calibration(self, backend: str) -> Calibration:
        self._mine(backend)
        if self._standing is None:
            await self._look()
        if self._standing is None:
            raise BackendUnavailable(f"{backend}: {self._why}")
        return self._standing.calibration

    def _mine(self, backend: str) -> None:
        if backend != self._config.id:
            raise BackendUnknown(f"no backend {backend[:64]} here")

    async def _look(self) -> None:
        """See what the far side is and how it is; what keeps it from answering is why it is offline."""
        try:
            served = self._read(await self._link.ask("GET", "/v1/capabilities", limit=SMALL_BYTES, once=True), Served)
            self._take(served)
            path = f"/v1/devices/{quote(self._far or '', safe='')}"
            standing = self._read(await self._link.ask("GET", path, limit=SMALL_BYTES, once=True), Standing)
        except (Away, Oversize) as error:
            self._why = error.reason if isinstance(error, Away) else "its answer is too long"
        except DriverError as error:
            self._why = error.detail
        else:
            status = standing.status
            reason = judge.text(status.reason) if status.reason is not None else None
            depth = max(0, min(status.queue_depth, 1 << 31))
            self._standing = replace(standing, status=replace(status, reason=reason, queue_depth=depth))
            self._why = None

    def _take(self, served: Served) -> None:
        if served.protocol != wire.PROTOCOL:
            raise BackendUnavailable(f"it speaks protocol {served.protocol}, this plane {wire.PROTOCOL}")
        wanted = self._config.device
        found = next((one for one in served.devices if wanted is None or one.id == wanted), None)
        if found is None:
            raise BackendUnavailable("it has no such device" if wanted else "it has no device")
        self._far = found.id
        honest = replace(found.capabilities, find_authoritative=served.authoritative)
        self._claimed = judge.device(replace(found, capabilities=honest), self._ours)

    # ---- Compile

    async def compile(self, request: CompileRequest) -> Compiled:
        self._mine(request.backend)
        known = self._claimed or self._ours
        check_shots(request.shots, known)
        prescan.prescan(request.format, request.source, self._limits)
        body = wire.encode(replace(request, backend=self._name()))
        answer = await self._reached("POST", "/v1/compile", body, limit=COMPILED_BYTES)
        source = request.source.decode(errors="replace")
        if answer.status != 200:
            self._refuse(answer, source)
        compiled = self._read(answer, Compiled)
        facts = compiled.facts
        if compiled.backend != self._far or min(facts.qubits, facts.clbits, facts.depth, facts.memory_bytes) < 0:
            raise BackendFailed("it compiled something else than it was asked for")
        if facts.clbits > self._limits.clbits or facts.qubits > known.qubits or len(facts.operations) > 1_000:
            raise BackendFailed("it compiled something else than it was asked for")
        judge.tallies(facts, self._limits.gates)
        named = replace(facts, method=judge.text(facts.method, longest=64))
        return replace(compiled, backend=request.backend, facts=named, versions=judge.words(compiled.versions, source))

    def _name(self) -> str:
        if self._far is None:
            raise BackendUnavailable(f"{self._config.id}: {self._why}")
        return self._far

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        self._mine(compiled.backend)
        check_shots(task.shots, self._claimed or self._ours)
        body = wire.encode(Submission(replace(compiled, backend=self._name()), task))
        handle = self._handle(task.token)
        self._handed.setdefault(task.token, datetime.now(UTC))
        while len(self._handed) > KEPT:
            del self._handed[next(iter(self._handed))]
        try:
            answer = await self._link.ask("PUT", _path(task.token), body, limit=SMALL_BYTES)
        except Away as away:
            if away.sent:
                return handle  # it may run: its status tells, and if nobody can, the job is UNCERTAIN
            raise BackendUnavailable(f"{self._config.id}: {away.reason}") from None
        except Oversize:
            return handle
        if answer.status not in (200, 201) and answer.status < 500:
            self._refuse(answer)
        return handle

    def _handle(self, token: str) -> Handle:
        return {"driver": "remote", "backend": self._config.id, "token": token}

    def _known(self, handle: Handle) -> str | None:
        """The token of a handle of this backend."""
        token = handle.get("token")
        if (handle.get("driver"), handle.get("backend")) != ("remote", self._config.id) or not isinstance(token, str):
            return None
        return token

    async def find(self, token: str) -> Handle | None:
        answer = await self._reached("GET", _path(token), limit=SMALL_BYTES)
        if answer.status == 404:
            self._is_authoritative(self._read(answer, Fault))
            return None
        if answer.status not in (200, 410):
            self._refuse(answer)
        if answer.status == 200 and self._read(answer, Shown).token != token:
            raise BackendUnavailable(f"{self._config.id}: it answers for another task")
        return self._handle(token)

    def _is_authoritative(self, fault: Fault) -> None:
        """The record claims what the last answer said: a server that lost its memory proves nothing any more."""
        if fault.code != "task_unknown":
            raise BackendUnavailable(f"{self._config.id}: its answer can't be read")
        known = self._claimed or self._ours
        capabilities = replace(known.capabilities, find_authoritative=fault.authoritative)
        self._claimed = replace(known, capabilities=capabilities)

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        token = self._known(handle)
        if token is None:
            return Unknown()
        wait_s = max(0.0, min(wait_s, wire.LONGEST_WAIT_S))
        answer = await self._reached("GET", f"{_path(token)}?wait={wait_s:.3f}", limit=SMALL_BYTES, wait_s=wait_s)
        if answer.status == 410:
            return Unknown()
        if answer.status == 404:
            self._is_authoritative(self._read(answer, Fault))
            return Unknown()
        if answer.status != 200:
            self._refuse(answer)
        shown = self._read(answer, Shown)
        if shown.token != token:
            raise BackendUnavailable(f"{self._config.id}: it answers for another task")
        match shown.status:
            case FailedStatus(code=code, detail=detail):
                told = judge.text(detail) or "the backend says no more"
                return FailedStatus(code if code in _FAILURES else BackendFailed.code, told)
            case Running(started_at=at) if at.utcoffset() is None:
                return Running(datetime.now(UTC))
            case status:
                return status

    async def cancel(self, handle: Handle) -> Cancellation:
        token = self._known(handle)
        if token is None:
            raise HandleUnknown("that handle is of no task of this backend")
        answer = await self._reached("POST", f"{_path(token)}/cancel", b"{}", limit=SMALL_BYTES)
        if answer.status != 200:
            self._refuse(answer)
        ceased = self._read(answer, Ceased)
        if ceased.token != token:
            raise BackendUnavailable(f"{self._config.id}: it answers for another task")
        return ceased.cancellation

    async def result(self, handle: Handle) -> Outcome:
        token = self._known(handle)
        if token is None:
            raise HandleUnknown("that handle is of no task of this backend")
        try:
            answer = await self._reached("GET", f"{_path(token)}/result", limit=RESULT_BYTES)
            if answer.status != 200:
                self._refuse(answer)
            ended = self._read(answer, Ended)
        except Oversize:
            raise BackendFailed("its result is too long") from None
        if ended.token != token:
            raise BackendFailed("its result is another task's")
        simulator = (self._claimed or self._ours).simulator
        handed = self._handed.get(token)
        return judge.outcome(ended.outcome, ended.now, datetime.now(UTC), handed, simulator=simulator)

    async def forget(self, handle: Handle) -> None:
        token = self._known(handle)
        if token is not None:
            self._handed.pop(token, None)
            with contextlib.suppress(Away, Oversize):
                await self._link.ask("DELETE", _path(token), limit=SMALL_BYTES, once=True)

    async def open_session(self, backend: str) -> str:
        self._mine(backend)
        raise ProgramUnsupported("a remote simulator has no sessions")

    async def close_session(self, session: str) -> None:
        raise ProgramUnsupported(f"a remote simulator has no session {session[:64]}")

    # ---- the far side's answers

    def _token(self) -> str | None:
        """The bearer token of now, as the worker keeps it."""
        name = self._config.credential
        if name is None:
            return None
        if self._credential is None:
            raise CredentialMissing(f"this process holds no credentials, and {name} is one")
        token = self._credential(name).strip()
        if not token or not token.isascii() or not token.isprintable():
            raise CredentialMissing(f"credential {name} is no bearer token")
        return token

    async def _reached(
        self, method: str, path: str, body: bytes | None = None, *, limit: int, wait_s: float = 0.0
    ) -> Answer:
        try:
            # Where the last look found nobody, whoever asks is told at once: the plane asks again by itself.
            return await self._link.ask(method, path, body, limit=limit, wait_s=wait_s, once=self._why is not None)
        except Away as away:
            raise BackendUnavailable(f"{self._config.id}: {away.reason}") from None
        except CredentialMissing as error:
            raise BackendUnavailable(f"{self._config.id}: {error.detail}") from None
        except Oversize:
            if path.endswith("/result"):
                raise
            raise BackendFailed("its answer is too long") from None

    def _read(self, answer: Answer, kind: type[T]) -> T:
        if answer.status in _REFUSED:
            raise BackendUnavailable(f"{self._config.id}: it refuses the credential ({answer.status})")
        try:
            return wire.decode(answer.body, kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if kind in (Compiled, Ended):
                raise BackendFailed("its answer can't be read") from None
            raise BackendUnavailable(f"{self._config.id}: its answer can't be read ({answer.status})") from None

    def _refuse(self, answer: Answer, source: str = "") -> NoReturn:
        """Raise what a refusal means here."""
        fault = self._read(answer, Fault)
        detail = judge.text(fault.detail, source) if source else judge.text(fault.detail)
        detail = detail or "the backend says no more"
        line = fault.line if fault.line is not None and 0 < fault.line < 1 << 31 else None
        match fault.code:
            case "circuit_invalid":
                raise CircuitInvalid(detail, line=line)
            case "circuit_too_complex":
                raise CircuitTooComplex(detail, line=line)
            case "program_unsupported":
                raise ProgramUnsupported(detail)
            case "task_unknown":
                raise HandleUnknown("the backend knows no task under that handle")
            case "not_finished":
                raise NotFinished(detail)
            case "backend_unavailable" | "backend_unknown":
                raise BackendUnavailable(f"{self._config.id}: {detail}")
            case _:
                raise BackendFailed(f"it answers {answer.status}: {detail}")


def _headers() -> dict[str, str]:
    return {wire.TALLIES: "1"}


def _path(token: str) -> str:
    return f"/v1/tasks/{quote(token, safe='')}"
