# SPDX-License-Identifier: Apache-2.0
"""Whether an outcome can be of this task and this circuit, whichever driver brings it. Pure.

Counts are whole and positive, add up to the shots that were done, and those are at most the shots that were asked for;
bits are of the compiled width; blocks are at most 64 and add up to the counts; the seed is the one that was asked for.
Fewer shots than asked is an outcome, and says why.
"""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from hal_drivers.base import Compiled, Outcome, Task
from hal_drivers.errors import BackendFailed

BLOCKS = 64
SEEDS = 1 << 53
"""Seeds go into canonical JSON as integers."""
FEWER = "the backend ran {} of {} shots and does not say why"


def judged(outcome: Outcome, compiled: Compiled, task: Task) -> Outcome:
    """The outcome, with a reason where shots are missing; raises BackendFailed for what can't be."""
    done = outcome.shots_executed
    if not 0 <= done <= task.shots:
        raise BackendFailed(f"the backend reports {done} shots where {task.shots} were asked for")
    check_counts(outcome.counts, compiled.facts.clbits, done)
    _check_blocks(outcome)
    if outcome.seed is not None and not 0 <= outcome.seed < SEEDS:
        raise BackendFailed("the seed that it reports is no seed")
    if task.seed is not None and outcome.seed is not None and outcome.seed != task.seed:
        raise BackendFailed("the backend used another seed than was asked for")
    if done < task.shots and outcome.partial is None:
        return replace(outcome, partial=FEWER.format(done, task.shots))
    if done == task.shots and outcome.partial is not None:
        return replace(outcome, partial=None)
    return outcome


def check_counts(counts: dict[str, int], width: int, shots: int) -> None:
    """Whoever reports them has run a stranger's circuit: they must at least be possible. Raises BackendFailed."""
    if sum(counts.values()) != shots or any(count < 1 for count in counts.values()):
        raise BackendFailed("the counts do not add up to the shots")
    if any(len(bits) != width or bits.strip("01") for bits in counts):
        raise BackendFailed("an outcome is no bit string of the circuit's width")


def _check_blocks(outcome: Outcome) -> None:
    if len(outcome.blocks) > BLOCKS:
        raise BackendFailed("the outcome has too many blocks")
    sums: Counter[str] = Counter()
    for block in outcome.blocks:
        if any(count < 1 for count in block.counts.values()) or sum(block.counts.values()) != block.shots:
            raise BackendFailed("a block's counts do not add up to its shots")
        sums.update(block.counts)
    if sums != Counter(outcome.counts):
        raise BackendFailed("the blocks do not add up to the counts")
