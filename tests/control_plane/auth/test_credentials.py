# SPDX-License-Identifier: Apache-2.0
"""G13, S1: secrets of the plane's own, on a real PostgreSQL, as the role `app`."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane import administrative
from control_plane.auth import access, credentials, rights, store, tokens
from control_plane.auth.errors import PersonRemoved, TenantRefused, Unauthenticated
from control_plane.auth.oidc import Authenticator
from control_plane.auth.people import store as people
from control_plane.auth.principal import Assignment, Principal, Scope
from control_plane.auth.recognise import Recogniser
from control_plane.db import engine, transaction
from control_plane.errors import Refused
from tests.postgres import TestDatabase

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(hours=1)
ALICE = Principal("alice", "alice", "acme", "acme", "https://idp.example", "a-1", groups=("lab",))


async def everybody(_: Principal) -> Refused | None:
    """No bucket is empty."""
    return None


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[AsyncEngine]:
    """An engine as `app`, with two tenants; Alice is an engineer in p."""
    found = engine(database.app)
    for tenant in ("acme", "globex"):
        async with transaction(found, tenant) as conn:
            await store.add_tenant(conn, tenant)
    async with transaction(found, "acme") as conn:
        await store.assign(conn, "acme", ALICE.issuer, "alice", Assignment("quantum-engineer", "p"))
    yield found
    await found.dispose()


async def issued(app: AsyncEngine, kind: tokens.Kind = "token", who: Principal = ALICE, **more: object) -> str:
    """A new secret's text, which stands for an hour."""
    async with transaction(app, who.tenant) as conn:
        made = await credentials.issue(conn, who, kind, at=NOW, expires_at=LATER, **more)  # type: ignore[arg-type]
    return made.text


async def bearing(app: AsyncEngine, secret: str, address: str | None = "127.0.0.1", after_s: float = 1) -> Principal:
    """Who the door takes the bearer for, so many seconds after it was given out."""
    way_in = Recogniser(app, Authenticator([], pseudonym_key=bytes(32)), lambda: NOW + dt.timedelta(seconds=after_s))
    try:
        return await way_in.recognise({b"authorization": f"Bearer {secret}".encode()}, address, everybody)
    finally:
        await way_in.close()


def id_of(secret: str) -> str:
    """The id inside the secret's text."""
    given = tokens.parse(secret)
    assert given is not None
    return given.id


async def refused(app: AsyncEngine, secret: str, address: str | None = "127.0.0.1", after_s: float = 1) -> str:
    """Why the door refuses the bearer."""
    with pytest.raises(Unauthenticated) as why:
        await bearing(app, secret, address, after_s)
    assert secret.rpartition(".")[2] not in repr(why.value)
    return why.value.reason


async def test_a_secret_acts_as_its_holder_with_the_rights_of_now(app: AsyncEngine) -> None:
    """G13: what the plane takes away or gives counts at the next request."""
    secret = await issued(app)
    who = await bearing(app, secret)
    assert (who.subject, who.pseudonym, who.via, who.credential) == ("alice", "a-1", "exchange", id_of(secret))
    assert who.roles_in("p") == ("quantum-engineer",)
    async with transaction(app, "acme") as conn:
        await store.revoke(conn, "acme", ALICE.issuer, "alice", Assignment("quantum-engineer", "p"))
        await conn.execute(
            text("INSERT INTO auth.group_role (tenant, issuer, name, role) VALUES ('acme', :issuer, 'lab', 'auditor')"),
            {"issuer": ALICE.issuer},
        )
    assert (await bearing(app, secret)).roles == ("auditor",)


async def test_only_the_secret_itself_proves_its_holder(app: AsyncEngine) -> None:
    """S1: another secret of the id, another kind, another tenant and an unknown id are refused alike."""
    secret = await issued(app)
    head, _, last = secret.rpartition(".")
    other = ("A" if last[0] != "A" else "B") + last[1:]
    forged = (
        f"{head}.{other}",
        secret.replace("_token_", "_key_"),
        secret.replace("_acme.", "_globex."),
        secret.replace(id_of(secret), "0" * 24),
        await issued(app, "session"),
    )
    assert {await refused(app, one) for one in forged} == {"secret_unknown"}
    for broken in ("qcos_", "qcos_token_acme", secret + "=", secret[:-1], secret.upper(), f"qcos_{'x' * 9_000}"):
        with pytest.raises(Unauthenticated):
            await bearing(app, broken)


