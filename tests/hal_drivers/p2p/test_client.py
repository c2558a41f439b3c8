# SPDX-License-Identifier: Apache-2.0
"""The plane's way to its fabric: what is asked is answered, refused or away, and never anything else (decision 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import AskRefused, FabricAway
from hal_drivers.p2p.office import AskStanding, Done, Enrol, Poll, Standing
from tests.hal_drivers.p2p.fabric_double import fabric


@pytest.fixture
def socket() -> Iterator[Path]:
    """Short enough for a socket's address."""
    with TemporaryDirectory(prefix="q") as folder:
        yield Path(folder) / "fabric.sock"


async def test_one_connection_serves_one_ask_after_another_and_many_at_once(socket: Path) -> None:
    office = Office(socket)
    async with fabric(socket) as double:
        for version in (1, 2):
            await office.ask(Enrol(version, ()), Done)
        assert (await office.ask(AskStanding(), Standing)).enrolled_version == 2
        assert double.connections == 1
        found = await asyncio.gather(*(office.ask(AskStanding(), Standing) for _ in range(20)))
        assert {one.enrolled_version for one in found} == {2}
        await office.close()


async def test_a_refusal_keeps_its_code_and_the_connection(socket: Path) -> None:
    office = Office(socket)
    async with fabric(socket) as double:
        await office.ask(Enrol(5, ()), Done)
        with pytest.raises(AskRefused) as refused:
            await office.ask(Enrol(4, ()), Done)
        assert refused.value.code == "out_of_date"
        await office.ask(AskStanding(), Standing)
        assert double.connections == 1
        await office.close()


async def test_a_fabric_that_was_started_again_is_asked_again(socket: Path) -> None:
    """A kept connection that broke costs nothing: asks may be sent twice."""
    office = Office(socket)
    async with fabric(socket):
        await office.ask(AskStanding(), Standing)
    async with fabric(socket):
        await office.ask(AskStanding(), Standing)
        await office.close()


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff\xff\xff\xff", b"\x00\x00\x00\x05{}   ", b"\x00\x00\x00\x0fnot json at all", b"\x00\x00\x00\x10{"],
)
async def test_what_is_no_answer_is_no_answer(socket: Path, said: bytes) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(garbage, str(socket))
    office = Office(socket)
    with pytest.raises(FabricAway):
        await office.ask(AskStanding(), Standing)
    assert not office._kept
    server.close()


async def test_nobody_there_silence_and_another_answer_are_away(socket: Path) -> None:
    office = Office(socket, limit_s=0.05)
    with pytest.raises(FabricAway, match="isn't there"):
        await office.ask(AskStanding(), Standing)
    async with fabric(socket) as double:
        with pytest.raises(FabricAway, match="answered Standing where Done"):
            await office.ask(AskStanding(), Done)
        double.silent = True
        with pytest.raises(FabricAway, match="in time"):
            await office.ask(Poll("t", wait_ms=10), Standing)
        await office.close()
