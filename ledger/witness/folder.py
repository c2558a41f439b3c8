# SPDX-License-Identifier: Apache-2.0
"""A witness's state: one folder with its key, the logs that it was told of, and the newest head of each.

    witness.json         its name, when it was made, and who keeps its key (`ledger.custody`; no secret)
    keys/                its private key (`ledger.keyring`): an encrypted or a plain file, or what names it in an HSM
    logs.json            the logs: origin, public keys, the origin before
    begun/HASH           made, durably, before the first cosignature of a log; HASH is SHA-256 of the origin
    seen/HASH.json       the newest head that was cosigned, and our line: replaced, durably, before the line leaves
    incidents/N-KIND.json  what was refused and why (`ledger.witness.incident`), one file a head

One process holds the folder (`hold`). A log that has begun and whose head is missing or unreadable is `StateLost`: a
witness that forgot what it saw would cosign a second history, so nothing is signed for it until `resume` is given a
note with our own line on it. A folder brought back from an older backup can't know what it signed since; the log's side
finds it (it holds our later lines), and `resume` mends it the same way. `make` never touches a folder that is there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from msgspec import Struct

from ledger import checkpoint, cosignature, keys
from ledger.custody import PLAIN, Custody
from ledger.errors import CheckpointInvalid, LedgerError, StateLost, UsageError, WitnessHeld
from ledger.keyring import Keyring
from ledger.trust import Trust
from ledger.witness import incident
from ledger.witness.rules import Log, Seen

KEY = "witness"
MAX_INCIDENTS = 1000  # files; more are counted and not kept, so that nobody fills a disk


class _About(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    created_at: str
    custody: Custody


class _Log(Struct, frozen=True, forbid_unknown_fields=True):
    origin: str
    keys: tuple[bytes, ...]
    after: str | None = None


class Folder:
    """One witness; reads what never changes once, and a log's head each time."""

    def __init__(self, path: Path) -> None:
        """Open an existing one; UsageError if it is none, KeyInvalid if its key can't be used."""
        self.path = path
        try:
            self.about = msgspec.json.decode(
                (path / "witness.json").read_bytes(), type=_About, dec_hook=lambda kind, value: kind(value)
            )
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(f"{path} is no witness's folder (qcos witness init makes one)") from error
        self.key = Keyring(path / "keys", self.about.custody).load(KEY, keys.ML_DSA_44)
        assert isinstance(self.key.public, MLDSA44PublicKey)  # what `load` was asked for
        self.witness = cosignature.Witness(self.about.name, self.key.public)
        self.logs: Mapping[str, Log] = self._read_logs()

    @classmethod
    def make(cls, path: Path, *, name: str, trust: Trust, at: str, custody: Custody = PLAIN) -> Folder:
        """A new folder with a new key; UsageError if anything is there already, whatever it is."""
        if not checkpoint.usable_name(name):
            raise UsageError(f"{name!r:.80} can't be a witness's name: printable ASCII without blank or plus")
        try:
            path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise UsageError(
                f"{path} is there already; a witness's state is never made over: it would sign a second history"
            ) from None
        for inner in ("begun", "seen", "incidents"):
            (path / inner).mkdir(mode=0o700)
        Keyring(path / "keys", custody).create(KEY, keys.ML_DSA_44)
        _replace(path / "logs.json", msgspec.json.encode(logs_of(trust)))
        _replace(path / "witness.json", msgspec.json.encode(_About(name, at, custody), enc_hook=str))
        keys.sync_folder(path.parent)
        return cls(path)

    def tell(self, trust: Trust) -> None:
        """Take the logs of a trust file: new ones are added, keys join those that are there; nothing is taken away."""
        known = {log.origin: log for log in msgspec.json.decode(self._logs_bytes(), type=list[_Log])}
        for log in logs_of(trust):
            before = known.get(log.origin)
            joined = tuple(dict.fromkeys((*(before.keys if before else ()), *log.keys)))
            known[log.origin] = _Log(log.origin, joined, log.after or (before.after if before else None))
        _replace(self.path / "logs.json", msgspec.json.encode(list(known.values())))
        self.logs = self._read_logs()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only one that signs from this folder; WitnessHeld if another process does."""
        with (self.path / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WitnessHeld(f"another process signs from {self.path}") from None
            yield

    def seen(self, origin: str) -> Seen | None:
        """The newest head of a log that was cosigned; None before the first, StateLost if it should be there."""
        try:
            found = msgspec.json.decode(self._seen(origin).read_bytes(), type=Seen)
            if found.head.origin != origin:
                raise CheckpointInvalid("of another log")
        except FileNotFoundError:
            if not self._begun(origin).exists():
                return None
            raise StateLost(origin, "it is gone") from None
        except (OSError, msgspec.MsgspecError, LedgerError) as error:
            raise StateLost(origin, str(error)) from error
        return found

    def keep(self, origin: str, seen: Seen) -> None:
        """Remember a head, durably: MUST have returned before its cosignature leaves the process."""
        if not self._begun(origin).exists():
            _replace(self._begun(origin), b"")
        _replace(self._seen(origin), msgspec.json.encode(seen))

    def resume(self, seen: Seen) -> None:
        """Take a head with our own line on it for the newest; UsageError if a larger one is known."""
        head = seen.head
        if (log := self.logs.get(head.origin)) is None:
            raise UsageError(f"{head.origin} is no log that this witness was told of")
        checkpoint.verify(seen.note, log.verifiers)
        cosignature.verify(cosignature.parse(seen.line), head, self.witness)
        try:
            before = self.seen(head.origin)
        except StateLost:
            before = None
        if before is not None and before.head.size > head.size:
            raise UsageError(f"{before.head.size} entries of {head.origin} were seen; this note has {head.size}")
        self.keep(head.origin, seen)

    def keep_incident(self, found: incident.Incident) -> Path | None:
        """Write an incident; None where this head's is there already, or too many are."""
        head = checkpoint.parse(found.offered.encode()).text  # a log may sign one head in many ways
        name = f"{hashlib.sha256(head).hexdigest()[:16]}-{found.kind}.json"
        path = self.path / "incidents" / name
        if path.exists() or len(self.incidents()) >= MAX_INCIDENTS:
            return None
        _replace(path, incident.write(found))
        return path

    def incidents(self) -> list[Path]:
        """The incident files that are there, oldest first."""
        return sorted((self.path / "incidents").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))

    def successor(self, origin: str) -> str | None:
        """The log that goes on from this one, once a head of it was cosigned."""
        after = [log.origin for log in self.logs.values() if log.after == origin]
        return next((name for name in after if self._begun(name).exists()), None)

    def _seen(self, origin: str) -> Path:
        return self.path / "seen" / f"{name_of(origin)}.json"

    def _begun(self, origin: str) -> Path:
        return self.path / "begun" / name_of(origin)

    def _logs_bytes(self) -> bytes:
        try:
            return (self.path / "logs.json").read_bytes()
        except OSError as error:
            raise UsageError(f"{self.path / 'logs.json'}: {error.strerror}") from error

    def _read_logs(self) -> dict[str, Log]:
        try:
            found = msgspec.json.decode(self._logs_bytes(), type=list[_Log])
        except msgspec.MsgspecError as error:
            raise UsageError(f"{self.path / 'logs.json'}: {error}") from error
        return {log.origin: Log(log.origin, checkpoint.verifiers(log.origin, log.keys), log.after) for log in found}


def name_of(origin: str) -> str:
    """The name under which a log's files lie, and its checkpoint is served: SHA-256 of the origin, in hex."""
    return hashlib.sha256(origin.encode()).hexdigest()


def logs_of(trust: Trust) -> list[_Log]:
    """The logs of a trust file, each with the one before it; an earlier origin is a log of its own."""
    log = trust.file.log
    names = (*log.earlier, log.origin)
    publics = tuple(key.public for key in log.keys)
    return [_Log(name, publics, before) for before, name in zip((None, *names), names, strict=False)]


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    keys.sync_folder(path.parent)
