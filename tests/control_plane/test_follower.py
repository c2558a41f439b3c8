# SPDX-License-Identifier: Apache-2.0
"""An instance that was cut off catches up, proves that it agrees, and takes up nothing that doesn't (S5, I4, I7)."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.errors import Refused, Unreachable
from control_plane.follower import source as sources
from control_plane.follower.follow import Agreement, catch_up
from control_plane.follower.store import Kept, Store
from control_plane.jobs.register import Register
from control_plane.snapshots import KIND
from ledger import chain, merkle
from ledger.canonical import sha256
from ledger.trust import parse_trust
from tests.ledger.history import History
from tests.ledger.plane import Plane

TENANTS = ("_plane", "demo", "demo", "other")
SIZE, PAGE = 40, 7


class Memory:
    """A source in memory, as an API or a database gives it; `size` is how far the log has come."""

    def __init__(self, log: History, size: int, tenant: str | None) -> None:
        self.log, self.size, self.whole, self.requests = log, size, tenant is None, 0
        own = [at for at, leaf in enumerate(log.leaves) if tenant in (None, chain.scan_leaf(leaf).tenant)]
        self._own = [Kept(number, at, log.leaves[at], tuple(log.records.get(at, ()))) for number, at in enumerate(own)]
        self.breaks_at: int | None = None
        self.breaks: Callable[[], None] = self._away
        self.bend: Callable[[Kept], Kept] = lambda one: one

    def checkpoint(self) -> bytes:
        self._asked()
        return self.log.note(self.size)

    def tile(self, level: int, index: int, width: int) -> bytes:
        self._asked()
        start = index * merkle.TILE_WIDTH
        return b"".join(self.log.nodes[level * 8, place] for place in range(start, start + width))

    def entries(self, start: int) -> list[Kept]:
        self._asked()
        return [self.bend(one) for one in self._own[start : start + PAGE] if one.place < self.size]

    def close(self) -> None:
        """Nothing to close."""

    def _asked(self) -> None:
        self.requests += 1
        if self.requests == self.breaks_at:
            self.breaks()

    @staticmethod
    def _away() -> None:
        raise Unreachable("cut off")


def states(log: History, size: int, tenant: str | None) -> str:
    """The hash of the state that the first entries make, folded here without a follower."""
    register = Register()
    for at, leaf in enumerate(log.leaves[:size]):
        found = chain.parse_leaf(leaf)
        if tenant in (None, found.tenant):
            register.fold(found, found.body, str(at))
            for row in log.records.get(at, ()):
                register.fold(chain.parse_pending(row), chain.body_of(chain.parse_pending(row)), str(at))
    return sha256(register.bytes()) if tenant is None else register.hashes()[tenant]


def made(plane: Plane, *, wrong: int | None = None) -> History:
    """A log whose plane tells its state's hash twice, in its own entries and in the tenant's; one of them may lie."""
    order = [TENANTS[at % 4] for at in range(SIZE)]
    said: dict[int, tuple[str, dict[str, Any]]] = {}
    for at, size, tenant in ((12, 9, None), (13, 9, "demo"), (28, 20, None), (29, 20, "demo")):
        so_far = History(plane, order[:at], folds=(6, 18), said=said)
        digest = sha256(b"a lie") if at == wrong else states(so_far, size, tenant)
        said[at] = (KIND, {"size": size, "root": so_far.root(size).hex(), "state_sha256": digest})
    return History(plane, order, folds=(6, 18), said=said)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> History:
    return made(Plane(tmp_path_factory.mktemp("plane")))


def follow(source: Memory, store: Store) -> Agreement:
    return catch_up(source, store, parse_trust(source.log.plane.trust()))


@pytest.fixture
def room(tmp_path: Path) -> Callable[[], Store]:
    numbers = iter(range(10**6))
    return lambda: Store(tmp_path / f"{next(numbers)}.db")


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_after_a_partition_of_any_length_both_are_of_one_mind(
    log: History, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """S5: and it costs the missing entries and O(log n) tiles."""
    tenant = data.draw(st.sampled_from([None, "demo"]))
    sizes = sorted(data.draw(st.sets(st.integers(2, SIZE), min_size=1, max_size=4)))
    store, seen, compared = Store(tmp_path_factory.mktemp("f") / "f.db"), 0, list[int]()
    for size in sizes:
        source = Memory(log, size, tenant)
        found = follow(source, store)
        assert (found.agrees, found.size, found.root) == (True, size, log.root(size).hex())
        assert found.state_sha256 == states(log, size, tenant)
        compared += found.snapshots
        assert found.entries == store.count() - seen
        assert found.requests <= 1 + found.tiles + math.ceil(found.entries / PAGE) + 1
        assert found.tiles <= 2 * math.ceil(math.log(size + 1, 256)) + 2
        seen = store.count()
    place = {None: (12, 28), "demo": (13, 29)}[tenant]
    assert compared == [told for told, at in zip((9, 20), place, strict=True) if at < sizes[-1]]
    store.close()


@pytest.mark.parametrize("tenant", [None, "demo"])
def test_cut_off_at_any_request_it_goes_on_without_loss(
    log: History, room: Callable[[], Store], tenant: str | None
) -> None:
    """What was fetched is kept: each entry is asked for once, however often the line breaks."""
    for first in (1, 2, 3, 5, 6):
        store, asked = room(), 0
        for _ in range(40):
            source = Memory(log, SIZE, tenant)
            source.breaks_at = first
            try:
                found = follow(source, store)
            except Unreachable:
                asked += source.requests
                if first < 4:  # it never gets to the entries: the line must hold for longer once
                    first = 9
                continue
            break
        assert found.state_sha256 == states(log, SIZE, tenant)
        assert store.count() == (SIZE if tenant is None else SIZE // 2)
        store.close()


def test_killed_in_the_middle_it_goes_on_where_it_was(log: History, tmp_path: Path) -> None:
    """S5: kill -9 between two pages; the next start asks for the rest alone."""
    file = tmp_path / "f.db"
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.control_plane import test_follower as t;"
        "from tests.ledger.plane import Plane; source = t.Memory(t.made(Plane(Path(sys.argv[1]))), t.SIZE, None);"
        "source.breaks_at, source.breaks = 5, lambda: os.kill(os.getpid(), signal.SIGKILL);"
        "t.follow(source, t.Store(Path(sys.argv[2])))"
    )
    keys = tmp_path / "keys"
    ended = subprocess.run([sys.executable, "-c", program, str(keys), str(file)], capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()
    store = Store(file)
    assert (store.count(), store.value("head")) == (2 * PAGE, None)  # checkpoint, tile, two pages
    source = Memory(log, SIZE, None)
    assert follow(source, store).entries == SIZE - 2 * PAGE
    store.close()


@pytest.mark.parametrize("tenant", [None, "demo"])
@pytest.mark.parametrize("place", [1, 6, 10, 37])
def test_a_changed_entry_is_named_and_not_taken_up(
    log: History, room: Callable[[], Store], tenant: str | None, place: int
) -> None:
    """I4: and once the source has the true one again, the follower goes on."""
    store = room()
    follow(Memory(log, 5, tenant), store)
    if place < 5:
        store = room()
    source = Memory(log, SIZE, tenant)
    number = next(one.number for one in source._own if one.place == place)
    source.bend = lambda one: Kept(one.number, one.place, one.leaf[:-9] + b"x" + one.leaf[-8:], one.records) if (
        one.number == number
    ) else one  # fmt: skip
    with pytest.raises(Refused, match=rf"entry {place}\b") as caught:
        follow(source, store)
    assert caught.value.code == "entry_tampered"
    assert follow(Memory(log, SIZE, tenant), store).state_sha256 == states(log, SIZE, tenant)
    store.close()


def test_entries_withheld_doubled_or_of_others_are_refused(log: History, room: Callable[[], Store]) -> None:
    """I7: a tenant's follower is given its own entries, all of them."""
    for tenant in (None, "demo"):
        for change in (
            lambda own: own[:10] + own[11:],
            lambda own: [*own[:10], own[9], *own[10:]],
            lambda own: [*own[:6], Kept(6, own[6].place, log.leaves[3], ()), *own[7:]],
        ):
            source, store = Memory(log, SIZE, tenant), room()
            source._own = change(source._own)
            with pytest.raises(Refused) as caught:
                follow(source, store)
            assert caught.value.code == "entry_tampered"
            store.close()


