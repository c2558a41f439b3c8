# SPDX-License-Identifier: Apache-2.0
"""What makes an advert believable, and what makes it none (N1). Pure.

Enters: bytes from the network. Leaves: an :class:`Advert` that its node signed, or a reason out of :data:`REASONS`,
each of which is counted. Cheap questions come first; the signature, the dearest, last but before anything is kept.
Nothing of an advert is trusted beyond what its node may say of itself: organisation, region, zone and price are no
fields of it, and the addresses in it decide nothing.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, get_args

import msgspec

from hal_drivers.p2p import identity
from hal_drivers.p2p.errors import IdentityInvalid
from hal_drivers.p2p.wire import ADVERT_VERSION, MAX_ADVERT, Advert, Signed

Reason: TypeAlias = Literal[
    "too_large",
    "not_an_advert",
    "version",
    "not_enrolled",
    "not_its_own",
    "range",
    "addresses",
    "time",
    "ttl",
    "replayed",
    "too_many",
    "signature",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

MAX_QUBITS = 1024
MAX_SHOTS = (1 << 53) - 1
MAX_TTL_S = 86_400
MAX_SERIAL = (1 << 62) - 1
_ADDRESSES, _ADDRESS_LENGTH = 16, 256
_ADDRESS = re.compile(r"(/[A-Za-z0-9._:%\[\]-]+)+")
_UTC = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,9})?Z")
_signed = msgspec.json.Decoder(Signed)
_advert = msgspec.json.Decoder(Advert)


class Rejected(Exception):
    """Not an advert that counts."""

    def __init__(self, reason: Reason, detail: str, node_id: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.node_id = node_id


def read(data: bytes) -> tuple[Signed, Advert]:
    """The advert in these bytes, its fields judged; whose it is stands in it, but isn't proven yet."""
    if len(data) > MAX_ADVERT:
        raise Rejected("too_large", f"{len(data)} bytes, {MAX_ADVERT} at most")
    try:
        signed = _signed.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Rejected("not_an_advert", str(error)) from None
    try:
        advert = _advert.decode(signed.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Rejected("not_an_advert", str(error), signed.node_id[:64]) from None
    _judge(signed, advert)
    return signed, advert


def prove(signed: Signed) -> None:
    """Return if the advert is the word of the node it names."""
    try:
        identity.verify(signed)
    except IdentityInvalid as error:
        raise Rejected("signature", error.detail, signed.node_id[:64]) from None


def parts_per_million(share: float) -> int:
    """A share as the planner counts it, rounded down: nobody gets better by rounding."""
    return int(share * 1_000_000 + 1e-6)


def _judge(signed: Signed, advert: Advert) -> None:
    node = signed.node_id[:64]
    if advert.version != ADVERT_VERSION:
        raise Rejected("version", f"version {advert.version}, not {ADVERT_VERSION}", node)
    if advert.node_id != signed.node_id:
        raise Rejected("not_its_own", f"names {advert.node_id[:64]!r}", node)
    for name, share in (("fidelity", advert.fidelity), ("availability", advert.availability)):
        if not 0.0 <= share <= 1.0:
            raise Rejected("range", f"{name} {share} is not between 0 and 1", node)
    if not 1 <= advert.qubit_min <= advert.qubit_max <= MAX_QUBITS:
        raise Rejected("range", f"{advert.qubit_min} to {advert.qubit_max} qubits", node)
    if advert.shots_max is not None and not 1 <= advert.shots_max <= MAX_SHOTS:
        raise Rejected("range", f"at most {advert.shots_max} shots", node)
    if not 0 < advert.serial <= MAX_SERIAL:
        raise Rejected("range", f"serial {advert.serial}", node)
    if not 1 <= advert.ttl_s <= MAX_TTL_S:
        raise Rejected("ttl", f"{advert.ttl_s} s; between 1 and {MAX_TTL_S}", node)
    if not _UTC.fullmatch(advert.updated_at):
        raise Rejected("time", f"{advert.updated_at[:40]!r} is no time in UTC", node)
    known = all(len(address) <= _ADDRESS_LENGTH and _ADDRESS.fullmatch(address) for address in advert.listen_addrs)
    if len(advert.listen_addrs) > _ADDRESSES or not known:
        raise Rejected("addresses", f"{len(advert.listen_addrs)} addresses, or one that is none", node)
