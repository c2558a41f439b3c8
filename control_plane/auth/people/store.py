# SPDX-License-Identifier: Apache-2.0
"""Who was seen, as their provider described them last, and what is asked of the database when they enter (G13).

`entering` and `hanging` are queries of one round trip, for `rights`, which judges what they bring.
"""

from __future__ import annotations

import hashlib

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.auth.principal import Principal
from control_plane.db import Query

__all__ = ["digest_of", "entering", "forget", "hanging", "remember", "resting"]


def entering(principal: Principal) -> Query:
    """Of whom an issuer named: the tenant's state, theirs, and the roles given to them and to their groups."""
    values = {
        "tenant": principal.tenant,
        "issuer": principal.issuer,
        "subject": principal.subject,
        "groups": list(principal.groups),
    }
    return _ENTERING, values


def hanging(tenant: str, id: str, deepest: int) -> Query:  # noqa: A002 - it is called that everywhere
    """Of a secret, and those on which it hangs, the nearest first: what it is, and as `entering` of its holder."""
    return _HANGING, {"tenant": tenant, "id": id, "deepest": deepest}


def resting(tenant: str, issuer: str, subject: str, credential: str | None) -> Query:
    """Of whoever asked for something that waited, and of what they came with: a row, whatever is known of them."""
    return _RESTING, {"tenant": tenant, "issuer": issuer, "subject": subject, "credential": credential}


async def remember(conn: AsyncConnection, principal: Principal) -> None:
    """Keep what a provider just said of somebody; it gives nobody back their access."""
    await conn.execute(
        _REMEMBER,
        {
            "tenant": principal.tenant,
            "issuer": principal.issuer,
            "subject": principal.subject,
            "pseudonym": principal.pseudonym,
            "name": principal.name,
            "domain": principal.domain,
            "kind": principal.kind,
            "team": principal.team,
            "department": principal.department,
            "groups": list(principal.groups),
            "roles": _roles(principal),
            "digest": digest_of(principal),
            "asserted_at": principal.asserted_at,
        },
    )


def _roles(principal: Principal) -> list[str]:
    """The roles that the provider's own words give."""
    local = [f"{role}@{project}" for project, held in principal.project_roles.items() for role in held]
    return sorted((*principal.roles, *local))


def digest_of(principal: Principal) -> str:
    """Of all that is kept of what a provider said."""
    said = (
        principal.name,
        principal.domain,
        principal.kind,
        principal.team,
        principal.department,
        principal.groups,
        _roles(principal),
    )
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


async def forget(conn: AsyncConnection, pseudonym: str) -> None:
    """Take the name from whoever has this pseudonym, and from the secrets of theirs that have ended.

    Whether they may enter stays; if they come again, their provider describes them anew.
    """
    await conn.execute(_FORGET_SECRETS, {"pseudonym": pseudonym})
    await conn.execute(_FORGET, {"pseudonym": pseudonym})


_GIVEN = """(
    SELECT array_agg(ARRAY[a.role, a.project] ORDER BY a.project, a.role) FROM auth.assignment a
    WHERE a.tenant = t.tenant AND a.issuer = {issuer} AND a.subject = {subject}
) AS roles, (
    SELECT array_agg(ARRAY[g.role, g.project] ORDER BY g.project, g.role) FROM auth.group_role g
    WHERE g.tenant = t.tenant AND g.issuer = {issuer} AND g.name = ANY({groups})
) AS mapped"""

_ENTERING = f"""
SELECT t.state, p.state AS person, p.digest, p.asserted_at,
       extract(epoch FROM clock_timestamp() - p.seen_at)::double precision AS seen_s,
       {_GIVEN.format(issuer="%(issuer)s", subject="%(subject)s", groups="%(groups)s::text[]")}
FROM auth.tenant t
LEFT JOIN auth.person p ON p.tenant = t.tenant AND p.issuer = %(issuer)s AND p.subject = %(subject)s
WHERE t.tenant = %(tenant)s
"""

