# SPDX-License-Identifier: Apache-2.0
"""The files of a rotation: what was asked, the keys that come, the keys that go.

An operator asks by a file in the sealer's folder of keys, which only the sealer's user may write: `rotate.json`. The
sealer alone makes the new keys, in `next/`, signs them in by an entry (`ledger.rotation`), and only after that commit
puts them in place of the old ones, each by one rename: at no moment is a key missing, and which keys are right is read
out of the log. So each step may be cut off and done again. The old keys are destroyed, or kept in `ended/REQUEST/`
where that was asked. The file goes last, once the entry that tells of the old keys' end is sealed.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ledger.canonical import sha256
from ledger.custody import Custody
from ledger.errors import KeyInvalid
from ledger.keyring import Keyring
from ledger.keys import read_secret, spki, sync_folder, write_secret
from ledger.rotation import Purpose, Rotation
from ledger.sealer_keys import NAMES, SealerKeys, load_sealer_keys
from ledger.signer import Signer

log = logging.getLogger("qcos.sealer")
FILE, NEXT, ENDED = "rotate.json", "next", "ended"


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator asks for; `request` is a fresh UUID, so that nothing is done twice."""

    request: str
    purpose: Purpose
    archive: bool = False


def ask(folder: Path, request: Request) -> None:
    """Ask; FileExistsError while another rotation isn't over."""
    write_secret(folder / FILE, msgspec.json.encode(request))


def asked(folder: Path) -> Request | None:
    """What is asked for; a file that can't be read as that is taken away and said in the log."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_secret(path), type=Request)
    except (msgspec.MsgspecError, KeyInvalid) as error:
        log.error("sealer: %s asks for no rotation: %s", path, error)  # noqa: TRY400 - the file is wrong, not we
        path.unlink(missing_ok=True)
        return None


def finish(folder: Path) -> None:
    """What was asked for is done, and told."""
    (folder / FILE).unlink(missing_ok=True)
    sync_folder(folder)


def names(purpose: str) -> list[str]:
    """The keys that a rotation of this purpose replaces."""
    return [name for name, (of, _) in NAMES.items() if of == purpose]


def prepare(folder: Path, custody: Custody, purpose: str) -> dict[str, Signer]:
    """The keys that come, made unless they are there already."""
    ring = Keyring(folder / NEXT, custody)
    return {
        name: ring.load(name, NAMES[name][1]) if ring.has(name) else ring.create(name, NAMES[name][1])
        for name in names(purpose)
    }


def switch(folder: Path, custody: Custody, rotations: list[Rotation]) -> SealerKeys:
    """Put keys that the log has begun in place of those that it has ended; the keys as they are then.

    KeyInvalid where what lies here was ended and nothing here follows it.
    """
    begun = {key.public_sha256: one for one in rotations for key in one.statement.begun}
    coming = Keyring(folder / NEXT, custody)
    for name, (_, alg) in NAMES.items():
        if coming.has(name) and (one := begun.get(sha256(spki(coming.load(name, alg).public)))) is not None:
            place = folder / ENDED / one.statement.request
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in folder.glob(f"{name}.*"):
                with suppress(FileExistsError):
                    os.link(path, place / path.name)
            coming.move(name, folder)
    _destroy(folder / ENDED, custody, {one.statement.request for one in rotations})
    keys = load_sealer_keys(folder, custody)
    ended = {key.public_sha256 for one in rotations for key in one.statement.ended}
    for name in NAMES:
        if sha256(spki(getattr(keys, name).public)) in ended:
            raise KeyInvalid(f"{folder}/{name} was rotated away, and the key that follows it isn't in {NEXT}/")
    return keys


def _destroy(folder: Path, custody: Custody, requests: set[str]) -> None:
    for place in folder.glob("*") if folder.is_dir() else ():
        if place.name in requests and not (place / "kept").exists():
            ring = Keyring(place, custody)
            for name in ring.names():
                ring.destroy(name)
            place.rmdir()


def keep(folder: Path, request: str) -> None:
    """Mark what this rotation ends as kept, before anything of it is moved."""
    place = folder / ENDED / request
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    (place / "kept").touch(mode=0o600)
    sync_folder(place)


def retired(request: Request, rotation: Rotation) -> dict[str, Any]:
    """Body of the entry that tells what became of the old keys."""
    return {
        "request": request.request,
        "purpose": request.purpose,
        "keys": [{"key_id": key.key_id, "alg": key.alg} for key in rotation.statement.ended],
        "private": "archived" if request.archive else "destroyed",
    }
