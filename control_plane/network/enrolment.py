# SPDX-License-Identifier: Apache-2.0
"""Who may join the network, and by whose word: the record of a peer and the acts that change it (N14). Pure.

A record is what an administrator says of a peer: organisation, region, zone, sovereignty, price. No advert changes any
of it. Each act is one entry that carries the whole record as it is then, so that the fold is the newest one (I6).
Revoked is final: the key may be in other hands, and its owner comes back with another.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from control_plane.errors import QcosError, Refused

State: TypeAlias = Literal["pending", "approved", "suspended", "revoked"]
Action: TypeAlias = Literal["approve", "suspend", "revoke"]

PEER_ID = r"^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\Z"
"""The id of an Ed25519 key, which carries the public key itself: what a node signs is checked against it alone."""
PEERS_AT_MOST = 10_000
_PRINTED = r"^[!-~]([ -~]{0,126}[!-~])?\Z"

PeerId = Annotated[str, Meta(pattern=PEER_ID)]
Printed = Annotated[str, Meta(pattern=_PRINTED)]
Price = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?\Z")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\Z")]


class Proposal(Struct, frozen=True, forbid_unknown_fields=True):
    """A peer that somebody asks to have enrolled; prices are decimal strings."""

    peer_id: PeerId
    organisation: Printed
    region: Printed
    compliance_zone: Printed
    sovereign: bool
    price_per_fragment: Price
    price_per_shot: Price
    currency: Currency


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """What an administrator does with an enrolment."""

    action: Action
    reason: Reason | None = None


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """An enrolment as it stands; ``revision`` counts its acts. The body of each entry is this and ``reason``."""

    peer_id: str
    state: State
    revision: int
    organisation: str
    region: str
    compliance_zone: str
    sovereign: bool
    price_per_fragment: str
    price_per_shot: str
    currency: str
    reason: str | None = None


MOVES: Mapping[Action, tuple[frozenset[State], State, str]] = {
    "approve": (frozenset({"pending", "suspended"}), "approved", "network:peer:approved"),
    "suspend": (frozenset({"approved"}), "suspended", "network:peer:suspended"),
    "revoke": (frozenset({"pending", "approved", "suspended"}), "revoked", "network:peer:revoked"),
}
PROPOSED = "network:peer:proposed"
KINDS = frozenset({PROPOSED, *(kind for _, _, kind in MOVES.values())})


def propose(proposal: Proposal) -> Record:
    """The first record of a peer."""
    facts = msgspec.structs.asdict(proposal)
    prices = {name: plain(facts[name]) for name in ("price_per_fragment", "price_per_shot")}
    return Record(state="pending", revision=1, **facts | prices)


def same(record: Record, proposal: Proposal) -> bool:
    """Whether this was proposed before, word for word."""
    return msgspec.structs.replace(propose(proposal), state=record.state, revision=record.revision) == (
        msgspec.structs.replace(record, reason=None)
    )


def act(record: Record, action: Action, reason: str | None = None) -> tuple[Record, str]:
    """The record after it, and the kind of entry; Refused `transition_refused` where its state doesn't allow it."""
    from_states, to, kind = MOVES[action]
    if record.state not in from_states:
        allowed = ", ".join(sorted(from_states))
        raise Refused("transition_refused", f"peer {record.peer_id} is {record.state}; {action} needs {allowed}")
    return msgspec.structs.replace(record, state=to, revision=record.revision + 1, reason=reason), kind


def plain(amount: str | Decimal) -> str:
    """One spelling an amount: no exponent, no zeros at the end."""
    number = Decimal(amount)
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def fold(peers: dict[str, Record], kind: str, body: Mapping[str, Any]) -> None:
    """Apply one entry; other kinds change nothing. Raises QcosError where it does not follow."""
    if kind not in KINDS:
        return
    told = msgspec.convert(body, Record)
    before = peers.get(told.peer_id)
    if kind == PROPOSED:
        if before is not None or told.state != "pending" or told.revision != 1:
            raise QcosError(f"peer {told.peer_id} is proposed, and known")
    else:
        action = next(name for name, (_, _, named) in MOVES.items() if named == kind)
        if before is None or act(before, action, told.reason)[0] != told:
            raise QcosError(f"peer {told.peer_id}: {kind} does not follow from what was told of it")
    peers[told.peer_id] = told
