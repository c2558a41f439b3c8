# SPDX-License-Identifier: Apache-2.0
"""What a worker tells the registry: each backend's capability, whether it is up and why not, its queue and calibration.

A backend that doesn't answer is reported offline with the reason, and keeps no other waiting. The queue in seconds is
what the backend says waits there, times what its last runs took here. Region, zone and sovereignty are the
administrator's settings, whatever the backend claims.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.context import Plane
from control_plane.db import FAULTS
from control_plane.registry import calibration as calibrations
from control_plane.registry import store
from hal_drivers.base import Calibration, Device, DeviceStatus, Driver
from hal_drivers.errors import DriverError
from ledger.canonical import timestamp

log = logging.getLogger("qcos.worker")
ANSWER_LIMIT_S = 8.0
CALIBRATED_S = 60.0  # how often a backend is asked for its calibration
QUEUE_S = 30.0  # how often a queue is noted that hasn't changed its state
PRUNED_S = 3600.0
RUN_S = 1.0  # what a run takes where none was seen yet
SMOOTHING = 0.2
REASON = 500
MOST_WAITING = 1_000_000  # whatever a backend says waits there


class _Told(msgspec.Struct, frozen=True):
    """One backend's answers: its row of the registry, and its calibration where it was asked for that."""

    row: dict[str, Any]
    status: DeviceStatus
    calibration: Calibration | None


