# SPDX-License-Identifier: Apache-2.0
"""Why a request stops at the door, each with its stable code.

::

    Refused (control_plane.errors)
    ├── Unauthenticated      401  token_missing | token_invalid | token_expired
    ├── Forbidden            403  forbidden
    ├── CsrfRefused          403  csrf_refused
    ├── TenantRefused        403  tenant_unknown | tenant_closed
    ├── PersonRemoved        403  person_removed
    ├── LoginFailed          400  login_failed
    ├── PasswordRefused      401  password_refused
    ├── RateLimited          429  rate_limited
    └── IdentityUnavailable  503  identity_unavailable
    RouteWithoutRule              a fault of the programme: the plane does not start

Texts are constants or names from the plane's own tables: no part of a token, claim or header is ever in one (I10).
"""

from __future__ import annotations

from typing import Literal

from control_plane.errors import QcosError, Refused

__all__ = [
    "CsrfRefused",
    "Forbidden",
    "IdentityUnavailable",
    "LoginFailed",
    "PasswordRefused",
    "PersonRemoved",
    "RateLimited",
    "RouteWithoutRule",
    "TenantRefused",
    "TokenCode",
    "Unauthenticated",
]

TokenCode = Literal["token_missing", "token_invalid", "token_expired"]


class Unauthenticated(Refused):
    """The credentials prove nobody. `reason` is finer than `code`, for tests and metrics; answers never need it."""

    def __init__(self, code: TokenCode, reason: str, detail: str) -> None:
        super().__init__(code, detail)
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        """The challenge that a 401 must carry (RFC 6750 section 3); without a token no error is named."""
        if self.code == "token_missing":
            return {"WWW-Authenticate": 'Bearer realm="qcos"'}
        return {"WWW-Authenticate": 'Bearer realm="qcos", error="invalid_token"'}


class Forbidden(Refused):
    """Somebody known, who may not do this: no role of theirs holds `action` there."""

    def __init__(self, action: str, project: str | None = None) -> None:
        where = f"in project {project}" if project else "here"
        super().__init__("forbidden", f"none of your roles allows {action} {where}")
        self.action = action
        self.project = project


class CsrfRefused(Refused):
    """A browser's session came with a request that no page of this plane sent."""

    def __init__(self) -> None:
        super().__init__("csrf_refused", "this changes something, and no page of this plane asked for it")


class TenantRefused(Refused):
    """The token is sound, but its tenant is not open on this plane."""

    def __init__(self, code: Literal["tenant_unknown", "tenant_closed"]) -> None:
        state = "is not known here" if code == "tenant_unknown" else "is closed"
        super().__init__(code, f"the tenant of these credentials {state}")


class PersonRemoved(Refused):
    """Somebody known to the plane, whom an administrator removed; what their provider says of them changes nothing."""

    def __init__(self) -> None:
        super().__init__("person_removed", "an administrator removed your access to this tenant")


class LoginFailed(Refused):
    """A login came back from its provider as something else than it. `reason` is for tests and metrics."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__("login_failed", detail)
        self.reason = reason


class PasswordRefused(Refused):
    """Name or password is wrong: which, nobody is told."""

    def __init__(self) -> None:
        super().__init__("password_refused", "the directory knows nobody of this name with this password")

    @property
    def headers(self) -> dict[str, str]:
        """A 401 names what would be taken instead (RFC 9110 section 15.5.2)."""
        return {"WWW-Authenticate": 'Bearer realm="qcos"'}


class RateLimited(Refused):
    """The principal's bucket, or the `whole` tenant's, is empty; `retry_after_s` says when the same would be let in."""

    def __init__(self, retry_after_s: int, *, whole: bool = False) -> None:
        of = " of your tenant's people together" if whole else ""
        super().__init__(
            "rate_limited",
            f"too many requests or bytes{of}: try again in {retry_after_s} s",
            extras={"retry_after_s": retry_after_s},
        )
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 section 10.2.3, in whole seconds."""
        return {"Retry-After": str(self.retry_after_s)}


class IdentityUnavailable(Refused):
    """The issuer's keys can't be had, so nobody can be recognised. Never an allow, never a 500."""

    def __init__(self) -> None:
        super().__init__("identity_unavailable", "the identity provider does not answer; nobody can be recognised")

    @property
    def headers(self) -> dict[str, str]:
        """When a retry makes sense: after the pause that the plane itself keeps."""
        return {"Retry-After": "2"}


class RouteWithoutRule(QcosError):
    """A route names no action, or one that the permission table doesn't know: the plane refuses to start."""

    code = "start_failed"
