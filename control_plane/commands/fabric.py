# SPDX-License-Identifier: Apache-2.0
"""`qcos fabric`: the plane's presence on the network, alone; `qcos up` runs it as its process `fabric`."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def register(groups: Any) -> None:
    """Add the command."""
    fabric = groups.add_parser("fabric", help="the plane's libp2p host; up runs it where [network] is enabled")
    fabric.add_argument("--home", metavar="HOME", help=argparse.SUPPRESS)
    fabric.add_argument("--config", metavar="CONFIG", help=argparse.SUPPRESS)
    fabric.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from control_plane import home, logs
    from control_plane.errors import Refused
    from control_plane.network.process import run_fabric
    from control_plane.settings import located

    settings = located({"home": arguments.home, "config": arguments.config})
    if not settings.network.enabled:
        raise Refused("network_off", "the network of services is switched off: [network] enabled is false")
    home.make_folder(settings.home)
    home.make_runtime(settings.runtime)
    home.make_folder(settings.home / "log")
    logs.begin("fabric", settings.home / "log", level=settings.log_level, largest=settings.log_file_mb << 20)

    def ready() -> None:
        sys.stdout.write(f"serving at {settings.fabric_socket}\n")
        sys.stdout.flush()

    run_fabric(settings, ready)
