# SPDX-License-Identifier: Apache-2.0
"""A token exchange as it is asked for and refused (RFC 8693, RFC 6749 section 5.2). Pure.

Enters: the bytes of a form. Leaves: `Grant`, or `GrantRefused` with the `error` word of the RFC beside this plane's own
code. Unknown parameters are ignored, as RFC 6749 section 3.2 demands; one that is given twice is refused, and so is
what this plane doesn't do (an actor token: `qcos delegate` hands rights to others).
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import parse_qsl

from msgspec import Struct

from control_plane.auth.access import ACTIONS
from control_plane.auth.principal import Scope, is_project
from control_plane.errors import Refused

__all__ = ["ACCESS_TOKEN", "EXCHANGE", "FORM", "Grant", "GrantRefused", "Word", "read", "scope_of", "written"]

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
FORM: Final = "application/x-www-form-urlencoded"
_TYPE = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN: Final = _TYPE + "access_token"
_SUBJECT_TYPES = frozenset((_TYPE + "jwt", _TYPE + "id_token", ACCESS_TOKEN))
_REQUESTED_TYPES = frozenset(("", ACCESS_TOKEN))
_PROJECT = "project="
_MOST_WORDS = 64
_SECONDS = re.compile(r"[0-9]{1,9}")

Word = Literal[
    "invalid_request", "unsupported_grant_type", "invalid_scope", "invalid_target", "temporarily_unavailable"
]


class GrantRefused(Refused):
    """An exchange that isn't done. `error` is the RFC's word: clients of OAuth know no other."""

    def __init__(self, error: Word, detail: str, *, code: str = "exchange_refused", field: str | None = None) -> None:
        rows = () if field is None else ({"field": field, "message": detail},)
        super().__init__(code, detail if field is None else f"{field}: {detail}", errors=rows)
        self.error = error


class Grant(Struct, frozen=True):
    """What is asked for: a token for `subject_token`, narrowed to `scope`, of `account` where several would do."""

    subject_token: str
    scope: Scope | None = None
    account: str | None = None
    expires_s: int | None = None


def read(body: bytes, content_type: str) -> Grant:
    """The request in the form. Raises nothing but GrantRefused."""
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise _malformed(f"wanted a body of {FORM}")
    form = _form(body)
    grant_type = form.get("grant_type", "")
    if not grant_type:
        raise _malformed("is missing", "grant_type")
    if grant_type != EXCHANGE:
        raise GrantRefused("unsupported_grant_type", f"this address does {EXCHANGE} alone", code="grant_unsupported")
    if form.get("subject_token_type", "") not in _SUBJECT_TYPES:
        raise _malformed(f"wanted one of {', '.join(sorted(_SUBJECT_TYPES))}", "subject_token_type")
    if form.get("requested_token_type", "") not in _REQUESTED_TYPES:
        raise _malformed(f"this plane issues {ACCESS_TOKEN} alone", "requested_token_type")
    if form.get("actor_token") or form.get("actor_token_type"):
        raise _malformed("nobody acts for another here; qcos delegate hands a right on", "actor_token")
    if form.get("resource") or form.get("audience"):
        raise GrantRefused("invalid_target", "tokens of this plane are for this plane alone", field="audience")
    if not form.get("subject_token"):
        raise _malformed("is missing", "subject_token")
    lasts = form.get("expires_in", "")
    if lasts and not (_SECONDS.fullmatch(lasts) and int(lasts) > 0):
        raise _malformed("wanted a number of seconds above 0", "expires_in")
    return Grant(
        subject_token=form["subject_token"],
        scope=scope_of(form["scope"]) if form.get("scope") else None,
        account=form.get("service_account") or None,
        expires_s=int(lasts) if lasts else None,
    )


def scope_of(text: str) -> Scope:
    """The scope in words with blanks between them: `job:submit job:read project=solver`; GrantRefused."""
    words = text.split(" ")
    if len(words) > _MOST_WORDS:
        raise GrantRefused("invalid_scope", f"at most {_MOST_WORDS} words", field="scope")
    projects = tuple(sorted({word.removeprefix(_PROJECT) for word in words if word.startswith(_PROJECT)}))
    actions = tuple(sorted({word for word in words if not word.startswith(_PROJECT)}))
    if not ACTIONS.issuperset(actions) or not all(map(is_project, projects)):
        raise GrantRefused(
            "invalid_scope",
            "wanted actions of the access matrix and project=NAME, one blank between them",
            field="scope",
        )
    return Scope(actions=actions or None, projects=projects or None)


def written(scope: Scope | None) -> str | None:
    """The words of a scope, as `scope_of` reads them; None where nothing is narrowed."""
    if scope is None or (scope.actions is None and scope.projects is None):
        return None
    return " ".join((*(scope.actions or ()), *(_PROJECT + one for one in scope.projects or ())))


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=32, errors="strict"
        )
    except ValueError:
        raise _malformed("the body is no form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _malformed("a parameter is given twice")
    return form


def _malformed(detail: str, field: str | None = None) -> GrantRefused:
    return GrantRefused("invalid_request", detail, code="request_invalid", field=field)
