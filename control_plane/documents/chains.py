# SPDX-License-Identifier: Apache-2.0
"""By which certificates the plane's documents are signed, and when it used which.

The plane's own chain is there from the first start and is self-issued. Where `document_certificates` names a file, the
customer's CA speaks for the same key from the start at which it is configured on. What was used when can't be read off
a document, so `up` keeps it here, in `keys/document/used.json`: public, written whole, never shortened. Leaves: the
chain of now, and the windows that the trust file tells.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from control_plane.authorities import write_whole
from control_plane.errors import SettingInvalid
from control_plane.settings import Settings
from ledger.document_keys import OWN, DocumentChain, read_chain
from ledger.errors import KeyInvalid

SETTING = "document_certificates"
_USED = "used.json"


class Used(Struct, frozen=True, forbid_unknown_fields=True):
    """A chain (DER, its own certificate first) and its time of use, as the trust file writes it."""

    name: str
    certificates: tuple[bytes, ...]
    valid_from: str
    valid_until: str | None = None


def folder(settings: Settings) -> Path:
    """Where what is public of the document key lies."""
    return settings.home / "keys" / "document"


def current(settings: Settings) -> DocumentChain:
    """The chain by which documents are signed now; SettingInvalid where the customer's can't be used."""
    if settings.document_certificates is None:
        return read_chain(folder(settings) / OWN)
    path = Path(settings.document_certificates)
    try:
        return read_chain(path)
    except KeyInvalid as error:
        wanted = "a PEM file: the document key's certificate, its chain to the root, and each issuer's revocation list"
        raise SettingInvalid(SETTING, str(path), f"{wanted} ({error})") from error


def self_issued(settings: Settings) -> bool:
    """Whether the plane speaks for its own key."""
    return settings.document_certificates is None


def used(settings: Settings) -> tuple[Used, ...]:
    """Every chain that was used, in order; the last is used now."""
    try:
        return msgspec.json.decode((folder(settings) / _USED).read_bytes(), type=tuple[Used, ...])
    except FileNotFoundError:
        return ()


def change(settings: Settings, now: datetime) -> tuple[Used, ...]:
    """Note which chain is used from now on; call before the sealer starts."""
    from ledger.canonical import timestamp

    known, chain = used(settings), current(settings).certificates
    if known and known[-1].certificates == chain:
        return known
    at = timestamp(now)
    if known:
        known = (*known[:-1], msgspec.structs.replace(known[-1], valid_until=at))
    name = f"documents {len(known) + 1} ({hashlib.sha256(chain[0]).hexdigest()[:12]})"
    known = (*known, Used(name, chain, at))
    write_whole(folder(settings) / _USED, msgspec.json.encode(known))
    return known
