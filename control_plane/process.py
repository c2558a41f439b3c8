# SPDX-License-Identifier: Apache-2.0
"""A child process of the plane: `python -m control_plane.process NAME`, started by `up` and by nobody else.

Enters: the settings as JSON in QCOS_SETTINGS (no secret is in them; each process reads its own password and key
files), the listening sockets by descriptor. Leaves: one running part, which ends when `up` does. Heavy imports are
inside the part that needs them, so that the sealer doesn't carry the API nor the API a simulator.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from control_plane import crash, logs
from control_plane.settings import Settings, from_json

if TYPE_CHECKING:
    from control_plane.telemetry.export import Running

_exporting: Running | None = None
GIVING_BACK_S = 5.0  # what a part may take after `stop_limit_s`, to give back what it could not finish


def ready() -> None:
    """Tell `up` that this process serves. Called once; later calls do nothing."""
    descriptor = os.environ.pop("QCOS_READY_FD", None)
    if descriptor is not None:
        os.write(int(descriptor), b"ready")
        os.close(int(descriptor))


def main() -> None:
    """Run the part named by the first argument until SIGTERM."""
    name = sys.argv[1]
    settings = from_json(os.environ.pop("QCOS_SETTINGS").encode())
    crash.watch(settings.home, settings.crash_at)
    logs.begin(name, settings.home / "log", level=settings.log_level, largest=settings.log_file_mb << 20)
    part = _PARTS[name.rpartition("-")[0] or name]
    global _exporting  # noqa: PLW0603 - one a process
    _exporting = _telemetry(settings, name)
    try:
        part(settings, name)
    finally:
        if _exporting is not None:
            _exporting.close()


def _gauges(settings: Settings, _: str) -> None:
    from control_plane.telemetry import gauges

    assert _exporting is not None  # `up` starts this process where telemetry is on
    meter = _exporting.meter
    _run_until_stopped(lambda stop: gauges.run(settings, meter, ready, stop), GIVING_BACK_S)


def _siem(settings: Settings, _: str) -> None:
    from control_plane.siem import exporter

    _run_until_stopped(lambda stop: exporter.run(settings, ready, stop), GIVING_BACK_S)


def _telemetry(settings: Settings, name: str) -> Running | None:
    if not settings.telemetry.on:
        return None
    from control_plane.telemetry.export import start

    return start(settings, name)


def _api(settings: Settings, name: str) -> None:
    import uvicorn

    from control_plane import serving
    from control_plane.app import create_app
    from control_plane.listening import BACKLOG
    from control_plane.requests import watched

    serving.CONNECTIONS.at_most = serving.descriptors()

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.leave()  # who waits for a job is answered now; uvicorn closes WebSockets with 1012
            await super().shutdown(sockets)

    app = create_app(settings, name)
    sockets = [socket.socket(fileno=int(number)) for number in os.environ["QCOS_LISTEN_FDS"].split(",")]
    config = uvicorn.Config(
        watched(app),
        loop="uvloop",
        http=serving.Http,
        ws=serving.WebSocket,
        ws_max_size=serving.SOCKET_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a few bytes would unpack to many
        backlog=BACKLOG,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(settings.stop_limit_s),
    )
    Announced(config).run(sockets=sockets)


def _worker(settings: Settings, name: str) -> None:
    from control_plane import worker

    _run_until_stopped(lambda stop: worker.run(settings, name, ready, stop), settings.stop_limit_s + GIVING_BACK_S)


def _sealer(settings: Settings, _: str) -> None:
    from control_plane.parts import sealer

    _run_until_stopped(lambda stop: sealer(settings, stop, ready), settings.stop_limit_s + GIVING_BACK_S)


def _tsa(settings: Settings, _: str) -> None:
    import uvicorn

    from control_plane.parts import tsa_app

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    settings.tsa_socket.unlink(missing_ok=True)
    config = uvicorn.Config(
        tsa_app(settings), uds=str(settings.tsa_socket), lifespan="off", log_config=None, access_log=False
    )
    Announced(config).run()


def _fabric(settings: Settings, _: str) -> None:
    from control_plane.network.process import run_fabric

    run_fabric(settings, ready)


def _node(settings: Settings, name: str) -> None:
    from control_plane.network.process import run_node

    run_node(settings, name, ready)


def _run_until_stopped(part: Callable[[asyncio.Event], Coroutine[Any, Any, None]], limit_s: float) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        task = asyncio.ensure_future(part(stop))

        def end() -> None:
            stop.set()
            # A part that watches the event ends by itself; one that hangs is cancelled.
            loop.call_later(limit_s, task.cancel)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        try:
            await task
        except asyncio.CancelledError:
            if not stop.is_set():
                raise

    import uvloop

    uvloop.run(run())


_PARTS: dict[str, Callable[[Settings, str], None]] = {
    "api": _api,
    "worker": _worker,
    "sealer": _sealer,
    "tsa": _tsa,
    "telemetry": _gauges,
    "siem": _siem,
    "fabric": _fabric,
    "node": _node,
}

if __name__ == "__main__":
    main()
