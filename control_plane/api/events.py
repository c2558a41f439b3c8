# SPDX-License-Identifier: Apache-2.0
"""The live view of a job: each of its moves over a WebSocket that tells, and hears nothing (N9)."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath

from control_plane.api.jobs import find
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import view
from control_plane.jobs.admit import shown_state
from control_plane.jobs.live import Leaving, Live, Watch
from ledger.canonical import timestamp


@websocket("/jobs/{job_id:str}/events", opt={"action": "job:read"})
async def events(
    socket: WebSocket[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
) -> None:
    """Each move of the job as {seq, state, at}, from the first on; closes after the last."""
    try:
        row = await find(plane, socket.user, job_id, "job:read")
    except Refused as refused:
        socket.state.refused = refused
        raise
    await socket.accept()
    told = 0
    heard = asyncio.ensure_future(socket.receive())
    try:
        async with live.watch(socket.user.tenant, job_id, each_move=True) as watch:
            while True:
                for event in row["history"][told:]:
                    await socket.send_json(event)
                told = len(row["history"])
                state = shown_state(row)
                if state in view.ENDED:
                    if row["outcome_entry"] is not None:
                        at = timestamp(plane.now())
                        await socket.send_json({"seq": row["seq"] + 1, "state": state, "at": at})
                    await socket.close()
                    return
                if not await _news(watch, heard):
                    break
                row = await find(plane, socket.user, job_id, "job:read")
        await socket.close(code=1003, reason="this socket tells and hears nothing")
    except (WebSocketDisconnect, Leaving):  # leaving, the server has closed the socket with 1012
        return
    finally:
        heard.cancel()


async def _news(watch: Watch, heard: asyncio.Future[Any]) -> bool:
    """Wait for news of the job; False where the peer said something before: that it leaves, or what nobody asked."""
    changed = asyncio.ensure_future(watch.changed())
    try:
        await asyncio.wait({changed, heard}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            await changed
    finally:
        changed.cancel()
    if heard.done() and heard.result()["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(detail="the peer has left")
    return not heard.done()


HANDLERS = (events,)
