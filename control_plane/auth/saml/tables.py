# SPDX-License-Identifier: Apache-2.0
"""The `[[saml]]` tables: whose assertions are believed, for which tenant, and what their attributes are called (G13).

Pure but for the metadata file, which is read anew for each login: putting a new one in place rotates the provider's
certificates without a restart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from control_plane.auth.principal import is_tenant
from control_plane.auth.providers import OidcIssuer, Provider
from control_plane.errors import SettingInvalid

if TYPE_CHECKING:
    from control_plane.auth.saml.metadata import Idp

__all__ = ["SamlFacts", "check", "idp", "of_saml"]

_ATTRIBUTES: Final = (
    "subject_attribute",
    "name_attribute",
    "roles_attribute",
    "groups_attribute",
    "team_attribute",
    "department_attribute",
)
_ATTRIBUTE = re.compile(r"[\x21-\x7e]{1,256}")
_ENTITY = re.compile(r"[\x21-\x7e]{1,1024}")


class SamlFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[saml]]` table. `issuer` is the provider's entity id, `metadata` the file that it came in.

    `entity_id` is the plane's own name there; its metadata's address where none is given. Without `subject_attribute`
    the assertion's NameID says who somebody is, and must last. `unsolicited` lets the provider begin logins.
    """

    name: str
    issuer: str
    tenant: str
    metadata: str
    entity_id: str | None = None
    subject_attribute: str | None = None
    name_attribute: str | None = None
    roles_attribute: str = "roles"
    groups_attribute: str = "groups"
    team_attribute: str = "team"
    department_attribute: str = "department"
    encrypted: bool = False
    unsolicited: bool = False
    listed: bool = True

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes that are read; no other is kept."""
        return frozenset(name for field in _ATTRIBUTES if (name := getattr(self, field)))


def of_saml(tables: Sequence[SamlFacts]) -> tuple[Provider, ...]:
    """The tables as providers."""
    return tuple(
        Provider(name=one.name, kind="saml", number=number, tenant=one.tenant, listed=one.listed, browser=True)
        for number, one in enumerate(tables)
    )


def idp(facts: SamlFacts) -> Idp:
    """The provider as its file describes it now. OSError, MetadataUnusable."""
    from control_plane.auth.saml import metadata  # brings lxml, which a plane without SAML never needs

    return metadata.read(Path(facts.metadata).read_bytes(), facts.issuer)


def check(tables: tuple[SamlFacts, ...], oidc: Sequence[OidcIssuer]) -> None:
    """SettingInvalid, naming the table and the field, for a `[[saml]]` that can't be used."""
    issuers = {(one.issuer, one.tenant) for one in oidc}
    for number, one in enumerate(tables):
        where = f"saml[{number}]"
        if not is_tenant(one.tenant):
            raise SettingInvalid(f"{where}.tenant", one.tenant, "lower-case letters, digits, - and _")
        if not _ENTITY.fullmatch(one.issuer) or (one.issuer, one.tenant) in issuers:
            # People are known by (issuer, subject): two providers under one name would be one another's people.
            wanted = "the provider's entityID, which no other table gives for this tenant"
            raise SettingInvalid(f"{where}.issuer", one.issuer, wanted)
        issuers.add((one.issuer, one.tenant))
        if one.entity_id is not None and not _ENTITY.fullmatch(one.entity_id):
            raise SettingInvalid(f"{where}.entity_id", one.entity_id, "a URI of at most 1,024 characters")
        for field in _ATTRIBUTES:
            given = getattr(one, field)
            if given is not None and not _ATTRIBUTE.fullmatch(given):
                raise SettingInvalid(f"{where}.{field}", given, "the Name of an attribute")
        _check_metadata(where, one)


def _check_metadata(where: str, one: SamlFacts) -> None:
    from control_plane.auth.saml.metadata import MetadataUnusable

    try:
        idp(one)
    except OSError as error:
        wanted = f"a file that can be read ({error.strerror})"
        raise SettingInvalid(f"{where}.metadata", one.metadata, wanted) from error
    except MetadataUnusable as error:
        raise SettingInvalid(f"{where}.metadata", one.metadata, str(error)) from error
