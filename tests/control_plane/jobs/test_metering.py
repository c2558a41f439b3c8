# SPDX-License-Identifier: Apache-2.0
"""What a job used is told once a meter, by whom, and only where it is known (G6)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from control_plane.jobs import gathered, metering
from control_plane.jobs.gathered import Ended, Gathered
from control_plane.jobs.metering import Used
from control_plane.jobs.program import Item
from finops.facts import by_meter
from hal_drivers.base import Block, Compiled, CompiledFacts, Outcome, Tally, Usage
from ledger.canonical import timestamp

BEGAN = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
JOB: dict[str, Any] = {
    "backend": "qpu-1",
    "submitted_at": BEGAN - dt.timedelta(seconds=9),
    "history": [{"state": "EXECUTING", "at": timestamp(BEGAN - dt.timedelta(seconds=2))}],
}
COUNTS = st.integers(0, 10_000)
TALLIES = st.builds(Tally, COUNTS, COUNTS, COUNTS, COUNTS)


def compiled(runs: Tally | UnsetType, submitted: Tally | UnsetType = UNSET, **more: Any) -> Compiled:
    why = UNSET if isinstance(runs, Tally) else "a loop may end early"
    facts = CompiledFacts(2, 2, 3, 2, 2, {}, None, (0, 1), "fake", 1, submitted=submitted, runs=runs, uncounted=why)
    return Compiled("qpu-1", b"", "QPY", None, facts, {}, **more)


def outcome(shots: int, usage: Usage | None = None) -> Outcome:
    ended = BEGAN + dt.timedelta(seconds=3)
    counts = {"00": shots} if shots else {}
    used = usage or Usage(wall_s=3.0, cpu_s=None, peak_memory_bytes=None)
    blocks = (Block(shots, counts, BEGAN, ended),) if shots else ()
    return Outcome(counts, blocks, shots, None, None, "fake", used, BEGAN, ended, {})


def told(used: Used) -> dict[str, tuple[str, str, str]]:
    found = by_meter(metering.facts(JOB, used))
    return {name: (str(one.quantity), one.source, one.by) for name, one in found.items()}


def program(parts: list[tuple[Tally | UnsetType, int | None]], **more: Any) -> Used:
    """Items with their tallies and shots; None: it failed."""
    built = [compiled(tally, tally, **more) for tally, _ in parts]
    outcomes = [None if shots is None else outcome(shots) for _, shots in parts]
    done = [one for one in outcomes if one is not None]
    ended = tuple(Ended(Item(n, 0, None, None, {}), one) for n, one in enumerate(outcomes))
    whole = Gathered(
        **{name: getattr(outcome(0), name) for name in Outcome.__struct_fields__}
        | {
            "shots_executed": sum(one.shots_executed for one in done),
            "usage": gathered.total_usage([one.usage for one in done]),
            "items": ended,
        }
    )
    return Used(gathered.built_program("qpu-1", built), whole, simulator=True, result_bytes=10)


@given(st.lists(st.tuples(TALLIES, st.integers(1, 10_000) | st.none()), min_size=1, max_size=6))
def test_gate_shots_are_gates_times_shots_of_what_ran(parts: list[tuple[Tally, int | None]]) -> None:
    """G6: sums over the items that gave a result; what failed counts nowhere."""
    ran = [(tally, shots) for tally, shots in parts if shots is not None]
    if not ran:
        return
    found = told(program(list(parts)))
    assert found["tasks"][0] == str(len(ran))
    for meter, member in metering.GATES.items():
        counts = [(getattr(tally, member), shots) for tally, shots in ran]
        assert found[meter] == (str(sum(n for n, _ in counts)), "measured", "plane")
        assert found[f"submitted_{meter}"][0] == found[meter][0]
        assert found[metering.SHOTS[meter]][0] == str(sum(n * shots for n, shots in counts))


def test_what_one_item_cannot_tell_is_absent_for_all_with_a_gap() -> None:
    """G6: a sum without it would be too small, and would look like a sum."""
    used = program([(Tally(1, 1, 0, 2), 100), (UNSET, 100)])
    assert not [name for name in told(used) if "gate" in name or "measurement" in name]
    assert [(gap.field, gap.reason) for gap in metering.gaps(used)] == [
        ("facts.submitted_gates", "a loop may end early"),
        ("facts.gates", "a loop may end early"),
    ]
    failed = program([(Tally(1, 1, 0, 2), 100), (UNSET, None)])
    assert told(failed)["two_qubit_gate_shots"][0] == "100"
    assert metering.gaps(failed) == []


def test_who_compiled_says_what_was_counted() -> None:
    """G14: a far side's count is its word."""
    far = Used(compiled(Tally(1, 1, 0, 2), Tally(2), ticket="t"), outcome(10), simulator=True, result_bytes=1)
    assert told(far)["two_qubit_gates"] == ("1", "vendor", "qpu-1")
    assert told(far)["circuit_depth"] == ("3", "vendor", "qpu-1")
    assert told(program([(Tally(1), 5)], ticket="t"))["one_qubit_gate_shots"] == ("5", "vendor", "qpu-1")
    assert told(far)["shots"] == ("10", "measured", "plane")


def test_a_processor_has_no_simulated_seconds_and_a_simulator_no_processors() -> None:
    """G6: what isn't told is absent and, of a processor, a gap."""
    made, quiet = compiled(Tally(1), Tally(1)), Usage(3.0, None, None, source="vendor")
    silent = Used(made, outcome(10, quiet), simulator=False, result_bytes=1)
    assert not {"simulator_seconds", "qpu_seconds"} & told(silent).keys()
    assert [gap.field for gap in metering.gaps(silent)] == ["facts.qpu_seconds"]
    timed = replace(silent, outcome=outcome(10, replace(quiet, qpu_s=1.25)))
    assert told(timed)["qpu_seconds"] == ("1.250000", "vendor", "qpu-1")
    own = replace(silent, simulator=True)
    assert told(own)["simulator_seconds"] == ("3.000000", "vendor", "qpu-1")


def test_reserved_time_is_the_nodes_windows_or_the_seat_in_a_session() -> None:
    """G6: and absent where nothing was kept for the job."""
    bare = Used(compiled(Tally(1), Tally(1)), outcome(10), simulator=True, result_bytes=1)
    assert "reservation_seconds" not in told(bare)
    assert told(replace(bare, session=True))["reservation_seconds"] == ("5.000000", "measured", "plane")
    kept = Usage(3.0, None, None, reserved_s=4.5)
    assert told(replace(bare, outcome=outcome(10, kept)))["reservation_seconds"][0] == "4.500000"
