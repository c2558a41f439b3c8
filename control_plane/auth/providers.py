# SPDX-License-Identifier: Apache-2.0
"""Who may sign people in: the `[[oidc]]` tables, and what all kinds of providers have in common (G13). Pure but for
the file of a client's secret.

A provider has a name by which commands and pages call it, one across all kinds. One that isn't `listed` is shown to
nobody who doesn't know its name: on a plane that tenants share, the list would say who they are (I7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from control_plane.auth.addresses import reachable
from control_plane.auth.principal import is_tenant
from control_plane.errors import SettingInvalid

__all__ = ["Kind", "OidcIssuer", "Provider", "check", "check_names", "client_secret", "of_oidc"]

Kind = Literal["oidc", "saml", "ldap"]
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_CLAIM: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SCOPES: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")


class OidcIssuer(Struct, frozen=True, forbid_unknown_fields=True):
    """An `[[oidc]]` table: whose tokens are believed, for which audience, and which tenant its people belong to.

    With `client_id` browsers sign in there; `cli_client_id` is the client without a secret that commands use, by
    default the same one where it has no secret. `resource` is what access tokens are asked for (RFC 8707). A `workload`
    issuer vouches for pipelines alone: their tokens are exchanged for a service account's.
    """

    issuer: str
    audience: str
    tenant: str
    roles_claim: str = "roles"
    jwks_uri: str | None = None
    name: str | None = None
    groups_claim: str = "groups"
    client_id: str | None = None
    client_secret_file: str | None = None
    cli_client_id: str | None = None
    scopes: str = "openid profile"
    resource: str | None = None
    listed: bool = True
    workload: bool = False

    @property
    def commands_client(self) -> str | None:
        """The client that the device flow of commands names; a secret can't be kept in a command."""
        return self.cli_client_id or (None if self.client_secret_file else self.client_id)


class Provider(Struct, frozen=True):
    """What is common to all kinds. `number` is the table's place among those of its kind."""

    name: str
    kind: Kind
    number: int
    tenant: str
    listed: bool
    browser: bool
    """Whether a browser can sign in there; an issuer that only signs tokens for robots can't."""


def of_oidc(tables: Sequence[OidcIssuer]) -> tuple[Provider, ...]:
    """The `[[oidc]]` tables as providers. Without a name one is called after its host (and tenant)."""
    hosts = [_host(one.issuer) for one in tables]
    return tuple(
        Provider(
            name=one.name or (host if hosts.count(host) == 1 else f"{host}-{one.tenant}"),
            kind="oidc",
            number=number,
            tenant=one.tenant,
            listed=one.listed,
            browser=one.client_id is not None,
        )
        for number, (one, host) in enumerate(zip(tables, hosts, strict=True))
        if not one.workload
    )


def _host(address: str) -> str:
    host = urlsplit(address).hostname or ""
    return host if _NAME.fullmatch(host) else "oidc"


def check(tables: tuple[OidcIssuer, ...]) -> None:
    """SettingInvalid, naming the table and the field, for an `[[oidc]]` that can't be used."""
    audiences: set[tuple[str, str]] = set()
    for number, one in enumerate(tables):
        where = f"oidc[{number}]"
        for field in ("issuer", "jwks_uri"):
            address = getattr(one, field)
            if address is not None and not reachable(address):
                raise SettingInvalid(f"{where}.{field}", address, "an https address, or http on this machine")
        if not one.audience or (one.issuer, one.audience) in audiences:
            wanted = "an audience that no other table gives for this issuer, or no tenant is certain"
            raise SettingInvalid(f"{where}.audience", one.audience, wanted)
        audiences.add((one.issuer, one.audience))
        # One issuer has one key set; two addresses for it would make the answer depend on the order of the file.
        if any(one.issuer == other.issuer and one.jwks_uri != other.jwks_uri for other in tables):
            raise SettingInvalid(f"{where}.jwks_uri", one.jwks_uri, "one address in all tables of this issuer")
        if not is_tenant(one.tenant):
            raise SettingInvalid(f"{where}.tenant", one.tenant, "lower-case letters, digits, - and _")
        _check_client(where, one)


def _check_client(where: str, one: OidcIssuer) -> None:
    for field in ("roles_claim", "groups_claim"):
        if not _CLAIM.fullmatch(getattr(one, field)):
            raise SettingInvalid(f"{where}.{field}", getattr(one, field), "the name of a claim, or a path with dots")
    if not _SCOPES.fullmatch(one.scopes) or "openid" not in one.scopes.split():
        raise SettingInvalid(f"{where}.scopes", one.scopes, "scopes with one space between them, openid among them")
    if one.workload and one.client_id is not None:
        raise SettingInvalid(f"{where}.client_id", one.client_id, "nothing: with workload = true nobody signs in there")
    if one.client_id is None and (one.client_secret_file or one.cli_client_id):
        raise SettingInvalid(
            f"{where}.client_id", None, "the client that browsers sign in with, beside what else is said"
        )
    if one.resource is not None and not urlsplit(one.resource).scheme:
        raise SettingInvalid(f"{where}.resource", one.resource, "an absolute URI (RFC 8707)")
    if one.client_secret_file is not None:
        try:
            client_secret(one)
        except (OSError, ValueError) as error:
            wanted = "a file of one line that can be read"
            raise SettingInvalid(f"{where}.client_secret_file", one.client_secret_file, wanted) from error


def check_names(providers: Iterable[Provider]) -> None:
    """SettingInvalid unless each has a name, and a name of its own."""
    names: set[str] = set()
    for one in providers:
        if not _NAME.fullmatch(one.name) or one.name in names:
            wanted = "a name that no other provider has: lower-case letters, digits, . and -"
            raise SettingInvalid(f"{one.kind}[{one.number}].name", one.name, wanted)
        names.add(one.name)


def client_secret(one: OidcIssuer) -> str | None:
    """The client's secret, read anew each time, so that a new one needs no restart. OSError, ValueError."""
    if one.client_secret_file is None:
        return None
    text = Path(one.client_secret_file).read_text(encoding="ascii").strip()
    if not text or not text.isprintable():
        raise ValueError("no secret")
    return text
