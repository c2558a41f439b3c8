# SPDX-License-Identifier: Apache-2.0
"""A service node's desk: a frame of a request comes in, a frame of a signed answer goes out (N5, N6).

It keeps the calendar, fences older epochs, runs fragments in the workshop under the node's true fidelities, and signs
what it says with the node's identity key. ``execute`` is idempotent by (token, fragment, epoch): while it runs, the
same request waits for the same run; afterwards it gets the same bytes, over a restart too. Work goes on when the
connection of its asker ends, until it is done, cancelled, fenced by a newer epoch, or its window ends.

It knows nothing of libp2p: the host carries frames and has checked who asks. Time is the node's monotonic clock.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol, assert_never

import msgspec
import trio
from msgspec import Meta, Struct
from msgspec.structs import replace

from hal_drivers.frames import FragmentCall, Memory
from hal_drivers.p2p.aliases import faults as circuit_faults
from hal_drivers.p2p.aliases import is_service, services_of
from hal_drivers.p2p.calendar import Calendar, Refused, Window
from hal_drivers.p2p.faults import Fault, FaultFile, FaultName
from hal_drivers.p2p.identity import Identity
from hal_drivers.p2p.ir import Circuit, Service, canonical
from hal_drivers.p2p.past import LIFE, Attempt, Past
from hal_drivers.p2p.wire import (
    ADVERT_VERSION,
    Advert,
    Answer,
    Cancel,
    Canceled,
    Commit,
    Committed,
    Execute,
    Executed,
    ExecutionFailed,
    Ping,
    Pong,
    Prepared,
    Rejected,
    Request,
    Reserve,
    request_digest,
)
from hal_drivers.p2p.workshop import RunLost

Fidelity = Annotated[float, Meta(gt=0, le=1)]
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class Skill(Struct, frozen=True, forbid_unknown_fields=True):
    """One service: what the node says of it and what it is."""

    advertised: Fidelity
    true: Fidelity


class NodeConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What a node offers, and how it behaves."""

    skills: dict[Service, Skill]
    qubit_min: int = 1
    qubit_max: int = 20
    shots_max: int = 100_000
    capacity: int = 1
    """Fragments at once."""
    latency_s: float = 0.0
    """Waited before each answer."""
    ttl_s: int = 30
    faults: tuple[Fault, ...] = ()
    control: bool = False
    """Whether ``faults.json`` in the node's home is obeyed: profile ``dev`` alone."""


class Simulator(Protocol):
    """Who computes a fragment: the node's workshop."""

    versions: dict[str, str]

    async def run(self, call: FragmentCall, limit_s: float) -> Memory:
        """Raises RunLost; canceled, nothing of it runs any more."""
        ...


