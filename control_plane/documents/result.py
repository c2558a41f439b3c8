# SPDX-License-Identifier: Apache-2.0
"""The result's part of the page: a picture of the counts, and their table, of one circuit or of each item. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from control_plane.documents.page import Bars, Part, Table, Text, count
from ledger.bundle import Bundle

PICTURED = 16  # bars of one picture
PICTURED_EACH = 8  # of a program's item
LONG = 16  # bits that a table of several columns can hold
ITEMS = 24  # of a program that get a picture of their own
ROWS = 600  # outcomes that a table shows
ABREAST = 3  # of them in a row of the table
_ORDER = "Bits stand in Qiskit's order: the last classical bit is on the left."


def parts(bundle: Bundle) -> Iterator[Part]:
    """Pictures and tables; of a job without a result, why there is none."""
    if bundle.output_hash is None:
        ended = bundle.error.detail if bundle.error is not None else "it ended before anything was measured"
        yield Text(f"There is no result: {ended}")
        return
    data = bundle.contents.get("result")
    if data is None:
        length = next((part.size for part in bundle.artefacts if part.name == "result"), 0)
        yield Text(
            f"The result has {count(length)} bytes and is too large for this file: it is here by its hash alone, "
            "below. Who holds it can compare it with that hash."
        )
        return
    result = _decoded(data)
    items = result.get("items")
    if isinstance(items, list):
        yield from _program(items)
    else:
        yield from _circuit("Counts", result.get("counts"), PICTURED)
        yield Text(_ORDER)


def annex(bundle: Bundle) -> Iterator[Part]:
    """Each outcome and its count, where the picture leaves some out."""
    found = _counts(_decoded(bundle.contents.get("result", b"")).get("counts"))
    if len(found) <= PICTURED:
        return
    total = sum(found.values())
    ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    cells = [(bits, count(number), share(number, total)) for bits, number in ranked[:ROWS]]
    abreast = ABREAST if max(len(bits) for bits, *_ in cells) <= LONG else 1
    down = -(-len(cells) // abreast)  # read down a column, then the next
    blank = ("", "", "")
    rows = []
    for number in range(down):
        picked = [cells[at] if (at := number + down * column) < len(cells) else blank for column in range(abreast)]
        rows.append(tuple(value for cell in picked for value in cell))
    columns = (("Outcome", 2.4 if abreast > 1 else 8.0, False), ("Count", 1.0, True), ("Share", 1.0, True))
    yield Table(columns * abreast, tuple(rows), frozenset(range(0, 3 * abreast, 3)))
    if len(ranked) > ROWS:
        yield Text(f"{count(len(ranked) - ROWS)} more outcomes are in the attached file.")


def _program(items: list[Any]) -> Iterator[Part]:
    shown = [item for item in items if isinstance(item, Mapping)]
    rows = tuple(
        (
            str(item.get("item")),
            str(item.get("circuit")),
            _or_dash(item.get("parameters")),
            _or_dash(item.get("basis")),
            count(_whole(item.get("shots"))),
            count(len(_counts(item.get("counts")))),
        )
        for item in shown[:ROWS]
    )
    columns = ("Item", "Circuit", "Parameter set", "Basis", "Shots", "Outcomes")
    yield Table(tuple((name, 1.0, number != 3) for number, name in enumerate(columns)), rows)
    if len(shown) > ROWS:
        yield Text(f"{count(len(shown) - ROWS)} more items are in the attached file.")
    for item in shown[:ITEMS]:
        basis = f", basis {item['basis']}" if item.get("basis") else ""
        given = f", parameter set {item['parameters']}" if item.get("parameters") is not None else ""
        title = f"Item {item.get('item')}: circuit {item.get('circuit')}{given}{basis}"
        yield from _circuit(title, item.get("counts"), PICTURED_EACH)
    if len(shown) > ITEMS:
        yield Text(f"The counts of {count(len(shown) - ITEMS)} more items are in the attached file.")
    yield Text(_ORDER)


def _circuit(title: str, counts: object, pictured: int) -> Iterator[Part]:
    found = _counts(counts)
    total = sum(found.values())
    ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    if len(ranked) <= pictured:
        yield Bars(title, tuple(sorted(ranked)), (), total)  # all: in the order of their bits, as people compare them
        return
    bars = tuple(ranked[:pictured])
    others = (f"{count(len(ranked) - pictured)} others", total - sum(number for _, number in bars))
    yield Bars(f"{title}, the {pictured} most frequent of {count(len(ranked))} outcomes", bars, (others,), total)


def share(number: int, total: int) -> str:
    """A part of a whole, in per cent."""
    return f"{100 * number / total:.1f} %" if total else "0.0 %"


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    return value if isinstance(value, dict) else {}


def _counts(value: object) -> dict[str, int]:
    return {str(bits): _whole(number) for bits, number in value.items()} if isinstance(value, Mapping) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)
