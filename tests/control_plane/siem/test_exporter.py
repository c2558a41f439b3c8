# SPDX-License-Identifier: Apache-2.0
"""Administrative entries reach a real rsyslogd over mutual TLS; one that dies is told again what it may have lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.errors import SettingInvalid
from control_plane.settings import Settings
from control_plane.siem import config, exporter, place
from control_plane.siem.config import SiemFacts
from ledger.chain import Pending
from tests.control_plane.siem import rsyslog
from tests.control_plane.siem.rsyslog import Authority, Rsyslog
from tests.ledger.support import AT, pending, sealing, until_sealed, write
from tests.ledger.support import config as sealer_config
from tests.ledger.support import engine as passing
from tests.postgres import TestDatabase


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
async def receiver(tmp_path: Path, authority: Authority) -> AsyncIterator[Rsyslog]:
    rsyslog.demand()
    made = Rsyslog(tmp_path / "receiver", authority)
    made.start()
    yield made
    made.kill(signal.SIGTERM)


def facts(authority: Authority, port: int, **more: Any) -> SiemFacts:
    certificate, key = authority.issue("plane")
    return SiemFacts("soc", "127.0.0.1", port, str(authority.ca), str(certificate), str(key), **more)


def act(number: int, tenant: str = "demo") -> Pending:
    body = {"by": "user:admin@demo", "to": f"s-{number}", "role": "auditor", "reason": "an audit"}
    return Pending(
        entry_id=str(uuid.uuid4()), tenant=tenant, kind="identity:role:granted", actor="a-1", time=AT, body=body
    )


@contextlib.asynccontextmanager
async def telling(home: Path, table: SiemFacts, database: TestDatabase) -> AsyncIterator[None]:
    receiver = exporter.Receiver(Settings(home=home, siem=(table,)), table, passing(database.audit))
    task = asyncio.create_task(receiver.serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - another process is waited for
        await asyncio.sleep(0.02)


def granted(receiver: Rsyslog) -> int:
    return len({one["user"]["name"] for one in receiver.events() if one["class_uid"] == 3005})


def chained(events: list[dict[str, Any]]) -> list[int]:
    """The indexes told, each once and in order; every one names the one before it."""
    told = {one["unmapped"]["entry"]["index"]: one["unmapped"]["entry"]["previous"] for one in events}
    indexes = sorted(told)
    assert [told[index] for index in indexes] == [None, *indexes[:-1]]
    return indexes


async def test_what_a_killed_receiver_may_have_lost_is_told_again_and_nothing_is_missing(
    tmp_path: Path, database: TestDatabase, receiver: Rsyslog, authority: Authority
) -> None:
    async with sealing(sealer_config(database, tmp_path)):
        for number in range(5):
            await until_sealed(database, await write(database, act(number), pending()))
        table = facts(authority, receiver.port)
        async with telling(tmp_path, table, database):
            await until(lambda: granted(receiver) == 5)
            receiver.kill()
            await until(lambda: not place.load(tmp_path, "soc").connected)
            await until_sealed(database, await write(database, act(5)))
            receiver.start()
            await until(lambda: granted(receiver) == 6)
        told = [one["metadata"]["uid"] for one in receiver.events()]
        assert len(told) > len(set(told))  # the overlap
        assert receiver.events()[-1]["user"]["name"] == "s-5"
        assert place.load(tmp_path, "soc").sent == tuple(chained(receiver.events()))


async def test_the_plane_begins_where_it_was_and_tells_one_tenant_alone(
    tmp_path: Path, database: TestDatabase, receiver: Rsyslog, authority: Authority
) -> None:
    table = facts(authority, receiver.port, tenant="other", overlap=1)
    async with sealing(sealer_config(database, tmp_path)):
        for number in range(3):
            await until_sealed(database, await write(database, act(number, "other")))
            await until_sealed(database, await write(database, act(number, "demo")))
        async with telling(tmp_path, table, database):
            await until(lambda: len(receiver.events()) == 3)
        await until_sealed(database, await write(database, act(3, "other")))
        async with telling(tmp_path, table, database):
            await until(lambda: len(receiver.events()) == 5)
    assert [one["user"]["name"] for one in receiver.events()] == ["s-0", "s-1", "s-2", "s-2", "s-3"]
    assert {one["metadata"]["tenant_uid"] for one in receiver.events()} == {"other"}
    assert len(chained(receiver.events())) == 4


async def test_a_receiver_with_another_certificate_is_told_nothing(
    tmp_path: Path, database: TestDatabase, receiver: Rsyslog, authority: Authority
) -> None:
    (tmp_path / "wrong").mkdir()
    wrong = Authority(tmp_path / "wrong")
    table = replace(facts(authority, receiver.port), ca=str(wrong.ca))
    async with sealing(sealer_config(database, tmp_path)):
        await until_sealed(database, await write(database, act(0)))
    async with telling(tmp_path, table, database):
        await until(lambda: "CERTIFICATE_VERIFY_FAILED" in (place.load(tmp_path, "soc").fault or ""))
    assert receiver.events() == []
    assert place.load(tmp_path, "soc").read == 0


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": "So C"}, "siem[0].name"),
        ({"host": "a b"}, "siem[0].host"),
        ({"port": 0}, "siem[0].port"),
        ({"tenant": "No"}, "siem[0].tenant"),
        ({"overlap": -1}, "siem[0].overlap"),
        ({"message_bytes": 100}, "siem[0].message_bytes"),
        ({"key": None}, "siem[0].certificate"),
        ({"ca": "/nowhere.pem"}, "siem[0].ca"),
    ],
)
def test_a_table_that_cannot_work_keeps_the_plane_from_starting(
    authority: Authority, changed: dict[str, Any], field: str
) -> None:
    config.check((facts(authority, 6514),))
    with pytest.raises(SettingInvalid) as refused:
        config.check((replace(facts(authority, 6514), **changed),))
    assert refused.value.field == field
