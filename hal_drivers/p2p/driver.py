# SPDX-License-Identifier: Apache-2.0
"""The driver of a network of services: one backend, whose circuits are planned here and run by the fabric (N4, N6).

Compiling reads the circuit in a guarded child and plans it on the fabric's registry of now, which no node is asked
for; a plan that can't be made is ProgramUnsupported, and says what is missing. The artefact is ``planned.Planned``.
Everything about a run is the fabric's to know, by the plane's token: handles are good in any worker and over restarts
of both, and that the fabric knows nothing of a token proves that nothing ever ran under it.

While the driver is entered it looks at the registry once a second, so that Query answers at once.
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from hal_drivers.base import (
    Block,
    Calibration,
    Canceled,
    Cancellation,
    Compiled,
    CompileRequest,
    Device,
    DeviceStatus,
    Exhibit,
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
    Usage,
)
from hal_drivers.device import check_shots
from hal_drivers.errors import (
    BackendFailed,
    BackendUnavailable,
    DriverError,
    HandleUnknown,
    NotFinished,
    ProgramUnsupported,
)
from hal_drivers.local import LocalDriver
from hal_drivers.looking import Looking
from hal_drivers.near import Watched
from hal_drivers.p2p import planned, rows
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import AskRefused, FabricAway
from hal_drivers.p2p.ir import canonical, digest
from hal_drivers.p2p.office import (
    Ask,
    AskResult,
    AskSnapshot,
    CancelRun,
    Done,
    Find,
    ForgetRun,
    Poll,
    RunIs,
    RunResult,
    SnapshotIs,
    Submit,
)
from hal_drivers.p2p.plan import Infeasible, PlanConfig, Snapshot
from hal_drivers.p2p.reader import checked
from hal_drivers.p2p.reading import NetworkEngine

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

LOOK_S = 1.0
FIRST_LOOK_S = 3.0
POLL_S = 5.0
METHOD = "network"
RUN = "network"
"""The exhibit with who received what: canonical JSON of the fabric's :class:`RunResult`."""
_WHY: dict[str, type[DriverError]] = {"not_ended": NotFinished, "unknown_token": HandleUnknown}
R = TypeVar("R", bound=Struct)


class NetworkDriver(Watched):
    """The network behind one fabric."""

    def __init__(self, backend: BackendConfig, config: DriversConfig) -> None:
        """Nothing is opened yet; without a fabric's socket in the configuration it is offline and says so."""
        near = LocalDriver(NetworkEngine(), (backend,), config)
        super().__init__(near, backend, config, Looking(self._look, LOOK_S, FIRST_LOOK_S))
        self._planning: PlanConfig = config.planning
        self._office = Office(config.fabric) if config.fabric is not None else None
        self._seen: Snapshot | None = None
        self._calibration: Calibration | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if self._office is not None:
            await self._office.close()

    # ---- Query

    async def devices(self) -> tuple[Device, ...]:
        """As wide as all nodes together: groups of qubits that share nothing run on different ones."""
        (device,) = await self._near.devices()
        if self._seen is None:
            return (device,)
        return (replace(device, qubits=min(device.qubits, _width(self._seen))),)

    async def status(self, backend: str) -> DeviceStatus:
        self._configured(backend)
        why = (await self._near.status(backend)).reason or self._why
        return DeviceStatus(online=why is None, queue_depth=0, reason=why)

    async def calibration(self, backend: str) -> Calibration:
        """The registry as it was looked at last: who offered what, how good each was found."""
        self._configured(backend)
        if self._calibration is None:
            raise BackendUnavailable(f"{backend}: {self._why}")
        return self._calibration

    async def _look(self) -> None:
        """What the network is now; what keeps it from taking jobs is why it is offline."""
        try:
            snapshot = (await self._ask(AskSnapshot(), SnapshotIs)).snapshot
        except BackendUnavailable as error:
            self._why = error.detail
            return
        name = "sha256:" + digest(snapshot)
        if self._calibration is None or self._calibration.id != name:
            self._calibration = Calibration(name, datetime.now(UTC), canonical(snapshot))
        self._seen = snapshot
        self._why = None if any(node.state == "online" for node in snapshot.nodes) else _nobody(snapshot)

    # ---- Compile

    async def compile(self, request: CompileRequest) -> Compiled:
        read = await super().compile(request)
        if request.basis is not None:
            raise ProgramUnsupported("a network measures a circuit as it says, in no other basis")
        program = checked(read.artefact)
        if request.plan is not None:
            try:
                made: planned.Planned | Infeasible = planned.restored(program, request.plan, request.allowed_nodes)
            except ValueError as error:
                raise BackendFailed(f"the plan that was kept can't be used: {error}") from None
        else:
            device = await self._device(request.backend)
            if read.facts.qubits > device.qubits:
                raise ProgramUnsupported(f"the circuit has {read.facts.qubits} qubits, the network {device.qubits}")
            snapshot = (await self._ask(AskSnapshot(), SnapshotIs)).snapshot
            made = planned.make(program, snapshot, self._planning, request.shots, request.allowed_nodes)
        if isinstance(made, Infeasible):
            raise ProgramUnsupported(made.detail)
        versions = read.versions | {"planner": made.plan.planner}
        return replace(read, artefact=planned.artefact(made), format="PLAN", versions=versions)

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        check_shots(task.shots, await self._device(compiled.backend))
        made = planned.read(compiled.artefact)
        if made.config is None:
            raise BackendFailed("a plan whose configuration is lost is not run")
        ask = Submit(
            token=task.token,
            program=made.program,
            plan=made.plan,
            config=made.config,
            shots=task.shots,
            seed=task.seed if task.seed is not None else _seed(task.token),
            deadline_ms=max(1, round(task.deadline_s * 1000)),
        )
        try:
            await self._ask(ask, RunIs)
        except AskRefused as error:
            raise BackendFailed(f"the fabric doesn't take the plan: {error.detail}") from None
        return self._handle(task.token)

    def _handle(self, token: str) -> Handle:
        return {"driver": self._backend.provider, "backend": self._backend.id, "token": token}

    async def find(self, token: str) -> Handle | None:
        try:
            await self._ask(Find(token), RunIs)
        except AskRefused as error:
            if error.code == "unknown_token":
                return None
            raise BackendUnavailable(f"the fabric can't say: {error.detail}") from None
        return self._handle(token)

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        if (token := self._token(handle)) is None:
            return Unknown()
        clock = asyncio.get_running_loop().time
        until = clock() + wait_s
        while True:
            left = max(0.0, min(POLL_S, until - clock()))
            try:
                status = _status(await self._ask(Poll(token, round(left * 1000)), RunIs))
            except AskRefused as error:
                if error.code == "unknown_token":
                    return Unknown()
                raise BackendUnavailable(f"the fabric can't say: {error.detail}") from None
            if not isinstance(status, Queued | Running) or clock() >= until:
                return status

    async def cancel(self, handle: Handle) -> Cancellation:
        token = self._known(handle)
        try:
            await self._ask(CancelRun(token), Done)
            run = await self._ask(Poll(token), RunIs)
        except AskRefused as error:
            raise _meaning(error) from None
        return Canceled() if run.state == "canceled" else TooLate()

    async def result(self, handle: Handle) -> Outcome:
        result = await self._result(handle)
        if result.run.state != "finished":
            raise NotFinished(f"the run is {result.run.state}")
        try:
            return _outcome(result)
        except ValueError as error:
            raise BackendFailed(f"the result can't be read: {error}") from None

    async def exhibits(self, handle: Handle) -> tuple[Exhibit, ...]:
        """As ``base.Witness`` promises: each node that could have received anything, with its own signed words."""
        return (Exhibit(RUN, "application/json", canonical(await self._result(handle))),)

    async def forget(self, handle: Handle) -> None:
        if (token := self._token(handle)) is not None:
            await self._ask(ForgetRun(token), Done)

    async def _result(self, handle: Handle) -> RunResult:
        try:
            return await self._ask(AskResult(self._known(handle)), RunResult)
        except AskRefused as error:
            raise _meaning(error) from None

    async def _ask(self, ask: Ask, wanted: type[R]) -> R:
        if self._office is None:
            raise BackendUnavailable("the network of services is switched off")
        try:
            return await self._office.ask(ask, wanted)
        except FabricAway as error:
            raise BackendUnavailable(error.detail) from None

    def _token(self, handle: Handle) -> str | None:
        token = str(handle.get("token"))
        return token if handle == self._handle(token) else None

    def _known(self, handle: Handle) -> str:
        if (token := self._token(handle)) is None:
            raise HandleUnknown("that handle is of no run of this network")
        return token


