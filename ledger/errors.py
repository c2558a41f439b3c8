# SPDX-License-Identifier: Apache-2.0
"""The ledger's errors: one root, a stable snake_case `code` each, the facts that explain them as attributes.

LedgerError                      ledger_error
├── NotCanonical                 not_canonical         bytes or values outside the canonical domain
├── LeafInvalid                  leaf_invalid          a leaf or pending entry that does not parse
├── EvidenceUnbound              evidence_unbound      a statement and its entry do not belong together
├── EvidenceInvalid              evidence_invalid      a statement, bundle or trust file not of the closed form
├── DocumentRefused              document_refused      what the sealer is asked to sign is no document of this tenant's
├── PolicyUnsigned               policy_unsigned       a policy push that the sealer doesn't sign
├── TokenInvalid                 token_invalid         a token that is malformed, unsigned or of another imprint
├── TimeUnavailable              time_unavailable      a time-stamping authority that did not answer, or refused
├── ProofInvalid                 proof_invalid         a Merkle proof that does not lead to the root
├── CheckpointInvalid            checkpoint_invalid    a signed note that is malformed or badly signed
├── CosignatureInvalid           cosignature_invalid   a witness's line that is malformed or not over this checkpoint
├── KeyInvalid                   key_invalid           a key file that is missing, readable by others, or broken
├── EnvelopeInvalid              envelope_invalid      a signed envelope that is malformed, or not signed by its key
├── BlobInvalid                  blob_invalid          a blob that does not open, or not to its commitment
├── NotInLog                     not_in_log            an index, size or tile that the log does not have
├── LedgerRollback               ledger_rollback       the database is behind, or beside, the head kept outside it
├── LogForeign                   log_foreign           the stored log has another plane's name
├── NotDurable                   not_durable           the database may lose commits that it acknowledged
├── ClockSteppedBack             clock_stepped_back    the sealer's clock lies before what it has sealed
├── StateLost                    witness_state_lost    a witness that has forgotten what it saw of a log
├── WitnessHeld                  witness_held          a witness's folder that another process signs from
├── WitnessAway                  witness_away          a witness that did not answer, or not as one
├── AnchorAway                   anchor_away           an anchor that can't be reached, or doesn't keep what it is given
├── HeadUnwritable               head_unwritable       the head outside the database can't be kept
└── UsageError                   unusable_input        input that a verifier cannot judge at all

A proof or signature that fails is the broken case and raises; verifiers return None, never True.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path


class LedgerError(Exception):
    """Root of the package; `code` is stable and may be shown to a caller, the message never holds a secret."""

    code = "ledger_error"


class NotCanonical(LedgerError):
    """Not RFC 8785 on the restricted domain (no floats, integers up to 2^53-1, ASCII keys)."""

    code = "not_canonical"


class LeafInvalid(LedgerError):
    """A leaf or pending entry with a missing, unknown or ill-formed field."""

    code = "leaf_invalid"


class EvidenceUnbound(LedgerError):
    """The entry does not commit to the statement that came with it."""

    code = "evidence_unbound"


class EvidenceInvalid(LedgerError):
    """A statement, bundle or trust file with a missing, unknown or ill-formed member."""

    code = "evidence_invalid"


class DocumentRefused(LedgerError):
    """A request to sign a document that is ill-formed, or about evidence that this tenant hasn't sealed."""

    code = "document_refused"


class PolicyUnsigned(LedgerError):
    """A policy push that is ill-formed, or that doesn't replace the policies in force."""

    code = "policy_unsigned"


class TokenInvalid(LedgerError):
    """A time-stamp token that is malformed, badly signed, of an unknown authority, or over something else."""

    code = "token_invalid"


class TimeUnavailable(LedgerError):
    """A time-stamping authority that could not be reached, or that refused; asking again later may help."""

    code = "time_unavailable"


class ProofInvalid(LedgerError):
    """A Merkle proof of the wrong length, or one that leads to another root."""

    code = "proof_invalid"

    def __init__(self, message: str, *, expected: bytes = b"", got: bytes = b"") -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got


class CheckpointInvalid(LedgerError):
    """A signed note that is malformed, of another log, or lacks a required good signature."""

    code = "checkpoint_invalid"


class CosignatureInvalid(LedgerError):
    """A witness's line that is malformed, or not its signature over this checkpoint."""

    code = "cosignature_invalid"


class KeyInvalid(LedgerError):
    """A key file that cannot be used as it stands."""

    code = "key_invalid"


class EnvelopeInvalid(LedgerError):
    """A signed envelope that is malformed, badly signed, for somebody else, or not for now."""

    code = "envelope_invalid"


class BlobInvalid(LedgerError):
    """A blob whose key is erased or wrong, whose bytes changed, or whose content is not what was committed."""

    code = "blob_invalid"


class NotInLog(LedgerError):
    """The log has no such entry, size or tile."""

    code = "not_in_log"


class LedgerRollback(LedgerError):
    """The stored log does not contain the head that was kept outside the database."""

    code = "ledger_rollback"

    def __init__(self, *, kept_size: int, stored_size: int, reason: str) -> None:
        super().__init__(f"head kept outside has {kept_size} entries, the database {stored_size}: {reason}")
        self.kept_size = kept_size
        self.stored_size = stored_size


class LogForeign(LedgerError):
    """The newest checkpoint is of a log that this plane would not have signed."""

    code = "log_foreign"

    def __init__(self, stored: str, ours: str) -> None:
        super().__init__(f"the database holds the log {stored}, this plane's is {ours}; a plane keeps profile and name")


class NotDurable(LedgerError):
    """A PostgreSQL setting that lets acknowledged commits vanish; `setting` names it."""

    code = "not_durable"

    def __init__(self, setting: str, value: str) -> None:
        super().__init__(f"PostgreSQL runs with {setting} = {value}; the ledger needs it on")
        self.setting = setting
        self.value = value


class ClockSteppedBack(LedgerError):
    """The clock of a sealer lies before the time of the newest checkpoint, by more than is tolerated."""

    code = "clock_stepped_back"

    def __init__(self, *, clock: datetime, sealed_at: datetime) -> None:
        behind_s = (sealed_at - clock).total_seconds()
        super().__init__(f"the clock lies {behind_s:.1f} s before the newest checkpoint, sealed {sealed_at:%FT%TZ}")
        self.clock = clock
        self.sealed_at = sealed_at


class HeadUnwritable(LedgerError):
    """The file outside the database that keeps the log's head can't be written: a rollback would go unseen."""

    code = "head_unwritable"

    def __init__(self, path: Path, cause: Exception) -> None:
        said = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        super().__init__(f"{path} can't be written: {said}")
        self.path = path


class StateLost(LedgerError):
    """A witness that cosigned a log and no longer knows up to where; it signs nothing for it until it is told."""

    code = "witness_state_lost"

    def __init__(self, origin: str, why: str) -> None:
        super().__init__(
            f"what was seen of {origin} is lost ({why}); qcos witness resume takes a note that we cosigned"
        )
        self.origin = origin


class WitnessHeld(LedgerError):
    """Two processes on one witness's folder could sign two histories."""

    code = "witness_held"


class WitnessAway(LedgerError):
    """A witness that could not be reached, or whose answer is none of the protocol; asking again later may help."""

    code = "witness_away"


class AnchorAway(LedgerError):
    """A place outside that can't be reached, or that would not keep what it is given; asking again later may help."""

    code = "anchor_away"


class UsageError(LedgerError):
    """The input is no candidate for verification (not a bundle, not a trust file)."""

    code = "unusable_input"