@pytest.mark.parametrize("tenant", [None, "demo"])
def test_a_fork_and_a_rollback_are_refused(log: History, room: Callable[[], Store], tenant: str | None) -> None:
    store = room()
    follow(Memory(log, 20, tenant), store)
    fork = History(log.plane, ["demo"] * SIZE)
    for size in (20, 21, SIZE):
        with pytest.raises(Refused, match="not the beginning") as caught:
            follow(Memory(fork, size, tenant), store)
        assert caught.value.code == "log_forked"
    with pytest.raises(Refused, match="rollback"):
        follow(Memory(log, 19, tenant), store)
    assert follow(Memory(log, SIZE, tenant), store).agrees
    store.close()


def test_a_checkpoint_of_other_keys_is_refused(log: History, room: Callable[[], Store], tmp_path: Path) -> None:
    stranger = Plane(tmp_path / "stranger")
    store = room()
    with pytest.raises(Refused) as caught:
        catch_up(Memory(log, 5, None), store, parse_trust(stranger.trust()))
    assert caught.value.code == "log_forked"
    store.close()


@pytest.mark.parametrize(("tenant", "at"), [(None, 12), ("demo", 29)])
def test_a_state_that_the_plane_says_and_the_entries_do_not_is_refused(
    log: History, room: Callable[[], Store], tenant: str | None, at: int
) -> None:
    """S5, I6: in one go, and where the follower had come further than the snapshot that it hears of."""
    lying = made(log.plane, wrong=at)
    for before in (2, at):
        store = room()
        follow(Memory(lying, before, tenant), store)
        with pytest.raises(Refused) as caught:
            follow(Memory(lying, SIZE, tenant), store)
        assert caught.value.code == "state_differs"
        store.close()


def test_tiles_are_named_as_tlog_tiles_says() -> None:
    assert [sources.written(index) for index in (0, 7, 999, 1000, 1234067)] == [
        *("000", "007", "999", "x001/000", "x001/x234/067")
    ]
