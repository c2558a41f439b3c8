# SPDX-License-Identifier: Apache-2.0
"""`qcos migrate`: the schema of a plane that doesn't run, brought to a revision. `qcos up` does the way up by itself.

Enters: settings and a revision. Leaves: the revisions before and after. The home is held meanwhile, so that no plane
starts; a plane of another home or machine on the same database is seen by its sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from control_plane import home, offline
from control_plane.errors import AlreadyRunning, Unreachable
from control_plane.provision import Migrated, migrate, provision, sessions
from control_plane.settings import Settings


def migrated(settings: Settings, revision: str) -> Migrated:
    """Bring the schema to `revision`; raises what `provision.migrate` raises, and AlreadyRunning."""
    if not (settings.home / "db" / "place").exists():
        raise Unreachable(f"{settings.home} holds no plane; QCOS_HOME names another, qcos up makes one")
    with held(settings), offline.administered(settings) as url:
        database = provision(url, settings.home / "db")
        if in_use := sessions(database):
            raise AlreadyRunning(f"{in_use} sessions of a running plane use this database; stop that plane first")
        return migrate(database, revision)


@contextmanager
def held(settings: Settings) -> Iterator[None]:
    """The home, held against any `up` for as long as the block lasts, with what a killed plane left ended."""
    hold = home.Hold(settings)
    try:
        home.end_leftovers(settings.home)
        yield
    finally:
        hold.release()
