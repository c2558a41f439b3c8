# SPDX-License-Identifier: Apache-2.0
"""`ledger verify` and `ledger replay` wired: they read the database as `audit`, on the plane's machine, and no API."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.db import Database, engine, snapshot
from control_plane.errors import Unreachable
from control_plane.jobs import refold
from control_plane.settings import Settings, located
from ledger.audit import verify_log
from ledger.head import read_head


async def verify() -> dict[str, Any]:
    """{ok, size, root, checked, failures [{index, reason}]} of the whole log."""
    settings = located()
    audit = engine(_database(settings).audit, connections=2, name="qcos-audit")
    try:
        async with snapshot(audit) as conn:
            report = await verify_log(conn, head=read_head(settings.home / "head"))
    finally:
        await audit.dispose()
    document: dict[str, Any] = msgspec.to_builtins(report)
    return document


async def replay(*, compare: bool) -> dict[str, Any]:
    """{agrees, differences, entries, jobs, hash} of the fold."""
    audit = engine(_database(located()).audit, connections=2, name="qcos-audit")
    try:
        report = await refold.replay(audit, compare=compare)
    finally:
        await audit.dispose()
    document: dict[str, Any] = msgspec.to_builtins(report)
    return document


def _database(settings: Settings) -> Database:
    try:
        return Database.of_home(settings.home / "db")
    except FileNotFoundError:
        raise Unreachable(f"{settings.home} holds no plane; QCOS_HOME names another, qcos up makes one") from None
