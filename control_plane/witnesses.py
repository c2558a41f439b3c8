# SPDX-License-Identifier: Apache-2.0
"""Witnesses of the plane's log: the `[[witness]]` tables, and when the plane asked which.

A trust file names every witness whose cosignatures bundles may carry, with its time of use; that window can't be read
off the log, so `up` keeps it, in `keys/witnesses.json`: public, written whole, and never shortened. A witness that
comes back gets its window opened again. Enters: settings, the home folder, a time. Asking them is `ledger.cosigning`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from control_plane.authorities import write_whole
from control_plane.errors import SettingInvalid
from control_plane.settings import Settings, WitnessFacts

_FILE = Path("keys") / "witnesses.json"


class Used(Struct, frozen=True, forbid_unknown_fields=True):
    """A witness and its time of use as the trust file writes it."""

    vkey: str
    valid_from: str
    valid_until: str | None = None


def check(tables: tuple[WitnessFacts, ...]) -> None:
    """SettingInvalid, naming the table, for a URL or a key that can't be used, and for a name that stands twice."""
    from ledger.cosignature import parse_vkey
    from ledger.errors import KeyInvalid

    names: set[str] = set()
    for number, facts in enumerate(tables):
        where = f"witness[{number}]"
        try:
            parts = urlsplit(facts.url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.username
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment:
            raise SettingInvalid(f"{where}.url", facts.url, "http[s]://HOST[:PORT][/PATH] where a witness answers")
        try:
            name = parse_vkey(facts.public).name
        except KeyInvalid as error:
            wanted = f"the key as qcos witness show prints it, NAME+ID+BASE64 ({error})"
            raise SettingInvalid(f"{where}.public", facts.public[:40], wanted) from error
        if name in names:
            raise SettingInvalid(where, name, "each witness once")
        names.add(name)


def names(settings: Settings) -> frozenset[str]:
    """Whom this plane asks now: witnesses and anchors."""
    asked = {facts.public.partition("+")[0] for facts in settings.witness}
    return frozenset(asked | {facts.name for facts in settings.anchor})


def used(home: Path) -> tuple[Used, ...]:
    """Every witness that this plane ever asked, in the order of their first use."""
    try:
        return msgspec.json.decode((home / _FILE).read_bytes(), type=tuple[Used, ...])
    except FileNotFoundError:
        return ()


def change(settings: Settings, now: datetime) -> tuple[Used, ...]:
    """Note which witnesses are asked from now on. Call before the sealer starts."""
    from ledger.canonical import timestamp

    asked = {facts.public for facts in settings.witness}
    known = {one.vkey: one for one in used(settings.home)}
    for vkey in asked - set(known):
        known[vkey] = Used(vkey, timestamp(now))
    # Cosignatures have whole seconds, and one that is under way may still come: the window ends a little later.
    ended = timestamp(now.replace(microsecond=0) + timedelta(seconds=1))
    found = tuple(
        msgspec.structs.replace(one, valid_until=None if vkey in asked else one.valid_until or ended)
        for vkey, one in known.items()
    )
    if found != used(settings.home):
        write_whole(settings.home / _FILE, msgspec.json.encode(found))
    return found
