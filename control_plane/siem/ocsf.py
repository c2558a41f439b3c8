# SPDX-License-Identifier: Apache-2.0
"""An administrative entry as an OCSF event: who gave what to whom, and why (G12, G13). Pure.

Enters: a sealed entry's leaf, and the index of the entry that went before it to the same receiver. Leaves: an event of
OCSF `VERSION` (class, activity, actor, what was acted on), or None for an entry that is no act of administration. The
entry itself stands below `unmapped`: its kind, its index and the one before, so that a receiver sees what it lacks, the
hash of its leaf, so that it can be proven, and its body, unless that makes the message too long.

https://schema.ocsf.io/1.5.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from ledger.canonical import dumps
from ledger.chain import Leaf

__all__ = ["KINDS", "VERSION", "administrative", "event"]

VERSION: Final = "1.5.0"
_IAM: Final = 3
"""Category Identity & Access Management."""
_ACCOUNT, _AUTHENTICATION, _ENTITY, _ACCESS, _GROUP = 3001, 3002, 3004, 3005, 3006
_CREATE, _UPDATE, _DELETE, _OTHER = 1, 3, 4, 99
_INFORMATIONAL, _MEDIUM, _HIGH = 1, 3, 4
_USER, _SYSTEM = 1, 3


class _Meant(Struct, frozen=True):
    """What a kind of entry is in OCSF; `thing` is the kind of entity."""

    class_uid: int
    activity: int
    thing: str = ""
    severity: int = _INFORMATIONAL
    status: int = 1


KINDS: Final[dict[str, _Meant]] = {
    "actor:name:erased": _Meant(_ACCOUNT, 6, severity=_MEDIUM),
    "budget:alert:fired": _Meant(_ENTITY, _UPDATE, "budget", _MEDIUM),
    "budget:alert:given_up": _Meant(_ENTITY, _UPDATE, "budget", _MEDIUM, 2),
    "budget:set": _Meant(_ENTITY, _UPDATE, "budget"),
    "costs:allocation_set": _Meant(_ENTITY, _UPDATE, "method of allocation"),
    "costs:corrected": _Meant(_ENTITY, _CREATE, "correction", _MEDIUM),
    "costs:credited": _Meant(_ENTITY, _CREATE, "credit", _MEDIUM),
    "costs:month_closed": _Meant(_ENTITY, _CREATE, "cost statement"),
    "costs:month_frozen": _Meant(_ENTITY, 11, "month of costs"),
    "costs:refunded": _Meant(_ENTITY, _CREATE, "refund", _MEDIUM),
    "costs:shared": _Meant(_ENTITY, _CREATE, "shared cost"),
    "evidence:content:erased": _Meant(_ENTITY, _DELETE, "evidence content", _MEDIUM),
    "evidence:hold:placed": _Meant(_ENTITY, _CREATE, "legal hold"),
    "evidence:hold:released": _Meant(_ENTITY, _DELETE, "legal hold", _MEDIUM),
    "identity:admin:bootstrapped": _Meant(_ACCESS, 1, severity=_HIGH),
    "identity:delegation:granted": _Meant(_ACCESS, 1),
    "identity:delegation:revoked": _Meant(_ACCESS, 2),
    "identity:group:mapped": _Meant(_GROUP, 1, severity=_MEDIUM),
    "identity:group:unmapped": _Meant(_GROUP, 2),
    "identity:key:created": _Meant(_ENTITY, _CREATE, "key"),
    "identity:key:revoked": _Meant(_ENTITY, _DELETE, "key"),
    "identity:key:rotated": _Meant(_ENTITY, _UPDATE, "key"),
    "identity:role:granted": _Meant(_ACCESS, 1, severity=_MEDIUM),
    "identity:role:revoked": _Meant(_ACCESS, 2),
    "identity:service:created": _Meant(_ACCOUNT, 1),
    "identity:service:removed": _Meant(_ACCOUNT, 6),
    "identity:session:ended": _Meant(_AUTHENTICATION, 2),
    "identity:session:opened": _Meant(_AUTHENTICATION, 1),
    "identity:signing_key:enrolled": _Meant(_ENTITY, 6, "signing key"),
    "identity:signing_key:revoked": _Meant(_ENTITY, 7, "signing key"),
    "identity:user:added": _Meant(_ACCOUNT, 1),
    "identity:user:removed": _Meant(_ACCOUNT, 5, severity=_MEDIUM),
    "identity:user:restored": _Meant(_ACCOUNT, 2),
    "identity:workload:added": _Meant(_ENTITY, _CREATE, "workload rule", _MEDIUM),
    "identity:workload:removed": _Meant(_ENTITY, _DELETE, "workload rule"),
    "job:approval:granted": _Meant(_ENTITY, 10, "policy override", _MEDIUM),
    "job:approval:rejected": _Meant(_ENTITY, 11, "policy override"),
    "job:uncertain:settled": _Meant(_ENTITY, _UPDATE, "charge", _MEDIUM),
    "ledger:key:created": _Meant(_ENTITY, _CREATE, "signing key"),
    "ledger:key:retired": _Meant(_ENTITY, 11, "signing key"),
    "ledger:key:revoked": _Meant(_ENTITY, _DELETE, "signing key", _HIGH),
    "ledger:key:rotated": _Meant(_ENTITY, _UPDATE, "signing key"),
    "network:peer:approved": _Meant(_ENTITY, 6, "network node"),
    "network:peer:revoked": _Meant(_ENTITY, 7, "network node", _MEDIUM),
    "network:peer:suspended": _Meant(_ENTITY, 12, "network node", _MEDIUM),
    "policy:push:refused": _Meant(_ENTITY, _UPDATE, "policy revision", _MEDIUM, 2),
    "policy:pushed": _Meant(_ENTITY, 10, "policy revision", _MEDIUM),
    "policy:shadow:begun": _Meant(_ENTITY, _CREATE, "shadow policy"),
    "policy:shadow:stopped": _Meant(_ENTITY, _DELETE, "shadow policy"),
    "project:changed": _Meant(_ENTITY, _UPDATE, "project"),
    "project:closed": _Meant(_ENTITY, 11, "project"),
    "project:created": _Meant(_ENTITY, _CREATE, "project"),
    "rates:accepted": _Meant(_ENTITY, _UPDATE, "rate card"),
    "rates:pushed": _Meant(_ENTITY, 10, "rate card"),
    "tenant:closed": _Meant(_ENTITY, 11, "tenant", _HIGH),
    "tenant:created": _Meant(_ENTITY, _CREATE, "tenant"),
    "tenant:exported": _Meant(_ENTITY, 2, "tenant", _MEDIUM),
    "tenant:limits_set": _Meant(_ENTITY, _UPDATE, "tenant"),
    "tenant:reader:created": _Meant(_ENTITY, _CREATE, "tenant", _MEDIUM),
    "tenant:reader:dropped": _Meant(_ENTITY, _UPDATE, "tenant"),
    "tenant:reopened": _Meant(_ENTITY, 10, "tenant", _HIGH),
}
_FAMILIES: Final = ("identity:", "project:", "tenant:")
"""Kinds of these families are acts of administration, those of tomorrow too."""


def administrative(kind: str) -> bool:
    """Whether entries of this kind are told."""
    return kind in KINDS or kind.startswith(_FAMILIES)


def event(leaf: Leaf, leaf_hash: str, previous: int | None, *, origin: str, most_bytes: int) -> dict[str, Any] | None:
    """The event, canonical JSON of at most `most_bytes`; None for what isn't administrative.

    `previous` is the index of the administrative entry before it for the same receiver, `origin` the log's name.
    """
    if not administrative(leaf.kind):
        return None
    verb = leaf.kind.rpartition(":")[2]
    meant = KINDS.get(leaf.kind) or _Meant(_ENTITY, _OTHER, leaf.kind.split(":")[-2])
    made: dict[str, Any] = {
        "activity_id": meant.activity,
        "activity_name": verb,
        "actor": {"user": _person(leaf.actor, leaf.body.get("by"), leaf.tenant)},
        "category_uid": _IAM,
        "class_uid": meant.class_uid,
        "message": f"{leaf.kind} by {leaf.body.get('by') or leaf.actor} in tenant {leaf.tenant}",
        "metadata": {
            "event_code": leaf.kind,
            "log_name": origin,
            "product": {"name": "QCOS", "vendor_name": "QCOS"},
            "sequence": leaf.index,
            "tenant_uid": leaf.tenant,
            "uid": leaf.entry_id,
            "version": VERSION,
        },
        "severity_id": meant.severity,
        "status_id": meant.status,
        "time": round(leaf.time.timestamp() * 1000),
        "type_uid": meant.class_uid * 100 + meant.activity,
        **_of_class(meant, leaf),
    }
    if isinstance(reason := leaf.body.get("reason"), str):
        made["status_detail"] = reason
    entry = {"index": leaf.index, "previous": previous, "tenant_index": leaf.tenant_index, "leaf": leaf_hash}
    whole = made | {"unmapped": {"entry": entry | {"body": leaf.body}}}
    if len(dumps(whole)) <= most_bytes:
        return whole
    shorter = made | {"unmapped": {"entry": entry | {"body_omitted": True}}}
    if len(dumps(shorter)) > most_bytes:
        shorter.pop("status_detail", None)
    return shorter


def _of_class(meant: _Meant, leaf: Leaf) -> dict[str, Any]:
    """What the event's class wants beside the rest."""
    about = _about(leaf)
    if meant.class_uid == _ENTITY:
        return {"entity": {"name": about, "type": meant.thing}}
    if meant.class_uid == _GROUP:
        group = _text(leaf.body, "group") or about
        return {"group": {"name": group, "privileges": _privileges(leaf.body)}}
    user = {"user": _person(_text(leaf.body, "pseudonym") or about, about, leaf.tenant)}
    if meant.class_uid == _ACCESS:
        return user | {"privileges": _privileges(leaf.body)}
    if meant.class_uid == _AUTHENTICATION:
        return user | {"service": {"name": "QCOS"}}
    return user


