# SPDX-License-Identifier: Apache-2.0
"""What the sealer signs of a policy push: what its entry names, on what is in force, and no more (G2, S4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from ledger import policies
from ledger.canonical import sha256
from ledger.chain import Pending, parse_leaf
from ledger.errors import KeyInvalid, PolicyUnsigned
from ledger.policies import File
from ledger.policy_key import create_policy_key, public_key
from tests.ledger.support import config, pending, sealing, until_sealed, write
from tests.postgres import TestDatabase

RULE, DATA = File("qcos/a/a.rego", sha256(b"a")), File("data/b.json", sha256(b"b"))


def pushed(number: int = 1, base: str | None = None, rule: bytes = b"a", **changes: Any) -> Pending:
    """A push as the API writes it, with some members of its body changed."""
    files = [File(RULE.path, sha256(rule)), DATA]
    body: dict[str, Any] = {
        "number": number,
        "base": base,
        "revision": policies.digest(files),
        "files": [{"path": file.path, "sha256": file.sha256} for file in files],
        "beside": [],
        "data": sha256(b"{}"),
    }
    return replace(pending("demo", body=body | changes), kind=policies.PUSHED)


def signatures(database: TestDatabase) -> list[tuple[Any, ...]]:
    """Every row that the sealer kept."""
    with psycopg.connect(database.conninfo("audit")) as conn:
        rows = conn.execute("SELECT number, revision, signature FROM ledger.policy_signature ORDER BY 1")
        return rows.fetchall()


def kinds(database: TestDatabase) -> list[str]:
    """What was told of policies, in order."""
    with psycopg.connect(database.conninfo("audit")) as conn:
        leaves = conn.execute("SELECT leaf FROM ledger.entry WHERE kind LIKE 'policy:%' ORDER BY \"index\"").fetchall()
    return [parse_leaf(leaf).kind for (leaf,) in leaves]


async def test_a_push_is_signed_by_the_key_that_the_log_knows(database: TestDatabase, tmp_path: Path) -> None:
    create_policy_key(tmp_path / "keys", tmp_path / "public")
    first = pushed()
    async with sealing(config(database, tmp_path)):
        await until_sealed(database, await write(database, first))
        revision = first.body["revision"]
        await until_sealed(database, await write(database, pushed(2, revision, b"other")))
    one, two = signatures(database)
    assert [one[0], one[1], two[0]] == [1, first.body["revision"], 2]
    said = policies.verify(one[2].decode(), public_key(tmp_path / "public"))
    assert said["qcos"] == {"entry_id": first.entry_id, "number": 1, "revision": first.body["revision"]}
    named = {file["name"]: file["hash"] for file in said["files"]}
    assert named.keys() == {"qcos/a/a.rego", "data/data.json", ".manifest", "system/log/mask.rego"}
    assert named["qcos/a/a.rego"] == RULE.sha256.removeprefix("sha256:")
    assert kinds(database) == [policies.PUSHED] * 2
    with psycopg.connect(database.conninfo("audit")) as conn:
        purposes = {purpose for (purpose,) in conn.execute("SELECT purpose FROM ledger.key").fetchall()}
    assert "policy" in purposes


async def test_what_does_not_follow_or_is_not_what_it_says_is_refused_and_recorded(
    database: TestDatabase, tmp_path: Path
) -> None:
    """Of two pushes on one base one is signed, even in one batch; nothing but the closed structure is signed."""
    create_policy_key(tmp_path / "keys", tmp_path / "public")
    first = pushed()
    base = first.body["revision"]
    bad = [
        pushed(2, base, b"loser"),  # after the winner, on the same base
        pushed(3, sha256(b"another")),
        pushed(1, policies.digest([File(RULE.path, sha256(b"winner")), DATA])),  # a number that was given
        pushed(4, base, revision=sha256(b"not its files")),
        pushed(5, base, more="x"),
        pushed(6, base, beside=[{"path": RULE.path, "sha256": RULE.sha256}]),
        pushed(7, base, files=[{"path": "data/data.json", "sha256": RULE.sha256}]),
        replace(pushed(8, base), schema=2),
    ]
    async with sealing(config(database, tmp_path)):
        await until_sealed(database, await write(database, first))
        await until_sealed(database, await write(database, pushed(2, base, b"winner"), *bad))
    assert [row[0] for row in signatures(database)] == [1, 2]
    assert kinds(database) == [policies.PUSHED] * 2 + [policies.PUSHED, policies.NOT_SIGNED] * len(bad)


async def test_a_sealer_without_the_key_signs_no_policies(database: TestDatabase, tmp_path: Path) -> None:
    async with sealing(config(database, tmp_path)):
        await until_sealed(database, await write(database, pushed()))
    assert signatures(database) == []
    assert kinds(database) == [policies.PUSHED, policies.NOT_SIGNED]


@pytest.mark.parametrize("role", ["app", "audit"])
def test_nobody_but_the_sealer_writes_a_signature(database: TestDatabase, role: str) -> None:
    with psycopg.connect(database.conninfo(role), autocommit=True) as conn, pytest.raises(psycopg.errors.Error):
        conn.execute("INSERT INTO ledger.policy_signature VALUES (gen_random_uuid(), 1, '', '')")


def test_a_signature_of_another_key_or_form_is_none(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    create_policy_key(tmp_path / "keys", tmp_path / "public")
    for token in ("", ".", "a.b.c", "eyJ.eyJ." + "A" * 86, "\u00fc.x.y"):
        with pytest.raises(PolicyUnsigned):
            policies.verify(token, key.public_key())
    (tmp_path / "public/public.pem").write_text("x")
    with pytest.raises(KeyInvalid):
        public_key(tmp_path / "public")
