# SPDX-License-Identifier: Apache-2.0
"""A backend's session that the jobs of one workflow share (S9): opened by the first, closed when none has used it.

A job that asks for one is handed over in it; where the device has ended it meanwhile, in one opened anew, once. Which
session it is lies in the database, because the next job may be another worker's. A worker that dies between opening and
keeping leaves one that the device ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.context import Plane
from control_plane.jobs.spec import JobSpec
from hal_drivers.base import Compiled, Driver, Handle, Task
from hal_drivers.errors import DriverError, SessionEnded

IDLE_S = 600.0
_USE_SESSION = text("""
    UPDATE jobs.session SET used_at = clock_timestamp()
    WHERE workflow = :workflow AND name = :name AND backend = :backend RETURNING session""")
_KEEP_SESSION = text("""
    INSERT INTO jobs.session AS s (tenant, workflow, name, backend, session)
    VALUES (:tenant, :workflow, :name, :backend, :session)
    ON CONFLICT (tenant, workflow, name, backend) DO UPDATE SET used_at = clock_timestamp() RETURNING s.session""")
_FORGET_SESSION = text("""
    DELETE FROM jobs.session
    WHERE workflow = :workflow AND name = :name AND backend = :backend AND session = :session""")
_IDLE_SESSIONS = text("SELECT * FROM jobs.idle_sessions(CAST(:backends AS text[]), :idle)")


class Seat:
    """One job's place in its workflow's session; the job's row MUST name its backend before anything is submitted."""

    def __init__(self, plane: Plane, driver: Driver, job: Mapping[str, Any], spec: JobSpec) -> None:
        """Nothing is opened yet."""
        self._plane, self._driver, self._job, self._workflow = plane, driver, job, spec.workflow

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        """As the driver's own, in the session."""
        session = await self._known() or await self._opened()
        try:
            return await self._driver.submit(compiled, msgspec.structs.replace(task, session=session))
        except SessionEnded:
            async with self._plane.transaction(self._job["tenant"]) as conn:
                await forget_session(conn, *self._place, session)
            again = await self._known() or await self._opened()
            return await self._driver.submit(compiled, msgspec.structs.replace(task, session=again))

    @property
    def _place(self) -> tuple[str, str, str]:
        workflow = self._workflow
        if workflow is None:  # no spec is accepted so
            raise SessionEnded("a session is a workflow's")
        return workflow.id, workflow.session or "", self._job["backend"]

    async def _known(self) -> str | None:
        async with self._plane.transaction(self._job["tenant"]) as conn:
            return await use_session(conn, *self._place)

    async def _opened(self) -> str:
        opened = await self._driver.open_session(self._job["backend"])
        async with self._plane.transaction(self._job["tenant"]) as conn:
            kept = await keep_session(conn, self._job["tenant"], *self._place, opened)
        if kept != opened:  # another job of the workflow was first
            await self._driver.close_session(opened)
        return kept


async def close_idle(plane: Plane, drivers: Mapping[str, Driver], idle_s: float = IDLE_S) -> int:
    """Close what no job has used for long, of the backends that this worker drives; how many."""
    async with plane.transaction(None) as conn:
        found = await idle_sessions(conn, sorted(drivers), idle_s)
    for backend, session in found:
        try:
            await drivers[backend].close_session(session)
        except DriverError:
            continue  # it ends by itself
    return len(found)


async def use_session(conn: AsyncConnection, workflow: str, name: str, backend_id: str) -> str | None:
    """The session that the workflow has open at the backend, which is in use from now on; None where it has none."""
    place = {"workflow": workflow, "name": name, "backend": backend_id}
    found: str | None = (await conn.execute(_USE_SESSION, place)).scalar_one_or_none()
    return found


async def keep_session(
    conn: AsyncConnection, tenant: str, workflow: str, name: str, backend_id: str, session: str
) -> str:
    """Keep a session that was opened; the one that is kept, which may be another that was first."""
    row = {"tenant": tenant, "workflow": workflow, "name": name, "backend": backend_id, "session": session}
    return str((await conn.execute(_KEEP_SESSION, row)).scalar_one())


async def forget_session(conn: AsyncConnection, workflow: str, name: str, backend_id: str, session: str) -> None:
    """The device has ended it."""
    await conn.execute(_FORGET_SESSION, {"workflow": workflow, "name": name, "backend": backend_id, "session": session})


async def idle_sessions(conn: AsyncConnection, backends_: Sequence[str], idle_s: float) -> list[tuple[str, str]]:
    """(backend, session) of each that nobody has used for so long, of every tenant; they are forgotten here."""
    rows = await conn.execute(_IDLE_SESSIONS, {"backends": list(backends_), "idle": idle_s})
    return [(row.backend, row.session) for row in rows]