class _Run:
    """One fragment at work; ``frame`` is there when ``done`` is set."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.frame = b""


class Desk:
    """Made by :func:`open_desk`."""

    def __init__(
        self, config: NodeConfig, identity: Identity, home: Path, workshop: Simulator, nursery: trio.Nursery
    ) -> None:
        self._config, self._identity, self._workshop, self._nursery = config, identity, workshop, nursery
        self._past = Past(home)
        self._calendar = Calendar(config.capacity, self._past.life * LIFE)
        self._serial = self._past.life * LIFE
        self._runs: dict[tuple[str, str], _Run] = {}
        self._changed = trio.Event()
        self._faults = FaultFile(home / "faults.json" if config.control else None, config.faults)
        self._unasked: list[bytes] = []
        self.listen_addrs: tuple[str, ...] = ()
        """The host sets it once it listens."""

    async def answer(self, frame: bytes) -> bytes:
        """The frame of a Signed; ``b""``: say nothing, as a broken node would."""
        request_sha256 = request_digest(frame)
        try:
            request = _requests.decode(frame)
        except (msgspec.DecodeError, RecursionError) as error:
            return self._signed(self._rejected(request_sha256, "invalid", str(error)[:200]))
        struck = self._faults.now().strike(request.__struct_config__.tag or "")  # type: ignore[arg-type]
        if "crash" in struck:
            os._exit(70)
        if "deaf" in struck:
            return b""
        if "refuse" in struck:
            return self._signed(self._rejected(request_sha256, "busy", "it refuses"))
        answer = await self._judge(request, request_sha256, struck)
        if self._config.latency_s:
            await trio.sleep(self._config.latency_s)
        return await self._told(answer, struck)

    def unasked(self) -> list[bytes]:
        """Frames to send that nobody asked for: none, but for a node that is told to misbehave so."""
        frames, self._unasked = self._unasked, []
        return frames

    def adverts(self) -> list[Advert]:
        """One a service, as things are now."""
        found = []
        availability = 1 - self._calendar.load_ppm(_now_us()) / 1_000_000
        for service, skill in self._config.skills.items():
            self._serial += 1
            advert = Advert(
                version=ADVERT_VERSION,
                node_id=self._identity.peer_id,
                listen_addrs=self.listen_addrs,
                service_type=service,
                fidelity=skill.advertised,
                qubit_min=self._config.qubit_min,
                qubit_max=self._config.qubit_max,
                availability=availability,
                updated_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                serial=self._serial,
                ttl_s=self._config.ttl_s,
                shots_max=self._config.shots_max,
            )
            found.append(advert)
        return found

    async def _judge(self, request: Request, request_sha256: str, struck: Mapping[FaultName, Fault]) -> Answer | bytes:
        match request:
            case Ping():
                return Pong(self._identity.peer_id, request_sha256, self._calendar.load_ppm(_now_us()))
            case Reserve():
                return self._reserve(request, request_sha256)
            case Commit():
                return self._commit(request, request_sha256)
            case Cancel():
                return await self._cancel(request, request_sha256)
            case Execute():
                return await self._execute(request, request_sha256, struck)
            case _:
                assert_never(request)

    def _reserve(self, request: Reserve, request_sha256: str) -> Answer:
        if missing := [service for service in request.services if service not in self._config.skills]:
            return self._rejected(request_sha256, "service_missing", f"this node has no {missing[0]}")
        if not self._config.qubit_min <= request.qubits <= self._config.qubit_max:
            return self._rejected(request_sha256, "qubits", f"up to {self._config.qubit_max} qubits")
        key, now = (request.token, request.fragment_id), _now_us()
        before = self._past.find(*key)
        if before is not None and before.epoch >= request.epoch:
            return self._rejected(request_sha256, "fenced", f"epoch {before.epoch} of this fragment began here")
        run = self._runs.get(key)
        if run is not None and run.epoch < request.epoch:
            run.scope.cancel()
        granted = self._calendar.reserve(
            now, key, request.epoch, request.starts_in_us, request.duration_us, request.hold_us
        )
        self._wake()
        if isinstance(granted, Refused):
            return self._refused(request_sha256, granted)
        if request.alone:
            granted = self._calendar.commit(now, key, request.epoch, granted.fence)
            if isinstance(granted, Refused):
                return self._refused(request_sha256, granted)
        held = granted.held_until_us
        return Prepared(
            node_id=self._identity.peer_id,
            request_sha256=request_sha256,
            fence=granted.fence,
            starts_in_us=granted.start_us - now,
            expires_in_us=(granted.end_us if held is None else held) - now,
            committed=held is None,
        )

    def _commit(self, request: Commit, request_sha256: str) -> Answer:
        now = _now_us()
        found = self._calendar.commit(now, (request.token, request.fragment_id), request.epoch, request.fence)
        if isinstance(found, Refused):
            return self._refused(request_sha256, found)
        return Committed(self._identity.peer_id, request_sha256, found.end_us - now)

    async def _cancel(self, request: Cancel, request_sha256: str) -> Answer:
        key = (request.token, request.fragment_id)
        self._calendar.fence_off(key, request.epoch)
        self._calendar.release(key, request.epoch)
        self._wake()
        run = self._runs.get(key)
        if run is not None and run.epoch <= request.epoch:
            run.scope.cancel()
            await run.done.wait()
        return Canceled(self._identity.peer_id, request_sha256)

    async def _execute(
        self, request: Execute, request_sha256: str, struck: Mapping[FaultName, Fault]
    ) -> Answer | bytes:
        key = (request.token, request.fragment_id)
        if (run := self._runs.get(key)) is not None and run.epoch == request.epoch:
            await run.done.wait()
            return run.frame
        before = self._past.find(*key)
        if before is not None and before.epoch > request.epoch:
            return self._rejected(request_sha256, "fenced", f"epoch {before.epoch} of this fragment began here")
        if before is not None and before.epoch == request.epoch:
            if before.answer is not None:
                return before.answer
            return self._failed(request, request_sha256, "forgotten", "it began before this node was restarted")
        if fault := self._unfit(request):
            return self._rejected(request_sha256, "invalid", fault)
        came = _now_us()
        window = await self._begin(request)
        if isinstance(window, Refused):
            return self._refused(request_sha256, window)
        run = self._runs[key] = _Run(request.epoch)
        self._past.keep(Attempt(*key, request.epoch))
        self._nursery.start_soon(self._work, request, request_sha256, window, _now_us() - came, struck, run)
        await run.done.wait()
        return run.frame

    def _unfit(self, request: Execute) -> str | None:
        circuit = request.circuit
        if not 1 <= request.shots <= self._config.shots_max:
            return f"from 1 to {self._config.shots_max} shots"
        if not self._config.qubit_min <= circuit.qubits <= self._config.qubit_max:
            return f"from {self._config.qubit_min} to {self._config.qubit_max} qubits"
        if missing := [one for one in services_of(circuit.operations) if one not in self._config.skills]:
            return f"this node has no {missing[0]}"
        return next(circuit_faults(circuit.operations, circuit.qubits, circuit.bits), None)

    async def _begin(self, request: Execute) -> Window | Refused:
        """The window, running; waits while it can't begin yet."""
        key = (request.token, request.fragment_id)
        while True:
            found = self._calendar.begin(_now_us(), key, request.epoch, request.fence)
            if isinstance(found, Window) or found.next_free_in_us is None:
                return found
            changed = self._changed
            with trio.move_on_after(max(found.next_free_in_us, 1_000) / 1e6):
                await changed.wait()

    async def _work(
        self,
        request: Execute,
        request_sha256: str,
        window: Window,
        queued_us: int,
        struck: Mapping[FaultName, Fault],
        run: _Run,
    ) -> None:
        answer: Answer = self._failed(
            request, request_sha256, "canceled", "its asker cancelled it, or a newer one came"
        )
        try:
            with run.scope:
                answer = await self._run(request, request_sha256, window, queued_us, struck)
        finally:
            run.frame = self._signed(answer)
            key = (request.token, request.fragment_id)
            if self._runs.get(key) is run:  # else a newer epoch has begun, and its record stands
                del self._runs[key]
                self._past.keep(Attempt(*key, request.epoch, run.frame))
            self._calendar.release(key, request.epoch)
            run.done.set()
            self._wake()

    async def _run(
        self,
        request: Execute,
        request_sha256: str,
        window: Window,
        queued_us: int,
        struck: Mapping[FaultName, Fault],
    ) -> Answer:
        began = _now_us()
        reported, true = self._fidelities(struck)
        limit_s = (window.end_us - began) / 1e6
        call = FragmentCall(request.circuit, dict(true), request.shots, request.seed, request.given)
        try:
            with trio.fail_after(limit_s):
                if "slow" in struck:
                    await trio.sleep(struck["slow"].number)
                memory = await self._workshop.run(call, limit_s)
        except trio.TooSlowError:
            return self._failed(request, request_sha256, "over_time", "its window has ended")
        except RunLost as lost:
            return self._failed(request, request_sha256, lost.code, lost.detail)
        executed = Executed(
            node_id=self._identity.peer_id,
            request_sha256=request_sha256,
            token=request.token,
            fragment_id=request.fragment_id,
            epoch=request.epoch,
            shots=request.shots,
            seed=request.seed,
            rows=memory.rows,
            fidelity=_whole(request.circuit, reported),
            fidelities={service: reported[service] for service in services_of(request.circuit.operations)},
            queued_us=queued_us,
            duration_us=_now_us() - began,
            simulated=True,
            software=self._workshop.versions,
        )
        return _falsified(executed, struck)

    def _fidelities(self, struck: Mapping[FaultName, Fault]) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """(what it says, what it has)."""
        reported: dict[str, float] = {name: skill.advertised for name, skill in self._config.skills.items()}
        true: dict[str, float] = {name: skill.true for name, skill in self._config.skills.items()}
        if (worse := struck.get("overstate") or struck.get("spike")) is not None:
            true = dict.fromkeys(true, min(max(worse.number, 0.5), 1.0))
            reported = true if "spike" in struck else reported
        return reported, true

    def _signed(self, answer: Answer) -> bytes:
        return canonical(self._identity.sign(canonical(answer)))

    async def _told(self, answer: Answer | bytes, struck: Mapping[FaultName, Fault]) -> bytes:
        frame = answer if isinstance(answer, bytes) else self._signed(answer)
        if "late" in struck:
            await trio.sleep(struck["late"].number)
        if "drop" in struck:
            return b""
        if "garbage" in struck:
            return b"\x00garbage" + frame[:16]
        if "wrong_signature" in struck:
            signed = msgspec.json.decode(frame)
            return canonical(signed | {"signature": "A" * len(signed["signature"])})
        if "twice" in struck:
            self._unasked.append(frame)
        return frame

    def _refused(self, request_sha256: str, refused: Refused) -> Rejected:
        return self._rejected(request_sha256, refused.code, refused.detail, refused.next_free_in_us)

    def _rejected(self, request_sha256: str, code: str, detail: str, next_free_in_us: int | None = None) -> Rejected:
        return Rejected(self._identity.peer_id, request_sha256, code, detail, next_free_in_us)

    def _failed(self, request: Execute, request_sha256: str, code: str, detail: str) -> ExecutionFailed:
        return ExecutionFailed(
            self._identity.peer_id, request_sha256, request.token, request.fragment_id, request.epoch, code, detail
        )

    def _wake(self) -> None:
        """Whoever waits for room looks again."""
        self._changed.set()
        self._changed = trio.Event()


