# SPDX-License-Identifier: Apache-2.0
"""Whose people a plane knows: the issuers of its settings, and the tenants that each speaks for. Pure."""

from __future__ import annotations

from control_plane.auth.issuer import IDENTITY
from control_plane.errors import Refused
from control_plane.settings import Settings

__all__ = ["check", "tenants_of"]


def tenants_of(settings: Settings) -> dict[str, frozenset[str] | None]:
    """Issuer, as principals name it → the tenants whose people it recognises; None = of every tenant (dev only)."""
    found: dict[str, set[str]] = {}
    pairs = [(one.issuer, one.tenant) for one in settings.oidc] + [(one.issuer, one.tenant) for one in settings.saml]
    pairs += [(one.issuer, one.tenant) for one in settings.ldap]
    for issuer, tenant in pairs:
        found.setdefault(issuer, set()).add(tenant)
    known: dict[str, frozenset[str] | None] = {issuer: frozenset(tenants) for issuer, tenants in found.items()}
    return known | ({IDENTITY: None} if settings.local_issuer else {})


def check(settings: Settings, issuer: str, tenant: str, *, code: str = "request_invalid") -> None:
    """Refused where no person of this tenant can ever come from this issuer: a role for them would hold for nobody."""
    known = tenants_of(settings)
    speaks = [name for name, tenants in sorted(known.items()) if tenants is None or tenant in tenants]
    if issuer not in speaks:
        said = f"no issuer of tenant {tenant}; those of the settings: {', '.join(speaks) or 'none'}"
        raise Refused(code, f"issuer: {said}", errors=({"field": "issuer", "message": said},))
