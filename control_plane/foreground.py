# SPDX-License-Identifier: Apache-2.0
"""`qcos up` as a process: holds the home, runs the plane until told to stop, and with `--detach` lets go of the shell.

Exit codes are the command line's. The first SIGINT, SIGTERM or SIGHUP lets everything in flight finish within its
limits; a second one ends all processes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback
from typing import Any

from control_plane import home, logs
from control_plane.settings import Settings


def run(settings: Settings, *, as_json: bool) -> int:
    """Run the plane in the foreground; returns after a stop that was asked for, raises what kept it from starting."""
    hold = home.Hold(settings)
    try:
        home.end_leftovers(settings.home)
        return asyncio.run(_run(settings, as_json=as_json, announced=lambda: None))
    finally:
        hold.release()


def detached(settings: Settings, *, as_json: bool) -> int:
    """Run the plane in a process of its own; returns once it is ready, or with the code with which it failed."""
    out_read, out_write = os.pipe()
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out_read)
        os.close(ready_read)
        _lead_own_session(out_write)
        code = _guarded(settings, as_json=as_json, ready=ready_write)
        os._exit(code)
    os.close(out_write)
    os.close(ready_write)
    _relay(out_read)
    if os.read(ready_read, 1):
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _lead_own_session(out: int) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    # Lines go to the shell by the pipe until the plane is ready. Errors too: the parent tells them apart by nothing.
    os.dup2(out, 1)
    os.close(null)
    os.close(out)


def _guarded(settings: Settings, *, as_json: bool, ready: int) -> int:
    from control_plane.cli import complain

    def announced() -> None:
        with contextlib.suppress(OSError):  # whoever waited has left; the plane goes on
            os.write(ready, b"1")
        log = os.open(settings.home / "log" / "up.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)
        os.close(ready)
        logs.begin("up", settings.home / "log", level=settings.log_level, largest=settings.log_file_mb << 20)

    try:
        hold = home.Hold(settings)
        try:
            home.end_leftovers(settings.home)
            code = asyncio.run(_run(settings, as_json=as_json, announced=announced))
        finally:
            hold.release()
    except Exception as error:  # noqa: BLE001 - this process has no caller: what it raises becomes its exit code
        if os.environ.get("QCOS_TRACEBACK"):
            traceback.print_exception(error)
        code = complain(error, as_json=as_json)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _relay(descriptor: int) -> None:
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        heard = True
        while data := pipe.read(4096):
            if not heard:
                continue
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except BrokenPipeError:  # the reader has left (head); what the plane says is still drained
                heard = False
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _run(settings: Settings, *, as_json: bool, announced: Any) -> int:
    from control_plane.standing import status
    from control_plane.telling import Teller
    from control_plane.up import Plane

    teller = Teller(quiet=as_json)
    plane = Plane(settings, teller)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            plane.end_now()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, asked)
    teller.heading(settings)
    starting = asyncio.ensure_future(plane.start())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return 1
        await starting
        if as_json:
            sys.stdout.write(json.dumps(await asyncio.to_thread(status, plane.settings)) + "\n")
            sys.stdout.flush()
        else:
            teller.ready(plane.record(), dev=settings.profile == "dev")
        announced()
        await stopping
    finally:
        stopping.cancel()
        await plane.stop()
    return 0