def _seed(token: str) -> int:
    """A job that asks for no seed has one by its token: whoever asks again gets the same."""
    return int.from_bytes(hashlib.sha256(b"qcos-seed\0" + token.encode()).digest()[:6], "little")


def _width(snapshot: Snapshot) -> int:
    widths = (max((offer.qubit_max for offer in node.offers), default=0) for node in snapshot.nodes)
    return max(1, sum(widths))


def _nobody(snapshot: Snapshot) -> str:
    states = sorted({node.state for node in snapshot.nodes})
    return (
        f"no node is online: of {len(snapshot.nodes)} enrolled all are {' or '.join(states)}"
        if states
        else ("no node is enrolled")
    )


def _status(run: RunIs) -> Status:
    match run.state:
        case "queued":
            return Queued()
        case "reserving" | "running":
            return Running(started_at=_time(run.started_at))
        case "finished":
            return Finished()
        case "canceled":
            return Stopped()
        case "failed":
            code = "deadline_exceeded" if run.code == "deadline" else BackendFailed.code
            return Failed(code=code, detail=run.detail or "the fabric doesn't say why")


def _meaning(error: AskRefused) -> DriverError:
    return _WHY.get(error.code, BackendUnavailable)(error.detail)


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text is not None else datetime.now(UTC)


def _outcome(result: RunResult) -> Outcome:
    counts = rows.counts(result.rows, result.bits, result.shots)
    started_at, ended_at = _time(result.run.started_at), _time(result.run.ended_at)
    used = sorted({fragment.node_id for fragment in result.run.fragments if fragment.node_id is not None})
    return Outcome(
        counts=counts,
        blocks=(Block(shots=result.shots, counts=counts, start=started_at, end=ended_at),),
        shots_executed=result.shots,
        partial=None,
        seed=result.seed,
        method=METHOD,
        usage=Usage(
            wall_s=result.duration_us / 1e6,
            cpu_s=None,
            peak_memory_bytes=None,
            source="measured",
            reserved_s=_reserved(result),
        ),
        started_at=started_at,
        ended_at=ended_at,
        metadata={"nodes": str(len(used)), "noise_model": "nodes"},
    )


def _reserved(result: RunResult) -> float:
    """For how long nodes were kept for the run, all of them together: each attempt from its reservation to its end."""
    spans = (
        _time(attempt.ended_at) - _time(attempt.started_at)
        for fragment in result.run.fragments
        for attempt in fragment.attempts
        if attempt.ended_at is not None
    )
    return max(0.0, sum(span.total_seconds() for span in spans))