_HANGING = f"""
WITH RECURSIVE hung AS (
    SELECT c.*, 0 AS depth FROM auth.credential c WHERE c.tenant = %(tenant)s AND c.id = %(id)s
    UNION ALL
    SELECT c.*, hung.depth + 1 FROM hung
    JOIN auth.credential c ON c.tenant = hung.tenant AND c.id = hung.parent WHERE hung.depth < %(deepest)s
)
SELECT c.id, c.kind, c.digest, c.principal, c.scope, c.networks, c.parent, c.about, c.created_at, c.expires_at,
       c.idle_s, c.used_at, c.revoked_at, t.state, p.state AS person, coalesce(p.digest, '') AS digest_seen,
       p.groups, p.roles AS said,
       {
    _GIVEN.format(
        issuer="c.issuer",
        subject="c.subject",
        groups=(
            "CASE WHEN coalesce(p.digest, '') <> '' THEN p.groups ELSE"
            " ARRAY(SELECT jsonb_array_elements_text(coalesce(c.principal -> 'groups', '[]'))) END"
        ),
    )
}
FROM hung c
JOIN auth.tenant t ON t.tenant = c.tenant
LEFT JOIN auth.person p ON p.tenant = c.tenant AND p.issuer = c.issuer AND p.subject = c.subject
ORDER BY c.depth
"""

# A sign-in that was ended, or anything that has expired, was good at the moment that it was used at.
_RESTING = f"""
WITH RECURSIVE hung AS (
    SELECT c.tenant, c.id, c.kind, c.parent, c.revoked_at, 0 AS depth
    FROM auth.credential c WHERE c.tenant = %(tenant)s AND c.id = %(credential)s::text
    UNION ALL
    SELECT c.tenant, c.id, c.kind, c.parent, c.revoked_at, hung.depth + 1 FROM hung
    JOIN auth.credential c ON c.tenant = hung.tenant AND c.id = hung.parent WHERE hung.depth < 16
)
SELECT p.state AS person, p.digest, p.roles AS said, p.kind,
       (SELECT h.kind FROM hung h WHERE h.revoked_at IS NOT NULL AND h.kind IN ('key', 'delegation')
        ORDER BY h.depth LIMIT 1) AS revoked,
       {_GIVEN.format(issuer="%(issuer)s", subject="%(subject)s", groups="p.groups")}
FROM (SELECT %(tenant)s::text AS tenant) t
LEFT JOIN auth.person p ON p.tenant = t.tenant AND p.issuer = %(issuer)s AND p.subject = %(subject)s
"""

_FORGET_SECRETS = text("""
DELETE FROM auth.credential c USING auth.person p
WHERE p.pseudonym = :pseudonym AND c.tenant = p.tenant AND c.issuer = p.issuer AND c.subject = p.subject
  AND (c.revoked_at IS NOT NULL OR c.expires_at <= clock_timestamp())
""")

_FORGET = text("""
UPDATE auth.person SET name = 'erased', domain = tenant, team = NULL, department = NULL, groups = '{}', roles = '{}',
                       digest = '' WHERE pseudonym = :pseudonym
""")

_REMEMBER = text("""
INSERT INTO auth.person AS p (tenant, issuer, subject, pseudonym, name, domain, kind, team, department, groups, roles,
                              digest, asserted_at, seen_at)
VALUES (:tenant, :issuer, :subject, :pseudonym, :name, :domain, :kind, :team, :department, :groups, :roles, :digest,
        :asserted_at, clock_timestamp())
ON CONFLICT (tenant, issuer, subject) DO UPDATE SET
    (pseudonym, name, domain, kind, team, department, groups, roles, digest, asserted_at, seen_at) = (
    SELECT excluded.pseudonym, excluded.name, excluded.domain, excluded.kind, excluded.team, excluded.department,
           excluded.groups, excluded.roles, excluded.digest, excluded.asserted_at, excluded.seen_at)
WHERE p.asserted_at IS NULL OR excluded.asserted_at IS NULL OR excluded.asserted_at >= p.asserted_at
""")
