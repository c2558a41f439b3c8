# SPDX-License-Identifier: Apache-2.0
"""`qcos up`, `down`, `status`: the plane of this machine."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_DOWN_S = 90.0  # beside what jobs and requests in flight may take


def register(groups: Any) -> None:
    """Add the three commands."""
    up = groups.add_parser("up", help="start the whole plane on this machine")
    up.add_argument("--detach", action="store_true", help="return once it is ready")
    for name in ("home", "profile", "config", "policy-engine", "http-port", "workers", "api-processes"):
        up.add_argument("--" + name, metavar=name.rpartition("-")[2].upper(), help=argparse.SUPPRESS)
    up.add_argument("--nodes", metavar="N", help="with a network of so many nodes of its own; profile dev")
    up.add_argument("--accept-clock", metavar="REASON", help="seal although the clock was set back; an entry says why")
    up.add_argument("--json", action="store_true", help="one document when ready, no lines before")
    up.set_defaults(run=_up)
    for name, function, words in (
        ("down", _down, "stop the plane of this home"),
        ("status", _status, "what runs, and whether it is ready"),
    ):
        command = groups.add_parser(name, help=words)
        command.add_argument("--home", metavar="HOME", help=argparse.SUPPRESS)
        command.add_argument("--json", action="store_true", help="one document")
        command.set_defaults(run=function)


def _up(arguments: argparse.Namespace) -> int:
    from control_plane import foreground, home
    from control_plane.settings import load

    own = {"run", "command", "detach", "json", "accept_clock"}
    settings = load({key: value for key, value in vars(arguments).items() if key not in own})
    home.accept_clock(settings, arguments.accept_clock)
    if arguments.detach:
        return foreground.detached(settings, as_json=arguments.json)
    return foreground.run(settings, as_json=arguments.json)


def _down(arguments: argparse.Namespace) -> int:
    import os
    import signal
    import time

    from control_plane.errors import StartFailed
    from control_plane.home import is_alive, running_record
    from control_plane.settings import located

    settings = located({"home": arguments.home})
    record = running_record(settings.home)
    os.kill(record.pid, signal.SIGTERM)
    limit_s = _DOWN_S + settings.stop_limit_s
    until = time.monotonic() + limit_s
    while is_alive(record.pid, record.started):
        if time.monotonic() > until:
            raise StartFailed(f"the plane (pid {record.pid}) did not stop within {limit_s:g} s")
        time.sleep(0.02)
    if arguments.json:
        sys.stdout.write('{"stopped":true}\n')
    elif sys.stdout.isatty():
        sys.stdout.write("stopped\n")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    import json

    from control_plane.settings import located
    from control_plane.standing import status

    document = status(located({"home": arguments.home}))
    if arguments.json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _show(document)
    return 0 if document["ready"] else 3


def _show(document: dict[str, Any]) -> None:
    table = sys.stdout.isatty()
    rows = [("process", "pid", "state", "restarts")] if table else []
    rows += [
        (p["name"], str(p["pid"]), "ready" if p["ready"] else "not ready", str(p["restarts"]))
        for p in document["processes"]
    ]
    if table:
        engine = document["policy_engine"]
        sys.stdout.write(f"{document['url']} · profile {document['profile']} · policy {engine}\n")
    for name, pid, state, restarts in rows:
        line = f"{name:<12}{pid:>8}  {state:<10}{restarts:>9}" if table else f"{name}\t{pid}\t{state}\t{restarts}"
        sys.stdout.write(line + "\n")
