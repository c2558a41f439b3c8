# SPDX-License-Identifier: Apache-2.0
"""N5: a node never gives more windows than it has room for, and what nobody uses is free by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hal_drivers.p2p.calendar import Calendar, Refused, Window


def _get(calendar: Calendar, name: str, *, now: int = 0, start: int = 0, length: int = 100, epoch: int = 1) -> Window:
    window = calendar.reserve(now, ("job", name), epoch, start, length, 50)
    assert isinstance(window, Window)
    return window


def _refused(found: Window | Refused) -> Refused:
    assert isinstance(found, Refused)
    return found


def test_a_conflict_names_the_next_free_window_and_that_one_is_granted() -> None:
    calendar = Calendar(1)
    _get(calendar, "a")
    refused = _refused(calendar.reserve(10, ("job", "b"), 1, 0, 20, 50))
    assert (refused.code, refused.next_free_in_us) == ("window_taken", 90)
    _get(calendar, "b", now=10, start=90, length=20, epoch=2)


def test_a_window_that_nobody_commits_is_free_when_its_hold_ends() -> None:
    calendar = Calendar(1)
    window = _get(calendar, "a")
    assert _refused(calendar.commit(50, ("job", "a"), 1, window.fence)).code == "unknown_window"
    _get(calendar, "b", now=50)


def test_a_committed_window_that_nobody_uses_ends_by_itself() -> None:
    calendar = Calendar(1)
    window = _get(calendar, "a")
    assert isinstance(calendar.commit(10, ("job", "a"), 1, window.fence), Window)
    assert _refused(calendar.reserve(99, ("job", "b"), 1, 0, 10, 50)).next_free_in_us == 1
    _get(calendar, "b", now=100, epoch=2)


def test_an_older_epoch_is_fenced_and_a_newer_one_takes_its_window() -> None:
    calendar = Calendar(1)
    old = _get(calendar, "a", epoch=3)
    new = _get(calendar, "a", epoch=4)
    assert new.fence > old.fence
    assert _refused(calendar.reserve(0, ("job", "a"), 3, 0, 100, 50)).code == "fenced"
    assert _refused(calendar.commit(0, ("job", "a"), 3, old.fence)).code == "fenced"


def test_the_same_attempt_again_has_the_same_window() -> None:
    calendar = Calendar(1)
    assert _get(calendar, "a") == _get(calendar, "a", now=5)


def test_work_begins_before_its_time_where_nobody_loses_by_it() -> None:
    calendar = Calendar(1)
    first, second = _get(calendar, "a"), _get(calendar, "b", start=100)
    for name, window in (("a", first), ("b", second)):
        assert isinstance(calendar.commit(1, ("job", name), 1, window.fence), Window)
    assert isinstance(calendar.begin(2, ("job", "a"), 1, first.fence), Window)
    assert _refused(calendar.begin(3, ("job", "b"), 1, second.fence)).next_free_in_us == 97
    assert calendar.release(("job", "a"), 1)
    begun = calendar.begin(4, ("job", "b"), 1, second.fence)
    assert isinstance(begun, Window)
    assert (begun.start_us, begun.end_us) == (4, 104)


def test_work_that_overruns_keeps_its_place_until_it_is_released() -> None:
    calendar = Calendar(1)
    first, second = _get(calendar, "a"), _get(calendar, "b", start=100)
    for name, window in (("a", first), ("b", second)):
        calendar.commit(1, ("job", name), 1, window.fence)
    calendar.begin(2, ("job", "a"), 1, first.fence)
    assert _refused(calendar.begin(150, ("job", "b"), 1, second.fence)).code == "busy"


@given(st.integers(), st.integers(), st.integers())
def test_no_window_is_given_that_makes_no_sense(start: int, length: int, hold: int) -> None:
    found = Calendar(1).reserve(0, ("job", "a"), 1, start, length, hold)
    assert isinstance(found, Refused) or (start >= 0 < length and hold > 0)


class Days(RuleBasedStateMachine):
    """Any asks at any times: never more windows at once than the capacity, fences rise, refusals tell the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.calendar, self.now, self.fence, self.epochs = Calendar(2), 0, 0, 0

    @rule(name=st.sampled_from("abcd"), start=st.integers(0, 50), length=st.integers(1, 40), hold=st.integers(1, 30))
    def reserve(self, name: str, start: int, length: int, hold: int) -> None:
        self.epochs += 1
        found = self.calendar.reserve(self.now, ("job", name), self.epochs, start, length, hold)
        if isinstance(found, Window):
            assert found.fence > self.fence
            self.fence = found.fence
            return
        assert found.next_free_in_us is not None
        assert found.next_free_in_us > start
        self.epochs += 1
        later = self.calendar.reserve(self.now, ("job", name), self.epochs, found.next_free_in_us, length, hold)
        assert isinstance(later, Window)
        self.fence = later.fence

    @rule(commit=st.booleans())
    def use(self, commit: bool) -> None:
        for window in self.calendar.windows(self.now)[:1]:
            key = (window.token, window.fragment_id)
            self.calendar.commit(self.now, key, window.epoch, window.fence)
            if commit:
                self.calendar.begin(self.now, key, window.epoch, window.fence)
            else:
                self.calendar.release(key, window.epoch)

    @rule()
    def end(self) -> None:
        for window in self.calendar.windows(self.now):
            if window.running:
                self.calendar.release((window.token, window.fragment_id), window.epoch)

    @rule(us=st.integers(0, 60))
    def wait(self, us: int) -> None:
        self.now += us

    @invariant()
    def there_is_room(self) -> None:
        windows = self.calendar.windows(self.now)
        for edge in {window.start_us for window in windows}:
            assert sum(window.start_us <= edge < window.end_us for window in windows) <= 2
        assert all(window.end_us > self.now or window.running for window in windows)


TestDays = Days.TestCase
