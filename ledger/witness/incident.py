# SPDX-License-Identifier: Apache-2.0
"""What a witness keeps of a log that signed what it never should have: both notes, which a stranger can judge.

The file is JSON: `kind`, `origin`, `at`, `detail`, `seen` (the note that was cosigned, with the witness's line),
`offered` (the note that was refused), `proof` (the hashes that came with it, base64). Two good notes of one size with
different roots (`fork`) stand on their own: no honest log signs both, and no proof can mend it. A `rollback` stands by
the witness's own word on which came first; `unproven` says that nothing which the log gave leads from one head to the
other, and whoever has the log's tiles can see whether anything does. `ended`: signed after the log had given its place
to another. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ledger import checkpoint, cosignature, merkle
from ledger.canonical import dumps
from ledger.errors import CheckpointInvalid, CosignatureInvalid, ProofInvalid, UsageError
from ledger.witness.rules import Kind, Refused, Seen

MAX_BYTES = 128 * 1024
SAYS: dict[Kind, str] = {
    "fork": "the log signed two trees of one size",
    "rollback": "the log showed a head smaller than one that was cosigned",
    "unproven": "the log showed a head without a proof that it grew from the one that was cosigned",
    "ended": "the log signed on after another had taken its place",
}


class Incident(Struct, frozen=True, forbid_unknown_fields=True):
    """The file's members."""

    kind: Kind
    origin: str
    at: str
    detail: str
    seen: str
    offered: str
    proof: tuple[bytes, ...] = ()


def incident(refused: Refused, seen: Seen, at: str) -> Incident:
    """What is kept of a refusal of this kind."""
    assert refused.kind is not None  # the caller has looked
    return Incident(
        kind=refused.kind,
        origin=seen.head.origin,
        at=at,
        detail=refused.detail,
        seen=(seen.note + seen.line.encode() + b"\n").decode(),
        offered=refused.note.decode(),
        proof=refused.proof,
    )


def write(found: Incident) -> bytes:
    """The file's bytes."""
    return dumps(msgspec.to_builtins(found)) + b"\n"


def parse(data: bytes) -> Incident:
    """Read a file; UsageError for anything else."""
    try:
        return msgspec.json.decode(data[: MAX_BYTES + 1], type=Incident)
    except msgspec.MsgspecError as error:
        raise UsageError(f"not a file of a witness: {error}") from error


def judge(found: Incident, keys: Sequence[checkpoint.Verifier], witnesses: Sequence[cosignature.Witness]) -> str:
    """What the file proves to whoever trusts these log keys; CheckpointInvalid or CosignatureInvalid if it doesn't."""
    whole = checkpoint.parse(found.seen.encode())
    lines = [line for line in whole.lines if line.name != whole.origin]
    log = "".join(checkpoint.write_line(line) + "\n" for line in whole.lines if line.name == whole.origin)
    seen = checkpoint.verify(whole.text + b"\n" + log.encode(), keys)
    offered = checkpoint.verify(found.offered.encode(), keys)
    if seen.origin != offered.origin:
        raise CheckpointInvalid("two notes of different logs")
    if seen.size == offered.size and seen.root != offered.root:
        return f"{seen.origin} signed two trees of {seen.size} entries"
    by = _cosigned(seen, [cosignature.parse(checkpoint.write_line(line)) for line in lines], witnesses)
    if offered.size < seen.size:
        return f"{by}: {seen.origin} showed {offered.size} entries after {seen.size}"
    try:
        merkle.verify_consistency(
            old=seen.size, new=offered.size, old_root=seen.root, new_root=offered.root, path=found.proof
        )
    except ProofInvalid as error:
        return f"{by}: {seen.origin} gave no proof that {offered.size} entries begin with its {seen.size} ({error})"
    raise CheckpointInvalid("the two notes agree: nothing is wrong with this log")


def _cosigned(
    head: checkpoint.Checkpoint, lines: Sequence[cosignature.Cosignature], witnesses: Sequence[cosignature.Witness]
) -> str:
    for line in lines:
        for witness in witnesses:
            if (line.name, line.key_hash) == (witness.name, witness.key_hash):
                cosignature.verify(line, head, witness)
                return f"{witness.name} saw at {line.at:%Y-%m-%dT%H:%M:%SZ}"
    raise CosignatureInvalid("which came first is a witness's word, and none of a known one is here")