def _whole(circuit: Circuit, fidelities: Mapping[str, float]) -> float:
    """Over all operations: their average gate fidelities multiplied, an estimate and no more."""
    numbers = Counter(operation.name for operation in circuit.operations if is_service(operation.name))
    return math.prod(fidelities[name] ** number for name, number in numbers.items())


def _falsified(executed: Executed, struck: Mapping[FaultName, Fault]) -> Executed:
    """Signed wrong: what a node that lies would say."""
    width = len(executed.rows) // executed.shots
    if "wrong_shots" in struck:
        return replace(executed, rows=executed.rows[width:], shots=executed.shots - 1)
    if "wrong_width" in struck:
        return replace(executed, rows=executed.rows + bytes(executed.shots))
    if "stray_bits" in struck:
        return replace(executed, rows=b"\xff" * len(executed.rows))
    if "other_request" in struck:
        return replace(executed, request_sha256="0" * 64)
    if "other_epoch" in struck:
        return replace(executed, epoch=executed.epoch + 1)
    return executed


def _now_us() -> int:
    return int(trio.current_time() * 1_000_000)


@asynccontextmanager
async def open_desk(config: NodeConfig, identity: Identity, home: Path, workshop: Simulator) -> AsyncIterator[Desk]:
    """A desk that works until it is left; what runs then is cancelled and has failed."""
    async with trio.open_nursery() as nursery:
        yield Desk(config, identity, home, workshop, nursery)
        nursery.cancel_scope.cancel()
