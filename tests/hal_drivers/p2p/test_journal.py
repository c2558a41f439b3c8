# SPDX-License-Identifier: Apache-2.0
"""The journal loses no event that was told, mends what a crash cut, and refuses what somebody changed (N10)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from hal_drivers.p2p.errors import FabricUnusable
from hal_drivers.p2p.journal import Journal
from hal_drivers.p2p.office import EventsAre


def with_journal(folder: Path, work: Callable[[Journal], Awaitable[EventsAre]], **bounds: int) -> EventsAre:
    async def run() -> EventsAre:
        journal = Journal(folder, **bounds)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.keep)
            found = await work(journal)
            nursery.cancel_scope.cancel()
        journal.close()
        return found

    return trio.run(run)


async def ten(journal: Journal) -> EventsAre:
    for number in range(10):
        event = journal.append("attempt:started", node_id=f"node-{number}", facts={"n": number})
    await journal.until(event.seq)
    return await journal.events(0, 1000, 0)


async def read(journal: Journal) -> EventsAre:
    return await journal.events(0, 1000, 1)


def test_events_are_there_again_after_a_restart_in_order_and_chained(tmp_path: Path) -> None:
    first = with_journal(tmp_path, ten)
    assert [e.seq for e in first.events] == list(range(1, 12))
    again = with_journal(tmp_path, read)
    assert again.events[:11] == first.events
    assert [e.kind for e in again.events[11:]] == ["journal:opened"]
    assert again.events[11].facts["head"] == first.head
    assert (tmp_path / "journal-000000000001.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_reader_waits_for_the_next_and_takes_up_where_it_was(tmp_path: Path) -> None:
    async def wait(journal: Journal) -> EventsAre:
        await ten(journal)
        async with trio.open_nursery() as nursery:
            found: list[EventsAre] = []

            async def later() -> None:
                found.append(await journal.events(11, 5, 60))

            nursery.start_soon(later)
            await trio.testing.wait_all_tasks_blocked()
            journal.append("peer:connected", node_id="x")
        assert (await journal.events(3, 4, 0)).events == (await journal.events(0, 100, 0)).events[3:7]
        return found[0]

    import trio.testing

    assert [(e.seq, e.kind) for e in with_journal(tmp_path, wait).events] == [(12, "peer:connected")]


@pytest.mark.parametrize("left", [b"{", b'{"type":"event","event":', b"\0\0\0\n"])
def test_a_line_that_a_crash_cut_is_taken_away_and_said(tmp_path: Path, left: bytes) -> None:
    first = with_journal(tmp_path, ten)
    with next(tmp_path.iterdir()).open("ab") as file:
        file.write(left)
    again = with_journal(tmp_path, read)
    assert again.events[:11] == first.events
    assert [(e.kind, e.facts.get("bytes")) for e in again.events[11:]] == [
        ("journal:mended", len(left)),
        ("journal:opened", None),
    ]
    assert len(with_journal(tmp_path, read).events) == 14


def test_any_other_change_refuses_the_start(tmp_path: Path) -> None:
    with_journal(tmp_path, ten)
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    changed = {
        "a value": whole.replace(b"node-3", b"node-4"),
        "a line gone": b"".join(lines[:4] + lines[5:]),
        "two swapped": b"".join([*lines[:4], lines[5], lines[4], *lines[6:]]),
        "rubbish within": b"".join([*lines[:4], b"{\n", *lines[4:]]),
        "no checkpoint": b"".join(lines[1:]),
    }
    for what, data in changed.items():
        path.write_bytes(data)
        with pytest.raises(FabricUnusable, match="journal"):
            Journal(tmp_path)
        assert path.read_bytes() == data, what
    path.write_bytes(whole)
    Journal(tmp_path).close()


def test_files_turn_over_and_the_oldest_go_with_the_chain_unbroken(tmp_path: Path) -> None:
    async def many(journal: Journal) -> EventsAre:
        for number in range(200):
            journal.append("attempt:started", facts={"n": number})
        await journal.until(journal.last)
        assert journal.first > 1
        found = await journal.events(0, 1000, 0)
        assert found.lost == journal.first - 1
        return found

    found = with_journal(tmp_path, many, largest=4096, files=3)
    assert [e.seq for e in found.events] == list(range(found.lost + 1, 202))
    assert len(list(tmp_path.iterdir())) == 3
    again = with_journal(tmp_path, read, largest=4096, files=3)
    assert again.events[-1].kind == "journal:opened"
    assert again.events[-1].facts["head"] == found.head
    middle = sorted(tmp_path.iterdir())[1]
    middle.unlink()
    with pytest.raises(FabricUnusable):
        Journal(tmp_path)
