# SPDX-License-Identifier: Apache-2.0
"""How it stands with OPA's bundle: which revision it decides by, and why it doesn't take a newer one (G2, I5).

Pure: what OPA says at `/v1/status` enters, a `Standing` leaves. An alarm doesn't mean that nothing can be decided: the
last good bundle stays in force until `policy_max_age_s` after another was pushed. OPA tells its errors in prose, so the
kinds below are known by OPA's own words, each held by a test against a real OPA; what isn't known has a code too.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from control_plane.policy.sidecar import NAME

ALARMS = {
    "policy_bundle_signature": "OPA refuses a bundle: unsigned, changed, or signed by another key.",
    "policy_bundle_rego": "OPA refuses a bundle: its rules don't compile; the first fault is named.",
    "policy_bundle_too_large": "OPA refuses a bundle: a file in it is too large.",
    "policy_bundle_roots": "OPA refuses a bundle: it has files outside the paths that it owns.",
    "policy_bundle_unreachable": "OPA can't get its bundle from the plane.",
    "policy_bundle_unreadable": "OPA refuses a bundle, for what it says.",
    "policy_bundle_missing": "OPA has no bundle yet, and no error.",
    "policy_bundle_behind": "OPA decides by another revision than the one in force, and tells of no error.",
}
"""The codes of an alarm, and what each means."""

_KNOWN = (
    ("exceeds configured size_limit_bytes", "policy_bundle_too_large"),
    ("manifest roots", "policy_bundle_roots"),
    ("request failed", "policy_bundle_unreachable"),
    (".signatures.json", "policy_bundle_signature"),
    ("signature", "policy_bundle_signature"),
    ("digest mismatch", "policy_bundle_signature"),
    ("scope mismatch", "policy_bundle_signature"),
    ("verification key", "policy_bundle_signature"),
    ("JWT", "policy_bundle_signature"),
)
_SHOWN = 300
_DROPPED = "counter_decision_logs_dropped"


class Standing(Struct, frozen=True):
    """`revision` is what OPA decides by; `alarm` one of `ALARMS`; `dropped` counts decisions that its log lost."""

    revision: str | None
    alarm: str | None
    detail: str
    dropped: int = 0


def read(status: object, in_force: str) -> Standing:
    """What OPA's status says, beside the revision in force; raises ValueError where it is no status."""
    told = msgspec.convert(status, _Status)
    bundle = told.bundles.get(NAME, _Bundle())
    revision = bundle.active_revision or None
    alarm, detail = _alarm(bundle, in_force)
    return Standing(revision, alarm, detail[:_SHOWN], _dropped(told.metrics))


def _alarm(bundle: _Bundle, in_force: str) -> tuple[str | None, str]:
    if bundle.errors:
        first = min(bundle.errors, key=lambda fault: (fault.location.file, fault.location.row))  # OPA's order varies
        place = f"{first.location.file}:{first.location.row}: " if first.location.file else ""
        more = f", and {len(bundle.errors) - 1} more" if len(bundle.errors) > 1 else ""
        return "policy_bundle_rego", f"{place}{first.message} ({first.code}){more}"
    if bundle.http_code:
        return "policy_bundle_unreachable", f"the plane answers OPA with {bundle.http_code}"
    if bundle.code:
        known = (alarm for words, alarm in _KNOWN if words in bundle.message)
        return next(known, "policy_bundle_unreadable"), bundle.message
    if not bundle.active_revision:
        return "policy_bundle_missing", "OPA waits for its first bundle"
    if bundle.active_revision != in_force:
        return "policy_bundle_behind", f"OPA decides by {bundle.active_revision}, in force is {in_force}"
    return None, f"OPA decides by {in_force}"


def _dropped(metrics: dict[str, Any]) -> int:
    """OPA counts what its log lost under some names of its own, flat or in groups."""
    found = 0
    for name, value in metrics.items():
        if isinstance(value, dict):
            found += _dropped(value)
        elif name.startswith(_DROPPED) and isinstance(value, int):
            found += value
    return found


class _Location(Struct, frozen=True):
    file: str = ""
    row: int = 0


class _Error(Struct, frozen=True):
    code: str = ""
    message: str = ""
    location: _Location = _Location()


class _Bundle(Struct, frozen=True):
    active_revision: str = ""
    code: str = ""
    message: str = ""
    http_code: str | int = ""
    errors: tuple[_Error, ...] = ()


class _Status(Struct, frozen=True):
    bundles: dict[str, _Bundle] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
