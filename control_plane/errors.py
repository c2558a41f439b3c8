# SPDX-License-Identifier: Apache-2.0
"""The control plane's errors, their stable codes, and the one mapping of any error to an RFC 9457 answer.

::

    QcosError
    ├── Unusable            the plane can't start or go on
    │   ├── SettingInvalid      setting_invalid      a setting, its value and what is wanted
    │   ├── DatabaseUnusable    database_unusable    not there, no rights, not durable
    │   │   ├── SchemaNewer         schema_newer         made by a later program than this
    │   │   ├── SchemaUnreleased    schema_unreleased    made by a program that was never released
    │   │   └── MigrationFailed     migration_failed     the schema stays as it was
    │   ├── AlreadyRunning      already_running      another `up` holds this home
    │   ├── PortInUse           port_in_use
    │   ├── StartFailed         start_failed         a child never became ready
    │   └── SealingStopped      any code of the ledger's that stops sealing
    ├── MigrationRefused    migration_refused    a way down that would lose what can't be rebuilt
    ├── Unreachable         plane_unreachable    no plane answers (CLI)
    ├── NotSignedIn         not_signed_in        no usable credentials (CLI)
    └── Refused             any other code       a request that the plane refuses; carries status and fields

`LedgerError`, `DriverError` and `FinopsError` of the sibling packages are mapped by their `code` attribute: those
packages don't know HTTP. What has no code is `internal`, whose text never leaves the process (I10).
"""

from __future__ import annotations

from typing import Any

from control_plane.codes import CODES, Meaning

__all__ = [
    "AlreadyRunning",
    "DatabaseUnusable",
    "MigrationFailed",
    "MigrationRefused",
    "NotSignedIn",
    "PortInUse",
    "QcosError",
    "Refused",
    "SchemaNewer",
    "SchemaUnreleased",
    "SettingInvalid",
    "StartFailed",
    "Unreachable",
    "Unusable",
    "code_of",
    "meaning",
    "problem",
]

_TYPE = "urn:qcos:problem:"
# The ledger's word for a time-stamp token is the door's word for a bearer token; an answer must not mix them up.
_RENAMED = {("ledger", "token_invalid"): "timestamp_invalid"}


class QcosError(Exception):
    """Root of the tree. `code` is stable; `errors` names fields; `extras` are further members of the problem."""

    code = "internal"

    def __init__(
        self,
        detail: str,
        *,
        errors: tuple[dict[str, str], ...] = (),
        extras: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.extras = extras or {}


class Unusable(QcosError):
    """The plane can't start, or can't go on, as it is set up."""

    code = "unusable"


class SettingInvalid(Unusable):
    """A setting is refused (N11): the text names it, its value and what is wanted."""

    code = "setting_invalid"

    def __init__(self, field: str, value: object, wanted: str) -> None:
        super().__init__(
            f"{field} = {value!r}: wanted {wanted}", errors=({"field": field, "message": f"wanted {wanted}"},)
        )
        self.field = field


class DatabaseUnusable(Unusable):
    """The database isn't there, refuses the login, or lacks what the plane needs."""

    code = "database_unusable"


class SchemaNewer(DatabaseUnusable):
    """The database's schema is of a later program: this one would read and write it wrongly."""

    code = "schema_newer"


class SchemaUnreleased(DatabaseUnusable):
    """The database's schema wears the name of a revision, but isn't that revision."""

    code = "schema_unreleased"


class MigrationFailed(DatabaseUnusable):
    """A revision could not be applied; the schema is what it was."""

    code = "migration_failed"


class MigrationRefused(QcosError):
    """A migration downwards would lose what can't be rebuilt; the schema is what it was."""

    code = "migration_refused"


class AlreadyRunning(Unusable):
    """Another `qcos up` holds this home."""

    code = "already_running"


class PortInUse(Unusable):
    """The API's port is taken; found before anything starts."""

    code = "port_in_use"


class StartFailed(Unusable):
    """A child process of the plane did not become ready."""

    code = "start_failed"


class SealingStopped(Unusable):
    """The sealer refuses, by an alarm of its own; the code is that of `ledger.errors`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Unreachable(QcosError):
    """No plane answers at the address that a command was given."""

    code = "plane_unreachable"


class NotSignedIn(QcosError):
    """A command that needs credentials found none, or the plane refused them."""

    code = "not_signed_in"


class Refused(QcosError):
    """A request that the plane refuses with one of the codes of `control_plane.codes`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: tuple[dict[str, str], ...] = (),
        extras: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, errors=errors, extras=extras)
        self.code = code


def code_of(error: BaseException) -> str:
    """The stable code of any error: its `code` attribute if the table knows it, else `internal`."""
    code = getattr(error, "code", None)
    package = type(error).__module__.partition(".")[0]
    code = _RENAMED.get((package, str(code)), code)
    return code if isinstance(code, str) and code in CODES else "internal"


def meaning(code: str) -> Meaning:
    """Status, title, sentence and next step of a code; an unknown one means `internal`."""
    return CODES.get(code, CODES["internal"])


def problem(error: BaseException) -> tuple[int, dict[str, Any]]:
    """Status and RFC 9457 document of any error. Never shows the text of an error that has no code of its own (I10)."""
    code = code_of(error)
    known = meaning(code)
    detail = known.sentence if code == "internal" else str(getattr(error, "detail", "") or error) or known.sentence
    document: dict[str, Any] = {
        **_extras(error),
        "type": _TYPE + code,
        "title": known.title,
        "status": known.status,
        "code": code,
        "detail": detail,
        "errors": _errors(error, detail),
    }
    if known.next_step:
        document["next_step"] = known.next_step
    return known.status, document


def _errors(error: BaseException, detail: str) -> list[dict[str, str]]:
    """The rows that the error carries; a sibling package's error names at most one field."""
    field = getattr(error, "field", None)
    named = [{"field": field, "message": detail}] if isinstance(field, str) and field else []
    return list(getattr(error, "errors", ()) or named)


def _extras(error: BaseException) -> dict[str, Any]:
    extras = getattr(error, "extras", None)
    return dict(extras) if isinstance(extras, dict) else {}
