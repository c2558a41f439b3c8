# SPDX-License-Identifier: Apache-2.0
"""Notices: whom policy obliges to tell is told, by a signed post to a configured address, or an entry says not (G2)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.errors import SettingInvalid
from control_plane.notices import courier, targets
from control_plane.notices.courier import Courier
from control_plane.notices.targets import NotifyFacts
from control_plane.policy.decision import PolicyUnavailable
from tests.control_plane.jobs.conftest import desk, driver, pdp
from tests.control_plane.jobs.desk import Desk
from tests.control_plane.jobs.test_obligations import Obliging, oblige, rule
from tests.fakes import FakeDriver

__all__ = ["desk", "driver", "oblige", "pdp"]

SECRET = b"a secret of some length"


class Receiver:
    """An HTTP server that keeps what it is sent and answers with the next of `answers`, then 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[str] = []
        self.port = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        self.got.append((fields, await reader.readexactly(int(fields["content-length"]))))
        answer = self.answers.pop(0) if self.answers else "204 No Content"
        writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.take, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


@contextlib.asynccontextmanager
async def told_to(desk: Desk, receiver: Receiver, folder: Path, tries: int = 3) -> AsyncIterator[Courier]:
    """The desk's plane with one table, and its courier."""
    (folder / "secret").write_bytes(SECRET + b"\n")
    facts = NotifyFacts(name="security", url=receiver.url, secret=str(folder / "secret"), tries=tries)
    targets.check((facts,))
    settings = replace(desk.plane.settings, notify=(facts,))
    desk.plane = dataclasses.replace(desk.plane, settings=settings)
    made = Courier(desk.plane)
    try:
        yield made
    finally:
        await made.close()


def waiting(desk: Desk) -> int:
    return int(desk.sql("SELECT count(*) FROM jobs.notice")[0][0])


def soon(desk: Desk) -> None:
    """What failed is due again."""
    desk.sql("UPDATE jobs.notice SET due_at = now()")