async def test_the_plane_keeps_no_secret(app: AsyncEngine) -> None:
    """I10: the row holds a hash, and values that carry a secret don't print it."""
    async with transaction(app, "acme") as conn:
        made = await credentials.issue(conn, ALICE, "key", at=NOW, expires_at=LATER)
        rows = (await conn.execute(text("SELECT c::text FROM auth.credential c"))).scalars().all()
    last = made.text.rpartition(".")[2]
    assert rows
    assert not any(last in row for row in rows)
    assert last not in repr(made)
    assert last not in repr(tokens.parse(made.text))


async def test_a_secret_ends_by_time_by_idleness_and_by_a_word(app: AsyncEngine) -> None:
    """S1: at the moment it ends, in every process, for the database alone says so."""
    secret = await issued(app, idle_s=600.0)
    assert (await bearing(app, secret, after_s=599)).subject == "alice"
    assert (await bearing(app, secret, after_s=1_190)).subject == "alice"
    assert await refused(app, secret, after_s=1_800) == "idle"
    lasting = await issued(app)
    assert await refused(app, lasting, after_s=3_600) == "expired"
    async with transaction(app, "acme") as conn:
        assert await credentials.revoke(conn, "acme", id_of(lasting), by="a-9", at=NOW)
        assert not await credentials.revoke(conn, "acme", id_of(lasting), by="a-9", at=NOW)
    assert await refused(app, lasting) == "revoked"


async def test_a_secret_holds_in_its_networks_only(app: AsyncEngine) -> None:
    """G13: the peer's address decides; a request without one is inside no network."""
    secret = await issued(app, "key", networks=["10.1.0.0/16", "2001:db8::/32"])
    for inside in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"):
        assert (await bearing(app, secret, inside)).via == "key"
    for outside in ("10.2.0.1", "::1", None, "nonsense"):
        assert await refused(app, secret, outside) == "network"


async def test_a_scope_leaves_a_part_and_gives_nothing(app: AsyncEngine) -> None:
    """G13: what the holder may not do, no scope lets the bearer do."""
    scope = Scope(actions=("job:read", "user:manage"), projects=("p",))
    who = await bearing(app, await issued(app, scope=scope))
    assert access.may(who, "job:read", "p")
    assert access.may(who, "whoami", None)
    assert not access.may(who, "job:cancel", "p")
    assert not access.may(who, "user:manage", "p")
    assert not access.may(who, "job:read", "q")
    assert not access.may(who, "backend:read", None)
    assert access.visible(who, "job:read") == frozenset({"p"})
    wide = msgspec.structs.replace(who, project_roles={}, roles=("quantum-admin",))
    assert access.visible(wide, "job:read") == frozenset({"p"})
    assert wide.roles_in("q") == ()


async def test_what_hangs_on_another_ends_with_it_and_is_within_it(app: AsyncEngine) -> None:
    """G13: a chain is as strong as its weakest link, whichever ends first."""
    first = await issued(
        app, "delegation", scope=Scope(actions=("job:read", "job:submit")), about=handed("alice", "ci")
    )
    second = await issued(
        app,
        "delegation",
        parent=id_of(first),
        scope=Scope(actions=("job:read", "job:cancel")),
        about=handed("ci", "bot"),
    )
    who = await bearing(app, second)
    assert who.scope == Scope(actions=("job:read",))
    assert [(link.by, link.to) for link in who.chain] == [("alice", "ci"), ("ci", "bot")]
    assert who.via == "delegation"
    assert not access.may(msgspec.structs.replace(who, scope=None), "account:own", None)
    async with transaction(app, "acme") as conn:
        await credentials.revoke(conn, "acme", id_of(first), by="a-1", at=NOW)
    assert await refused(app, second) == "revoked"


async def test_a_chain_is_followed_so_far_and_no_farther(app: AsyncEngine) -> None:
    """S1: a long chain, or one that hangs on itself, is refused, not walked."""
    parent = None
    for _ in range(rights.DEEPEST + 1):
        last = await issued(app, "delegation", parent=parent, about=handed("a", "b"))
        parent = id_of(last)
    assert (await bearing(app, last)).subject == "alice"
    assert (
        await refused(app, await issued(app, "delegation", parent=parent, about=handed("a", "b"))) == "chain_too_long"
    )


