# SPDX-License-Identifier: Apache-2.0
"""A test double of a vendor: a process of its own that outlives the workers which speak to it over a socket.

`python -m tests.faults.vendor serve FOLDER` is the vendor: it keeps tasks by token, counts how often it ran each, and
answers no submission while FOLDER/hold exists. `… work FOLDER NAME findable|forgetful` is a worker, under the
settings that `up` gives its own, that drives it: the product's own worker, given this driver by its caller, as no
setting could.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from control_plane import worker
from control_plane.settings import from_json
from hal_drivers.base import Compiled, Finished, Handle, Outcome, Status, Task, Unknown
from hal_drivers.errors import BackendUnavailable
from ledger.canonical import parse_time, timestamp
from tests.fakes import FakeDriver

BACKEND = "vendor-1"
SOCKET = "vendor.sock"
RAN = "ran.json"
LOOK_S = 0.02


class VendorDriver(FakeDriver):
    """Reaches the vendor. `findable`: the vendor can say what became of a token; else a lost task stays unknown."""

    def __init__(self, folder: Path, *, findable: bool) -> None:
        super().__init__(BACKEND, find_authoritative=findable)
        self._socket, self._findable = folder / SOCKET, findable

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        await self._ask("submit", token=task.token, shots=task.shots, width=compiled.facts.clbits)
        return {"driver": "vendor", "token": task.token}

    async def find(self, token: str) -> Handle | None:
        known = self._findable and (await self._ask("find", token=token))["known"]
        return {"driver": "vendor", "token": token} if known else None

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        return Finished() if (await self._ask("find", token=handle["token"]))["known"] else Unknown()

    async def result(self, handle: Handle) -> Outcome:
        found = await self._ask("find", token=handle["token"])
        self.tasks[str(handle["token"])] = Task(token=str(handle["token"]), shots=found["shots"], seed=7)
        self.widths[str(handle["token"])] = found["width"]
        outcome = await super().result({"driver": "fake", "token": handle["token"]})
        began = parse_time(found["at"])
        block = replace(outcome.blocks[0], start=began, end=began)
        return replace(outcome, blocks=(block,), started_at=began, ended_at=began)

    async def _ask(self, what: str, **more: Any) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
            writer.write(json.dumps({"what": what, **more}).encode() + b"\n")
            line = await reader.readline()
            writer.close()
            return json.loads(line)
        except (OSError, ValueError) as error:
            raise BackendUnavailable("the vendor does not answer") from error


async def serve(folder: Path) -> None:
    """Be the vendor until killed."""
    tasks: dict[str, dict[str, Any]] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        if asked["what"] == "submit":
            ran = tasks.setdefault(asked["token"], {"shots": asked["shots"], "width": asked["width"], "runs": 0})
            ran["runs"] += 1
            ran["at"] = timestamp(dt.datetime.now(dt.UTC))
            (folder / RAN).write_text(json.dumps({token: task["runs"] for token, task in tasks.items()}))
            while (folder / "hold").exists():  # noqa: ASYNC110 - another process takes it away
                await asyncio.sleep(LOOK_S)
        found = tasks.get(asked["token"])
        writer.write(json.dumps({"known": found is not None, **(found or {})}).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(answer, folder / SOCKET)
    await server.serve_forever()


async def work(folder: Path, name: str, *, findable: bool) -> None:
    """Be a worker until killed; FOLDER/NAME.ready appears once it works."""
    driver = VendorDriver(folder, findable=findable)

    def ready() -> None:
        (folder / f"{name}.ready").touch()

    await worker.run(
        from_json(os.environ["QCOS_SETTINGS"].encode()), name, ready, asyncio.Event(), drivers={BACKEND: driver}
    )


if __name__ == "__main__":
    _, role, where, *rest = sys.argv
    asyncio.run(serve(Path(where)) if role == "serve" else work(Path(where), rest[0], findable=rest[1] == "findable"))
