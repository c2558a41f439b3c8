# SPDX-License-Identifier: Apache-2.0
"""Bars as inline SVG: shares with whiskers by group, and sums by row. Each says in words what it shows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

SERIES = 8
COLOURS = "\n".join(
    f"svg .s{n} {{ fill: {light}; stroke: var(--ink); stroke-width: .5; }}"
    for n, light in enumerate(("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee8866"))
)
WIDTH, LEFT, TOP, HEIGHT = 960, 60, 34, 260
BAR = 24


def grouped(told: str, names: Sequence[str], groups: Sequence[tuple[str, Sequence[tuple[float, float, float]]]]) -> str:
    """Vertical bars: one group an outcome, in it one bar a name, with a whisker from low to high."""
    most = max((high for _, bars in groups for _, _, high in bars), default=1.0) or 1.0
    room = (WIDTH - LEFT) / max(1, len(groups))
    width = min(40.0, room * 0.8 / max(1, len(names)))
    drawn = [_legend(names), _axis(most)]
    for place, (label, bars) in enumerate(groups):
        start = LEFT + place * room + (room - width * len(bars)) / 2
        for n, (share, low, high) in enumerate(bars):
            x, y = start + n * width, _y(share, most)
            words = f"{names[n]}, {label}: {share:.4f}, {low:.4f} to {high:.4f}"
            drawn.append(
                f'<rect class="s{n % SERIES}" x="{x:.1f}" y="{y:.1f}" width="{width * 0.9:.1f}"'
                f' height="{TOP + HEIGHT - y:.1f}"><title>{escape(words)}</title></rect>'
            )
            middle = x + width * 0.45
            drawn.append(f'<path class="whisker" d="M{middle:.1f} {_y(low, most):.1f}V{_y(high, most):.1f}"/>')
        drawn.append(
            f'<text x="{LEFT + (place + 0.5) * room:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">'
            f"{escape(_short(label))}</text>"
        )
    return _svg(told, TOP + HEIGHT + 30, drawn)


def stacked(told: str, parts: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Horizontal bars: one row a name, its parts one after another, the sum beside it."""
    most = max((sum(values) for _, values in rows), default=1.0) or 1.0
    scale = (WIDTH - 330) / most
    drawn = [_legend(parts)] if len(parts) > 1 else []
    top = TOP if len(parts) > 1 else 8
    for place, (label, values) in enumerate(rows):
        y, x = top + place * (BAR + 10), 200.0
        drawn.append(f'<text x="190" y="{y + BAR * 0.7:.1f}" text-anchor="end">{escape(_short(label, 28))}</text>')
        for n, value in enumerate(values):
            words = f"{label}, {parts[n]}: {value:g}"
            drawn.append(
                f'<rect class="s{n % SERIES}" x="{x:.1f}" y="{y}" width="{max(0.5, value * scale):.1f}"'
                f' height="{BAR}"><title>{escape(words)}</title></rect>'
            )
            x += value * scale
        drawn.append(f'<text x="{x + 8:.1f}" y="{y + BAR * 0.7:.1f}">{sum(values):g}</text>')
    return _svg(told, top + len(rows) * (BAR + 10) + 4, drawn)


def _svg(told: str, height: float, drawn: Sequence[str]) -> str:
    inside = "\n".join(drawn)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(told)}">\n{inside}\n</svg>\n'


def _legend(names: Sequence[str]) -> str:
    room = min(220.0, (WIDTH - LEFT) / max(1, len(names)))
    return "".join(
        f'<rect class="s{n % SERIES}" x="{LEFT + n * room:.1f}" y="6" width="12" height="12"/>'
        f'<text x="{LEFT + n * room + 18:.1f}" y="16">{escape(_short(name, 24))}</text>'
        for n, name in enumerate(names)
    )


def _axis(most: float) -> str:
    lines = []
    for n in range(5):
        value = most * n / 4
        y = _y(value, most)
        lines.append(
            f'<path class="axis" d="M{LEFT} {y:.1f}H{WIDTH}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        )
    return "".join(lines)


def _y(value: float, most: float) -> float:
    return TOP + HEIGHT * (1 - value / most)


def _short(text: str, most: int = 12) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
