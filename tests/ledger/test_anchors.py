# SPDX-License-Identifier: Apache-2.0
"""What an anchor keeps nobody takes back, and it contradicts a log that was cut or rewritten (G5, I4)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.anchors import build, check
from control_plane.errors import SettingInvalid
from control_plane.settings import AnchorFacts
from ledger import checkpoint, outside
from ledger.anchoring import anchor_round, compare
from ledger.anchors.base import Anchor, Difference, contradicts, verified
from ledger.anchors.locked_bucket import LockedBucket
from ledger.anchors.worm import WormFolder
from ledger.errors import AnchorAway
from ledger.session import connect
from ledger.trust import parse_trust
from tests.ledger.plane import Plane
from tests.ledger.support import config, pending, sealed, superuser
from tests.ledger.test_cosigning import stored
from tests.ledger.test_witness import Log
from tests.postgres import TestDatabase


def check_anchor(anchor: Anchor, plane: Plane) -> None:
    """Any anchor gives back what it was given, once each, largest first, and the first of two under one name."""
    log = Log(plane, 12)
    three, twelve = log.note(3), log.note()
    assert anchor.heads() == []
    for note in (three, twelve, three):
        assert anchor.put(note)
    assert anchor.heads() == [twelve, three]
    other = log.copy(2, b"other").grow(1).note()
    anchor.put(other)
    assert anchor.heads() == [twelve, three]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    return Plane(tmp_path_factory.mktemp("plane"))


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """moto's S3 on loopback, and a client that is the account's owner."""
    server_of = pytest.importorskip("moto.server")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        client.create_bucket(Bucket="open")
        yield client
        client.close()
    server.stop()


def bucket(s3: Any, name: str, prefix: str) -> LockedBucket:
    return LockedBucket(name, prefix=prefix, retention_days=30, endpoint_url=s3.meta.endpoint_url, region="us-east-1")


def test_a_worm_folder_is_an_anchor_whose_files_nobody_opens_to_write(plane: Plane, tmp_path: Path) -> None:
    check_anchor(WormFolder(tmp_path / "worm"), plane)
    for path in (tmp_path / "worm").glob("*/*"):
        assert path.stat().st_mode & 0o777 == 0o444
    asked = WormFolder(tmp_path / "hard", immutable=True)
    where = Path(asked.put(Log(plane, 2).note()))
    assert asked.said.startswith(("immutable", "not immutable"))
    if asked.said == "immutable":
        with pytest.raises(OSError, match="not permitted"):
            where.unlink()
        released(where)


def released(path: Path) -> None:
    """Take the flag off again, so that the test's folder can be removed."""
    import array
    import fcntl

    with path.open("rb") as file:
        fcntl.ioctl(file, 0x40086602, array.array("l", [0]))


def test_a_locked_bucket_is_an_anchor_whose_objects_stay(plane: Plane, s3: Any) -> None:
    """Retention is set in compliance mode, an overwrite is a newer version, and the locked one can't be deleted."""
    from botocore.exceptions import ClientError

    check_anchor(bucket(s3, "locked", "a"), plane)
    (name, *_) = [found["Key"] for found in s3.list_objects_v2(Bucket="locked", Prefix="a")["Contents"]]
    head = s3.head_object(Bucket="locked", Key=name)
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert head["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=29)
    first = head["VersionId"]
    before = bucket(s3, "locked", "a").heads()
    s3.put_object(Bucket="locked", Key=name, Body=b"another")
    s3.delete_object(Bucket="locked", Key=name)
    for bypass in (False, True):
        with pytest.raises(ClientError, match=r"Access ?Denied"):
            s3.delete_object(Bucket="locked", Key=name, VersionId=first, BypassGovernanceRetention=bypass)
    assert bucket(s3, "locked", "a").heads() == before


def test_a_bucket_without_object_lock_is_refused(plane: Plane, s3: Any) -> None:
    with pytest.raises(AnchorAway):
        bucket(s3, "open", "a").put(Log(plane, 2).note())
    with pytest.raises(AnchorAway):
        bucket(s3, "none", "a").heads()


def test_a_stranger_who_writes_into_an_anchor_accuses_nobody(plane: Plane, tmp_path: Path) -> None:
    log, forged = Log(plane, 5), Log(Plane(tmp_path / "stranger"), 9)
    keys = [by for _, by in parse_trust(plane.trust()).log]
    held = verified([log.note(), forged.note(), b"junk"], keys)
    assert [head.size for head in held] == [5]
    ours = {5: checkpoint.parse(log.note())}
    assert contradicts(held, ours, 5) is None
    assert contradicts(held, ours, 4) == Difference(
        outside.ROLLBACK, 5, f"it holds 5 entries of {plane.origin}, the database 4"
    )
    other = checkpoint.parse(log.copy(4, b"x").grow(1).note())
    found = contradicts(held, {5: other}, 5)
    assert found is not None
    assert found.code == outside.FORK


async def test_a_cut_or_rewritten_log_is_found_by_its_anchor_and_never_put_over_it(
    database: TestDatabase, tmp_path: Path
) -> None:
    """I4: the database may be sound in itself."""
    settings, anchor = config(database, tmp_path), WormFolder(tmp_path / "worm")
    await sealed(database, tmp_path, pending(), pending())
    async with await connect(settings.conninfo) as conn:
        assert await anchor_round(conn, "disk", anchor)
        (note,) = anchor.heads()
        assert await compare(conn, [note]) is None
        size = checkpoint.parse(note).size
        superuser(database, "DELETE FROM ledger.checkpoint WHERE size = %s", size)
        assert not await anchor_round(conn, "disk", anchor)
        assert anchor.heads() == [note]
    assert [(one.kind, one.name, one.code) for one in (await stored(database))[0]] == [
        ("anchor", "disk", outside.ROLLBACK)
    ]


def test_a_table_says_what_its_kind_needs_and_nothing_else(tmp_path: Path) -> None:
    check((AnchorFacts(name="disk", kind="worm", path="worm"), AnchorFacts(name="s3", kind="s3", bucket="b")))
    assert isinstance(build(AnchorFacts(name="disk", kind="worm", path="worm"), tmp_path), WormFolder)
    bad = (
        AnchorFacts(name="x", kind="tape"),
        AnchorFacts(name="", kind="worm", path="x"),
        AnchorFacts(name="x", kind="worm"),
        AnchorFacts(name="x", kind="worm", path="x", bucket="b"),
        AnchorFacts(name="x", kind="s3", bucket="b", retention_days=0),
        AnchorFacts(name="x", kind="rfc3161", path="x", url="http://127.0.0.1:1"),
    )
    for facts in bad:
        with pytest.raises(SettingInvalid, match=r"anchor\[0\]"):
            check((facts,))
