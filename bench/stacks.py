# SPDX-License-Identifier: Apache-2.0
"""Sampled stacks to a picture: a flame graph as plain SVG, no script, each frame with its share as a tooltip. Pure.

Enters py-spy's raw form, `frame;frame;frame COUNT` a line, root first. A frame is a function and its file as Python
imports it; line numbers are left out, and whatever path a machine has of its own. Width is the share of samples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape

from msgspec import Struct, field

WIDTH, ROW, HEAD, LETTER = 1200, 16, 40, 6.7
MOST_BYTES = 150_000
_FRAME = re.compile(r"(?P<name>.*) \((?P<file>.*?)(?::\d+)?\)")
_OWN = re.compile(r".*?/(?=(?:control_plane|ledger|finops|hal_drivers|bench)/)|.*/(?:site-packages|lib/python3\.\d+)/")
_IDLE = "_worker (concurrent/futures/thread.py)"  # innermost: a pool's thread that waits for work
_SKIPPED = ("<frozen runpy>", "runpy.py")
COLOURS = {
    "control_plane": "#e8925a",
    "ledger": "#d9a441",
    "finops": "#c9b458",
    "hal_drivers": "#d98880",
    "sqlalchemy": "#8fb3d9",
    "psycopg": "#7fa8c9",
    "psycopg_binary": "#7fa8c9",
    "litestar": "#a8c99a",
    "uvicorn": "#b8d1ae",
    "cryptography": "#c3a6d1",
}
OTHER = "#d0cfca"


class Node(Struct):
    """A frame under its callers: samples in it or in what it called."""

    total: int = 0
    below: dict[str, Node] = field(default_factory=dict)


def stacks(raw: str) -> Iterator[tuple[list[str], int]]:
    """The frames of each stack, root first, and its samples; threads that wait for work are left out."""
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        found = [_said(frame) for frame in stack.split(";") if not any(word in frame for word in _SKIPPED)]
        if found and found[-1] != _IDLE:
            yield found, int(count)


def tree(raw: str) -> Node:
    """All stacks of a recording, merged from the root."""
    root = Node()
    for stack, count in stacks(raw):
        node = root
        node.total += count
        for frame in stack:
            node = node.below.setdefault(frame, Node())
            node.total += count
    return root


def by_package(raw: str) -> dict[str, float]:
    """Share of samples whose innermost frame lies in a package, greatest first."""
    found: Counter[str] = Counter()
    for stack, count in stacks(raw):
        found[package(stack[-1])] += count
    return {name: count / found.total() for name, count in found.most_common()}


def package(frame: str) -> str:
    """`ledger` of `batch (ledger/sealer.py)`; the standard library's modules are `python`'s."""
    match = _FRAME.fullmatch(frame)
    top, slash, _ = (match["file"] if match else "").partition("/")
    return top if slash and top in {*COLOURS, *_KNOWN} else "python"


_KNOWN = {
    "opa_client",
    "aiohttp",
    "joserfc",
    "msgspec",
    "opentelemetry",
    "httptools",
    "uvloop",
    "greenlet",
    "multidict",
}


def picture(raw: str, title: str, desc: str) -> str:
    """The flame graph; narrow frames are left out, the narrower the more there are."""
    root = tree(raw)
    for least in (0.002, 0.004, 0.008, 0.016, 0.03):
        boxes = list(_boxes(root, 0, 0.0, root.total * least, root.total))
        rows = 1 + max((depth for depth, *_ in boxes), default=0)
        height = HEAD + rows * ROW + 6
        text = "\n".join([*_head(title, desc, height), *(_box(height, *box) for box in boxes), "</svg>"]) + "\n"
        if len(text.encode()) <= MOST_BYTES:
            break
    return text


def _boxes(node: Node, depth: int, left: float, least: float, whole: int) -> Iterator[tuple[int, float, float, str]]:
    for name, inner in sorted(node.below.items()):
        if inner.total >= least:
            yield depth, left / whole, inner.total / whole, name
            yield from _boxes(inner, depth + 1, left, least, whole)
        left += inner.total


def _head(title: str, desc: str, height: int) -> list[str]:
    told = f"{title}. Coloured by package: control_plane, ledger, sqlalchemy, psycopg, litestar; others grey."
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">{escape(desc)}</desc>',
        "<style>text{font:11px monospace;fill:#1c1b18}rect{stroke:#fff;stroke-width:.5}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fdfdfb"/>',
        f'<text x="8" y="20">{escape(told)}</text>',
    ]


def _box(height: int, depth: int, left: float, share: float, name: str) -> str:
    x, width, y = left * WIDTH, share * WIDTH, height - 4 - (depth + 1) * ROW
    fill = COLOURS.get(package(name), OTHER)
    letters = int(width / LETTER) - 1
    words = name if len(name) <= letters else name[: letters - 1] + "…"
    label = f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(words)}</text>' if letters > 3 else ""
    shape = f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW}" fill="{fill}"/>'
    return f"<g><title>{escape(name)} {share:.1%}</title>{shape}{label}</g>"


def _said(frame: str) -> str:
    """The frame without line number and without what lies above its package."""
    match = _FRAME.fullmatch(frame)
    if match is None:
        return frame.rpartition("/")[2]
    file = _OWN.sub("", match["file"])
    return f"{match['name']} ({file.rpartition('/')[2] if file.startswith('/') else file})"