async def test_a_notice_is_posted_once_signed_and_told_by_an_entry(
    desk: Desk, receiver: Receiver, oblige: Obliging, tmp_path: Path
) -> None:
    """G2, I10: it says which job and why, and nothing of what the job computes."""
    oblige(tell=rule("notify", "security", projects=["demo"]))
    async with told_to(desk, receiver, tmp_path) as made:
        admission = await desk.submit()
        await made.step()
        assert await made.step() == 0
    ((fields, body),) = receiver.got
    said = json.loads(body)
    assert (said["job_id"], said["because"], said["event"]) == (admission.job_id, "tell: it must be", "job:obliged")
    assert said["decision_id"] == (admission.decision and admission.decision.id)
    assert said["notice"] == fields["qcos-notice"]
    moment, mac = (part.partition("=")[2] for part in fields["qcos-signature"].split(","))
    assert mac == hmac.new(SECRET, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    assert b"OPENQASM" not in body
    assert waiting(desk) == 0
    assert desk.kinds()[-1] == courier.DELIVERED
    assert (await desk.replayed()).differences == []


async def test_what_fails_is_tried_again_and_given_up_in_the_end_with_an_entry(
    desk: Desk, receiver: Receiver, oblige: Obliging, tmp_path: Path
) -> None:
    """A redirect is a failure too: only configured addresses are posted to."""
    oblige(tell=rule("notify", "security"))
    receiver.answers = ["500 Oops", f"307 Go\r\nLocation: http://127.0.0.1:{receiver.port}/elsewhere", "404 No"]
    async with told_to(desk, receiver, tmp_path) as made:
        await desk.submit()
        for left in (1, 1, 0):
            assert await made.step() == 1
            assert waiting(desk) == left
            soon(desk)
        assert await made.step() == 0
    assert len(receiver.got) == 3
    assert len({body for _, body in receiver.got}) == 1
    assert desk.kinds()[-1] == courier.GIVEN_UP
    await desk.seal()
    (leaf,) = desk.sql("SELECT leaf FROM ledger.entry WHERE tenant = 'demo' ORDER BY \"index\" DESC LIMIT 1")[0]
    body = json.loads(bytes(leaf))["body"]
    assert (body["tries"], body["error"], body["channel"]) == (3, "HTTP status 404", "security")
    assert SECRET not in bytes(leaf)


@pytest.mark.faults
async def test_a_receiver_that_is_away_stops_no_job(
    desk: Desk, driver: FakeDriver, receiver: Receiver, oblige: Obliging, tmp_path: Path
) -> None:
    oblige(tell=rule("notify", "security"))
    async with told_to(desk, receiver, tmp_path) as made:
        receiver.port = 1
        settings = replace(desk.plane.settings, notify=(replace(desk.plane.settings.notify[0], url=receiver.url),))
        desk.plane = dataclasses.replace(desk.plane, settings=settings)
        away = Courier(desk.plane)
        job_id = await desk.admitted()
        assert await away.step() == 1
        await away.close()
        await (await desk.attempt(driver)).advance()
        assert (await desk.row(job_id))["final"] == "COMPLETED"
        soon(desk)
        assert await made.step() == 1  # the table as it was before: the address answers again
    assert waiting(desk) == 0


async def test_a_notice_to_nobody_is_no_decision(desk: Desk, oblige: Obliging) -> None:
    """I5: a policy that names a table which isn't there lets nothing through."""
    oblige(tell=rule("notify", "nobody"))
    before = desk.counts()
    with pytest.raises(PolicyUnavailable, match="notify nobody"):
        await desk.submit()
    assert desk.counts() == before


@pytest.mark.faults
async def test_a_table_that_was_taken_away_gives_its_notices_up(
    desk: Desk, receiver: Receiver, oblige: Obliging, tmp_path: Path
) -> None:
    oblige(tell=rule("notify", "security"))
    async with told_to(desk, receiver, tmp_path):
        await desk.submit()
    without = dataclasses.replace(desk.plane, settings=replace(desk.plane.settings, notify=()))
    assert await Courier(without).step() == 1
    assert (waiting(desk), receiver.got) == (0, [])
    assert desk.kinds()[-1] == courier.GIVEN_UP


async def test_a_waiting_jobs_new_obligation_to_tell_is_fulfilled_at_the_gate(
    desk: Desk, driver: FakeDriver, receiver: Receiver, oblige: Obliging, tmp_path: Path
) -> None:
    oblige(tell=rule("notify", "security"))
    async with told_to(desk, receiver, tmp_path) as made:
        await desk.admitted()
        oblige(tell=rule("notify", "security"), more=rule("notify", "security"))
        await (await desk.attempt(driver)).advance()
        assert await made.step() == 2
    assert sorted(json.loads(body)["because"] for _, body in receiver.got) == ["more: it must be", "tell: it must be"]


GOOD: dict[str, Any] = {"name": "ops", "url": "https://example.org/hook"}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": "Ops Team"}, "name"),
        ({"name": ""}, "name"),
        ({"url": "http://example.org/hook"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "https://user:word@example.org/"}, "url"),
        ({"url": "https://example.org/#x"}, "url"),
        ({"url": "https:///nowhere"}, "url"),
        ({"url": "http://127.0.0.1:0/"}, "url"),
        ({"url": "https://example.org/a b"}, "url"),
        ({"url": "http://127.0.0.1.example.org/"}, "url"),
        ({"tries": 0}, "tries"),
        ({"tries": 1000}, "tries"),
        ({"secret": "/nowhere/at/all"}, "secret"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_at_the_start(
    changed: dict[str, Any], field: str, tmp_path: Path
) -> None:
    (tmp_path / "s").write_bytes(SECRET)
    facts = NotifyFacts(**({**GOOD, "secret": str(tmp_path / "s")} | changed))
    with pytest.raises(SettingInvalid) as caught:
        targets.check((facts,))
    assert f"notify[0].{field}" in str(caught.value)


def test_a_name_stands_once_and_a_secret_is_long_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(SECRET)
    (tmp_path / "short").write_bytes(b"hunter2")
    one = NotifyFacts(**GOOD, secret=str(tmp_path / "s"))
    targets.check((one, replace(one, name="other", url="http://localhost:9/x")))
    with pytest.raises(SettingInvalid, match="name"):
        targets.check((one, one))
    with pytest.raises(SettingInvalid, match="16 octets") as caught:
        targets.check((replace(one, secret=str(tmp_path / "short")),))
    assert "hunter2" not in str(caught.value)
