# SPDX-License-Identifier: Apache-2.0
"""An impact as lines of text: what flips first, then what stays, then what can't be told. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from control_plane.policy.impact import Impact, Line, Money, Side

MOST_LINES = 10
UNCLEAR = {
    "erased": "not replayed: their input was erased",
    "older_form": "not replayed: their input has an older form",
    "unsound": "the candidate gives no sound answer: in force, policy_unavailable",
    "not_reproduced": "left out: their own revision answers otherwise today",
    "unchecked": "flips whose own revision isn't at hand to compare with",
    "running_after": "judged on unfinished jobs as recorded; a flip before them would have changed their number",
    "budget_after": "judged on budgets as recorded; a flip before them would have changed these",
    "unsettled": "judged on a day's shots that flips beside them kept changing",
    "suppressed": "denials of a flood that were counted and not recorded",
}
"""What is unclear, in words, by the member of `Unclear`."""


def lines(impact: Impact, name: str) -> Iterator[str]:
    """The report, for a candidate that is called so."""
    yield f"impact of {name} ({short(impact.candidate)}) on {many(impact.recorded, 'recorded decision')}"
    if not impact.recorded:
        return
    yield f"{impact.since} to {impact.until}{_revisions(impact)}"
    yield ""
    yield from _side("DENY → ALLOW", "would be let in, at most", impact.let_in, charged=False)
    yield from _side("ALLOW → DENY", "would be kept out, at most", impact.kept_out, charged=True)
    yield from _same(impact)
    if impact.carried:
        yield f"{impact.carried:,} were judged on the day's shots as these flips would have left them"
    yield ""
    for member, count in unclear(impact):
        yield f"{count:>9,}  {UNCLEAR[member]}"
    control = impact.control
    yield f"{control.agreed:>9,}  of {control.checked:,} made again by their own revision came out as recorded"
    yield from (f"           {fault}" for fault in impact.unclear.faults)


def unclear(impact: Impact) -> list[tuple[str, int]]:
    """What is unclear and isn't nothing, in the order in which it is told."""
    counted = ((member, getattr(impact.unclear, member)) for member in UNCLEAR)
    return [(member, count) for member, count in counted if count]


def money(amounts: Money) -> str:
    """Amounts for people: to the cent unless they have finer digits that count."""
    return " + ".join(f"{_plain(amount)} {currency}" for currency, amount in amounts.items()) or "no price"


def short(revision: str) -> str:
    """A revision as people compare it."""
    return revision[:19]


def many(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _side(title: str, words: str, side: Side, *, charged: bool) -> Iterator[str]:
    if not side.count:
        yield f"{title}  {0:>9}"
        return
    paid = f"; {money(side.charged)} was charged for them" if charged and side.charged else ""
    yield f"{title}  {side.count:>9,}  {words} {money(side.upper)}{paid}"
    for heading, found in (("project", side.by_project), ("reason", side.by_reason)):
        yield from _lines(heading, found)


def _lines(heading: str, found: tuple[Line, ...]) -> Iterator[str]:
    width = max(len(line.name) for line in found[:MOST_LINES])
    for line in found[:MOST_LINES]:
        yield f"  {heading:<8}  {line.name:<{width}}  {line.count:>9,}  {money(line.upper)}"
    if len(found) > MOST_LINES:
        yield f"  {heading:<8}  and {len(found) - MOST_LINES} more"


def _same(impact: Impact) -> Iterator[str]:
    same = impact.same
    told = [f"{same.allowed:,} allowed", f"{same.denied:,} denied"]
    if same.other_reasons:
        told.append(f"{same.other_reasons:,} of these for other reasons")
    if same.other_backends:
        told.append(f"{same.other_backends:,} on other backends")
    if same.moved:
        told.append(f"{same.moved:,} would have run elsewhere")
    yield f"stay the same {same.allowed + same.denied:>9,}  {', '.join(told)}"


def _revisions(impact: Impact) -> str:
    others = sum(count for revision, count in impact.by_revision.items() if revision != impact.in_force)
    if impact.in_force is None or not others:
        return ""
    return f"; {others:,} of them were recorded under another revision than the one in force ({short(impact.in_force)})"


def _plain(amount: str) -> str:
    whole, _, digits = amount.partition(".")
    return f"{int(whole):,}.{digits.rstrip('0').ljust(2, '0')}"