class Reporter:
    """One worker's reports."""

    def __init__(self, plane: Plane, drivers: Mapping[str, Driver]) -> None:
        """Nothing is told yet."""
        self._plane = plane
        self._drivers = list({id(driver): driver for driver in drivers.values()}.values())
        self._run_s: dict[str, float] = {}
        self._calibrated: dict[str, tuple[float, dict[str, Any] | None]] = {}
        self._noted: dict[str, tuple[float, bool, str | None]] = {}
        self._pruned = time.monotonic()

    def ran(self, backend: str | None, run_s: float | None) -> None:
        """A run on this backend took so long."""
        if backend is not None and run_s is not None:
            before = self._run_s.get(backend, run_s)
            self._run_s[backend] = before + SMOOTHING * (run_s - before)

    async def has_news(self) -> bool:
        """Whether a backend has come or gone since it was told of."""
        known = [(driver, device.id) for driver in self._drivers for device in await _devices(driver)]
        found = await asyncio.gather(*(self._status(driver, name) for driver, name in known))
        told = (self._noted.get(name) for _, name in known)
        return any(one is None or one[1] != now.online for one, now in zip(told, found, strict=True))

    async def report(self) -> None:
        """Ask every backend at once, and tell what each says."""
        asked = [self._ask(driver, device) for driver in self._drivers for device in await _devices(driver)]
        failed: Exception | None = None
        for answered in asyncio.as_completed(asked):
            try:
                await self._tell(await answered)
            except FAULTS as error:  # of one backend's row, or of the database: the others are told all the same
                failed = error
        if failed is not None:
            raise failed
        if time.monotonic() - self._pruned > PRUNED_S:
            self._pruned = time.monotonic()
            async with self._plane.transaction(None) as conn:
                await store.prune(conn)

    async def _ask(self, driver: Driver, device: Device) -> _Told:
        status = await self._status(driver, device.id)
        found = await self._calibration(driver, device.id) if status.online else None
        queue_s = status.queue_depth * self._run_s.get(device.id, RUN_S)
        row: dict[str, Any] = {
            "id": device.id,
            "provider": device.provider,
            "state": "online" if status.online else "offline",
            "reason": status.reason,
            "qubits": device.qubits,
            "formats": list(device.capabilities.formats),
            "region": device.region,
            "compliance_zone": device.compliance_zone,
            "sovereign": device.sovereign,
            "capability": capability(device) | {"walls": driver.walls()},
            "queue_depth": status.queue_depth,
            "queue_s": queue_s,
            "max_shots": device.max_shots,
            "simulator": device.simulator,
        }
        known = self._calibrated.get(device.id)
        if known is not None:
            row["calibration"] = known[1]
        return _Told(row, status, found)

    async def _tell(self, told: _Told) -> None:
        row, status, found = told.row, told.status, told.calibration
        async with self._plane.transaction(None) as conn:
            await store.report_backend(conn, row)
            if found is not None and row.get("calibration") is not None:
                facts = row["calibration"]
                await store.keep_calibration(
                    conn, row["id"], name=found.id, valid_from=found.valid_from, data=found.data, facts=facts
                )
            if self._due(row["id"], status):
                await store.note_queue(
                    conn,
                    row["id"],
                    online=status.online,
                    reason=status.reason,
                    depth=status.queue_depth,
                    queue_s=row["queue_s"],
                )

    def _due(self, backend: str, status: DeviceStatus) -> bool:
        now, noted = time.monotonic(), self._noted.get(backend)
        if noted is not None and noted[1:] == (status.online, status.reason) and now - noted[0] < QUEUE_S:
            return False
        self._noted[backend] = now, status.online, status.reason
        return True

    async def _status(self, driver: Driver, backend: str) -> DeviceStatus:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                found = await driver.status(backend)
            depth = min(max(0, found.queue_depth), MOST_WAITING)
            return msgspec.structs.replace(found, queue_depth=depth, reason=_shown(found.reason))
        except TimeoutError:
            return _away(f"no answer in {ANSWER_LIMIT_S:g} s")
        except DriverError as error:
            return _away(f"{error.code}: {error.detail}")
        except Exception as error:  # a driver's own fault takes its backend away, and no other
            log.exception("backend %s: its driver failed", backend)
            return _away(f"its driver failed: {type(error).__name__}")

    async def _calibration(self, driver: Driver, backend: str) -> Calibration | None:
        """The calibration where it is time to ask for it; what it says is kept for the registry's row."""
        now, known = time.monotonic(), self._calibrated.get(backend)
        if known is not None and now - known[0] < CALIBRATED_S:
            return None
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                found = await driver.calibration(backend)
        except Exception as error:  # noqa: BLE001 - a backend without a calibration is one all the same
            log.info("backend %s gives no calibration: %s: %s", backend, type(error).__name__, error)
            self._calibrated[backend] = now, known[1] if known is not None else None
            return None
        found = msgspec.structs.replace(found, id=_shown(found.id) or "unnamed")
        facts = known[1] if known is not None else None
        digest = "sha256:" + hashlib.sha256(found.data).hexdigest()
        if facts is None or facts["hash"] != digest or facts["id"] != found.id:
            facts = _facts(found, digest)
        self._calibrated[backend] = now, facts
        return found


def _away(reason: str) -> DeviceStatus:
    return DeviceStatus(online=False, queue_depth=0, reason=_shown(reason))


def _shown(text: str | None) -> str | None:
    """What a stranger says, safe to store and to show on a terminal."""
    return text and "".join(sign if sign.isprintable() else " " for sign in text[:REASON])


async def _devices(driver: Driver) -> tuple[Device, ...]:
    try:
        return await driver.devices()
    except Exception:  # as above
        log.exception("a driver names no backends")
        return ()


def capability(device: Device) -> dict[str, Any]:
    """The capability record as the registry keeps it."""
    record: dict[str, Any] = msgspec.to_builtins(device.capabilities)
    more = {name: getattr(device, name) for name in ("qubits_by_method", "sku") if getattr(device, name, None)}
    return record | more


def _facts(found: Calibration, digest: str) -> dict[str, Any]:
    errors = calibrations.errors(found.data)
    return {
        "id": found.id,
        "hash": digest,
        "valid_from": timestamp(found.valid_from),
        "errors": msgspec.to_builtins(errors) if errors is not None else None,
        "survival": errors.survival if errors is not None else None,
    }