def _person(uid: str, name: object, tenant: str) -> dict[str, Any]:
    kind = _USER if uid.startswith("a-") else _SYSTEM  # the plane's own parts have words for names
    named = name if isinstance(name, str) and name else uid
    return {"domain": tenant, "name": named, "type_id": kind, "uid": uid}


_NAMES: Final = (
    "to", "who", "user", "person", "subject", "service", "holder", "key", "credential", "group", "project", "scope",
    "revision", "rate_card", "public_sha256", "hold_id", "job_id", "peer_id", "kid", "name", "tenant", "pseudonym",
    "by",
)  # fmt: skip
"""Members of bodies that name what was acted on, the most telling first."""


def _about(leaf: Leaf) -> str:
    return next((found for name in _NAMES if (found := _text(leaf.body, name))), leaf.entry_id)


def _privileges(body: Mapping[str, Any]) -> list[str]:
    """Roles or actions, each with the project where it holds in one alone."""
    where = _text(body, "project")
    given = body.get("roles") or body.get("actions") or [body.get("role") or "unknown"]
    listed = given if isinstance(given, list | tuple) else [given]
    return [f"{one}@{where}" if where else str(one) for one in listed]


def _text(body: Mapping[str, Any], name: str) -> str | None:
    found = body.get(name)
    return found if isinstance(found, str) and found else None
