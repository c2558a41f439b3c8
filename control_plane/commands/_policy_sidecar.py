# SPDX-License-Identifier: Apache-2.0
"""`qcos policy sidecar`: what an OPA that `up` doesn't start needs to get its policies; on the plane's machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(actions: Any) -> None:
    """Add the command."""
    sidecar = actions.add_parser(
        "sidecar", help="write configuration and token of an OPA beside the plane (QCOS_OPA_URL)"
    )
    sidecar.add_argument("folder", metavar="FOLDER", type=Path, help="made anew; must not exist")
    sidecar.add_argument("--at", metavar="PATH", type=Path, help="where it will lie on the sidecar's machine (FOLDER)")
    sidecar.add_argument("--api", metavar="URL", help="the plane as the sidecar reaches it (the running plane's own)")
    sidecar.add_argument("--json", action="store_true", help="one document")
    sidecar.set_defaults(run=_sidecar)


def _sidecar(arguments: argparse.Namespace) -> None:
    from control_plane import home, tables
    from control_plane.auth.keys import SIDECAR
    from control_plane.errors import Unusable
    from control_plane.policy import beside
    from control_plane.policy.sidecar import TOKEN
    from control_plane.postgres import write_secret
    from control_plane.settings import load

    settings = load()
    record = home.read_record(settings.home)
    api = arguments.api or (record.url if record else None)
    if api is None:
        raise Unusable("--api URL is wanted: no plane runs in this home, so it has no address")
    folder: Path = arguments.folder.absolute()
    at = arguments.at or folder
    try:
        token = (settings.home / SIDECAR).read_text("ascii").strip()
        told = beside.told(
            api,
            settings.home / "keys" / "policy",
            at / TOKEN,
            at / "kept",
            log_per_s=settings.policy_log_per_s,
            service=f"{settings.telemetry.service}-opa",
        )
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError as error:
        raise Unusable(f"{folder} exists") from error
    except OSError as error:
        raise Unusable(f"{error.filename}: {error.strerror}; qcos up makes the keys") from error
    write_secret(folder / TOKEN, token)
    written = beside.lay(folder, told)
    command = f"opa run --server --addr 127.0.0.1:8181 --skip-version-check --config-file {at / written.name}"
    if arguments.json:
        tables.document({"folder": str(folder), "api": told.api, "command": command})
    else:
        tables.facts([("written", str(folder)), ("polls", told.api), ("run there", command)])
