# SPDX-License-Identifier: Apache-2.0
"""A job that a plane has run as a pattern for others: the same entries, contents and rows, other ids and times.

Enters what the plane stored of one ended job; leaves, for each copy, what a plane would have stored of another: its ids
are fresh, its times are now, each content that names them is written anew, and every hash of it wherever it stands, so
that its evidence verifies and its entries fold. A copy was decided and run by nobody: its decision and counts are the
pattern's. All of it is text replaced by text of the same length, so that canonical JSON stays canonical. Pure but for
fresh ids and keys; the database is `bench.fill`'s.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import secrets
import uuid
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ledger.blob import SealedBlob, seal

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")


class Stored(Struct, frozen=True, kw_only=True):
    """What a plane holds of one ended job."""

    tenant: str
    job_id: str
    ids: tuple[str, ...]  # every UUID, and other token, that is this job's alone
    entries: tuple[bytes, ...]  # pending records, canonical, in log order
    contents: Mapping[str, bytes]  # commitment → what was committed to
    rows: tuple[tuple[str, str], ...]  # table, row as JSON
    bundle: tuple[str, str, str, str]  # entry id, bundle id, level, commitment of the statement


class Copy(Struct, frozen=True):
    """What another such job leaves behind."""

    entries: list[bytes]
    evidence: tuple[int, str, str, bytes, bytes]  # place in `entries`, bundle id, level, statement, salt
    blobs: list[SealedBlob]
    rows: list[str]


MS = 3  # digits of a second that the plane's own times have
ADDED = {"full": 3, "standard": 2, "sealed": 0}  # leaves of the sealer's own: each signature's, and what names them


class Pattern:
    """A stored job, cut at everything that is its own."""

    def __init__(self, stored: Stored, tenant_key: bytes) -> None:
        """Raises ValueError where a hash names a content that can't be written before it."""
        self.tables = tuple(table for table, _ in stored.rows)
        self.entries = len(stored.entries)
        self.signed = stored.bundle[2] != "sealed"
        self.leaves = self.entries + ADDED[stored.bundle[2]]
        self._stored, self._key = stored, tenant_key
        contents = _in_order(stored.contents)
        self._names = [name for name, _ in contents]
        self._hashes = [hashlib.sha256(data).hexdigest() for _, data in contents]
        whole = b"\n".join([*stored.entries, *stored.contents.values()]).decode("latin-1") + str(stored.rows)
        self._begun = min(map(_time, STAMP.findall(_times_of(stored))))
        self._stamps = _own_stamps(whole, stored, self._begun)
        own = [stored.job_id, *stored.ids, *self._stamps, *self._hashes, *(_hex(name) for name in self._names)]
        self._place = {text: at for at, text in enumerate(dict.fromkeys(own))}
        cut = re.compile("|".join(map(re.escape, sorted(self._place, key=len, reverse=True))))
        self._contents = [self._cut(cut, data.decode("latin-1")) for _, data in contents]
        self._entries = [self._cut(cut, data.decode("latin-1")) for data in stored.entries]
        self._rows = [self._cut(cut, row) for _, row in stored.rows]

    def copy(self, now: dt.datetime) -> Copy:
        """One more such job, submitted at `now`."""
        stored, new = self._stored, [""] * len(self._place)
        shift = now - self._begun
        for text, at in self._stamps.items():
            new[self._place[text]] = _like(text, at + shift)
        for text in stored.ids:
            new[self._place[text]] = str(uuid.uuid4()) if len(text) == 36 else text[:-32] + secrets.token_hex(16)
        new[self._place[stored.job_id]] = stored.job_id[:-12] + secrets.token_hex(6)
        blobs, salts, written = [], {}, {}
        for name, digest, parts in zip(self._names, self._hashes, self._contents, strict=True):
            data = _joined(parts, new).encode("latin-1")
            salt = os.urandom(32)
            blob = seal(
                data,
                tenant=stored.tenant,
                tenant_key=self._key,
                salt=salt,
                key=os.urandom(32),
                nonce=os.urandom(12),
            )
            new[self._place[digest]] = hashlib.sha256(data).hexdigest()
            new[self._place[_hex(name)]] = _hex(blob.commitment)
            blobs.append(blob)
            salts[name], written[name] = salt, data
        entry_id, bundle_id, level, statement = stored.bundle
        place = next(at for at, data in enumerate(stored.entries) if f'"entry_id":"{entry_id}"'.encode() in data)
        proof = (place, new[self._place[bundle_id]], level, written[statement], salts[statement])
        entries = [_joined(parts, new).encode("latin-1") for parts in self._entries]
        return Copy(entries, proof, blobs, [_joined(parts, new) for parts in self._rows])

    def _cut(self, cut: re.Pattern[str], text: str) -> tuple[list[str], list[int]]:
        """The text between what is the job's own, and which of its own stands there."""
        return cut.split(text), [self._place[found] for found in cut.findall(text)]


def _joined(parts: tuple[list[str], list[int]], new: Sequence[str]) -> str:
    between, places = parts
    woven = [""] * (2 * len(places) + 1)
    woven[::2] = between
    woven[1::2] = [new[place] for place in places]
    return "".join(woven)


def _in_order(contents: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """Each content after those whose hash or commitment it names."""
    left = dict(contents)
    hashes = {name: (hashlib.sha256(data).hexdigest().encode(), _hex(name).encode()) for name, data in left.items()}
    found: list[tuple[str, bytes]] = []
    while left:
        free = [
            name
            for name, data in left.items()
            if not any(one in data for other in left.keys() - {name} for one in hashes[other])
        ]
        if not free:
            raise ValueError("contents that name each other")
        found += [(name, left.pop(name)) for name in free]
    return found


def _times_of(stored: Stored) -> str:
    return b"\n".join(stored.entries).decode("latin-1")


def _own_stamps(whole: str, stored: Stored, begun: dt.datetime) -> dict[str, dt.datetime]:
    """Every time that lies within the job's life; others, such as a calibration's, aren't its own."""
    ended = max(map(_time, STAMP.findall(_times_of(stored))))
    margin = dt.timedelta(seconds=2)
    found = {text: _time(text) for text in dict.fromkeys(STAMP.findall(whole))}
    return {text: at for text, at in found.items() if begun - margin <= at <= ended + margin}


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def _like(text: str, at: dt.datetime) -> str:
    """`at` spelled as `text` is; PostgreSQL leaves a fraction's last zeros out, in rows alone."""
    digits = len(text.partition(".")[2].rstrip("Z").removesuffix("+00:00"))
    if not text.endswith("Z"):
        digits = max(digits, MS)
    fraction = f".{at.microsecond:06d}"[: digits + 1] if digits else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}{'Z' if text.endswith('Z') else '+00:00'}"


def _hex(commitment: str) -> str:
    return commitment.partition(":")[2]
