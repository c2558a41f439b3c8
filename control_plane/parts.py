# SPDX-License-Identifier: Apache-2.0
"""Wires the parts of the plane that know nothing of it: keys made at the first start, sealer, authority of time.

Log and evidence keys are read by the sealer's process alone, the authority's key by its own (design decision 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from control_plane import anchors, authorities, crash, telemetry
from control_plane.db import Database, conninfo
from control_plane.settings import Settings

if TYPE_CHECKING:
    from ledger.predicate import Profile
    from ledger.sealer_config import Watching


def make_keys(settings: Settings) -> None:
    """Make every key that isn't there yet, each in a folder of 0700 and a file of 0600."""
    from control_plane.auth.keys import prepare
    from ledger.blob import BlobKeys
    from ledger.document_keys import create_document_keys
    from ledger.policy_key import create_policy_key
    from ledger.sealer_keys import create_sealer_keys
    from ledger.tsa import create_tsa_keys

    folder = settings.home / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC)
    create_sealer_keys(folder / "sealer", settings.keys)
    create_tsa_keys(folder / "tsa", settings.keys, now=now)
    named = f"{settings.plane} evidence documents"
    create_document_keys(folder / "sealer", folder / "document", settings.keys, name=named, now=now)
    create_policy_key(folder / "sealer", folder / "policy", settings.keys)
    BlobKeys.create(folder / "blob" / "root")
    prepare(settings.home, settings.profile)


def tsa_app(settings: Settings) -> Any:
    """The ASGI application of the own time-stamping authority."""
    from ledger import tsa

    return tsa.tsa_app(tsa.load_tsa_keys(settings.home / "keys" / "tsa", settings.keys))


async def sealer(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Run the sealer until `stop` is set."""
    from control_plane.documents import chains
    from ledger.batch import Plane
    from ledger.sealer import run
    from ledger.sealer_config import AnchorAt, Authority, SealerConfig, WitnessAt

    stamping = [Authority("self", f"unix:{settings.tsa_socket}")]
    if settings.tsa_url and settings.tsa_certificates:
        chain = authorities.read_chain(Path(settings.tsa_certificates))
        stamping.append(Authority("external", settings.tsa_url, chain))
    config = SealerConfig(
        conninfo=conninfo(Database.of_home(settings.home / "db").sealer),
        keys=settings.home / "keys" / "sealer",
        custody=settings.keys,
        head=settings.home / "head",
        origin=origin(settings),
        plane=Plane(profile=cast("Profile", settings.profile), name=settings.plane),
        authorities=tuple(stamping),
        witnesses=tuple(WitnessAt(facts.url, facts.public) for facts in settings.witness),
        witness_interval_s=settings.witness_interval_s,
        anchors=tuple(
            AnchorAt(facts.name, anchors.build(facts, settings.home), facts.every_s) for facts in settings.anchor
        ),
        certificates=(chains.current(settings).certificates[0],),
        at=crash.point,
        watching=_watching(),
        clock_tolerance_s=settings.clock_tolerance_s,
        accepted=settings.clock_accepted,
    )
    await run(config, stop, ready)


def _watching() -> Watching | None:
    if telemetry.current() is None:
        return None
    from control_plane.telemetry.seals import Seals

    return Seals()


def origin(settings: Settings) -> str:
    """The log's name in its checkpoints: one log a plane, and no plane under another profile's name."""
    return f"qcos/{settings.profile}/{settings.plane}"