async def test_a_removed_person_and_a_closed_tenant_shut_their_secrets_out(app: AsyncEngine) -> None:
    """G13, G11: at the next request, whatever their provider says."""
    secret = await issued(app)
    async with transaction(app, "acme") as conn:
        await people.remember(conn, ALICE)
        await conn.execute(text("UPDATE auth.person SET state = 'removed'"))
    with pytest.raises(PersonRemoved):
        await bearing(app, secret)
    with pytest.raises(PersonRemoved):
        await rights.enrich(app, ALICE)
    async with transaction(app, "acme") as conn:
        await conn.execute(text("UPDATE auth.person SET state = 'active'"))
        await conn.execute(text("UPDATE auth.tenant SET state = 'closed' WHERE tenant = 'acme'"))
    with pytest.raises(TenantRefused):
        await bearing(app, secret)


async def test_the_last_word_of_a_provider_is_kept_and_an_older_one_changes_nothing(app: AsyncEngine) -> None:
    """G13: groups and roles as last said count for secrets, too; a person is written when something differs."""
    secret = await issued(app)
    said = msgspec.structs.replace(ALICE, groups=("lab", "ops"), roles=("finops",), asserted_at=NOW)
    await rights.enrich(app, said)
    async with transaction(app, "acme") as conn:
        seen = (await conn.execute(text("SELECT seen_at FROM auth.person"))).scalar_one()
    await rights.enrich(app, said)
    older = msgspec.structs.replace(ALICE, roles=("quantum-admin",), asserted_at=NOW - dt.timedelta(minutes=5))
    assert "quantum-admin" in (await rights.enrich(app, older)).roles
    who = await bearing(app, secret)
    assert who.groups == ("lab", "ops")
    assert who.roles == ("finops",)
    async with transaction(app, "acme") as conn:
        assert (await conn.execute(text("SELECT seen_at FROM auth.person"))).scalar_one() == seen


async def test_all_of_a_holders_end_at_once(app: AsyncEngine) -> None:
    """G13: who logs out everywhere, or is removed, has nothing left; others keep theirs."""
    bob = msgspec.structs.replace(ALICE, subject="bob", pseudonym="a-2")
    kept, gone, other = (
        await issued(app),
        await issued(app, "delegation", about=handed("a", "b")),
        await issued(app, who=bob),
    )
    async with transaction(app, "acme") as conn:
        ended = await credentials.revoke_of(conn, "acme", ALICE.issuer, "alice", by="a-1", at=NOW, but=id_of(kept))
        assert ended == [id_of(gone)]
        found = await credentials.find(conn, "acme", id_of(gone))
        assert found is not None
        assert (found.over(NOW), found.revoked_by) == ("revoked", "a-1")
        held = await credentials.held(conn, "acme", ALICE.issuer, "alice", "token")
        assert [one.id for one in held] == [id_of(kept)]
        assert len(await credentials.listed(conn, "acme", "token")) == 2
    for secret in (kept, other):
        await bearing(app, secret)
    async with transaction(app, "globex") as conn:
        assert await credentials.find(conn, "acme", id_of(gone)) is None


def test_an_entry_names_people_by_pseudonym_and_says_what_was_acted_with() -> None:
    """G5: who gave what to whom, and why."""
    who = msgspec.structs.replace(ALICE, via="key", credential="k1")
    made = administrative.entry(who, "identity:role:granted", {"to": "a-2", "role": "auditor"}, "audit", NOW)
    assert (made.tenant, made.kind, made.actor) == ("acme", "identity:role:granted", "a-1")
    assert made.body == {
        "to": "a-2",
        "role": "auditor",
        "by": "a-1",
        "reason": "audit",
        "via": "key",
        "credential": "k1",
    }
    assert administrative.entry(None, "tenant:created", {}, None, NOW, tenant="acme").tenant == "acme"


def handed(by: str, to: str) -> dict[str, str]:
    """What a delegation's row says of itself."""
    return {"by": by, "to": to}
