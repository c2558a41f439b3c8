# SPDX-License-Identifier: Apache-2.0
"""An impact as one HTML file for people: no script, nothing loaded, bars as SVG beside the table that they show. Pure.

Light and dark by the reader's setting, and fit for print. Everything that came from a job is escaped, and the page's
own policy lets nothing run or load even so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from html import escape

from control_plane.policy.impact import Impact, Line, Money, Side
from control_plane.policy.impact_text import UNCLEAR, many, money, short, unclear

_BARS = 12
_WIDTH, _ROW, _LABEL, _VALUE = 720, 26, 190, 190
_STYLE = """
:root { color-scheme: light dark; --ink: #16202c; --dim: #5b6876; --line: #d7dde4; --paper: #fff; --card: #f5f7f9;
  --in: #b45309; --out: #1d4ed8; --same: #4b5563 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --dim: #9aa7b4; --line: #32404d; --paper: #11181f;
  --card: #19232c; --in: #f0a04b; --out: #7aa2f7; --same: #9aa7b4 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem }
.dim { color: var(--dim); margin: .25rem 0 }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; margin: 1.5rem 0 }
.card { background: var(--card); border-top: 4px solid var(--same); padding: 1rem 1.1rem; border-radius: 4px }
.card.in { border-color: var(--in) } .card.out { border-color: var(--out) }
.card b { display: block; font-size: 2rem; line-height: 1.2; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th.n, td.n { text-align: right; white-space: nowrap }
th { font-weight: 600; color: var(--dim) }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--ink); font: 13px system-ui, sans-serif }
.in rect { fill: var(--in) } .out rect { fill: var(--out) }
.wide { overflow-x: auto }
@media print { body { max-width: none; padding: 0; font-size: 11pt } .card, tr, svg { break-inside: avoid }
  .wide { overflow: visible } }
"""


def html(impact: Impact, name: str) -> str:
    """The page, for a candidate that is called so."""
    return "".join(f"{line}\n" for line in _page(impact, name))


def _page(impact: Impact, name: str) -> Iterator[str]:
    title = f"Impact of {escape(name)}"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>"
    yield f"<h1>{title}</h1>"
    yield f'<p class="dim"><code>{escape(short(impact.candidate))}</code> on'
    yield f"{many(impact.recorded, 'recorded decision')}, {escape(impact.since)} to {escape(impact.until)}"
    yield f"{_in_force(impact)}</p>"
    yield from _cards(impact)
    yield from _side("Denied, and would be let in", "in", impact.let_in)
    yield from _side("Allowed, and would be kept out", "out", impact.kept_out)
    yield from _rest(impact)
    yield "</main>\n</body>\n</html>"


def _cards(impact: Impact) -> Iterator[str]:
    same = impact.same
    charged = f", {money(impact.kept_out.charged)} charged" if impact.kept_out.charged else ""
    yield '<div class="cards">'
    for kind, title, count, said in (
        ("in", "DENY → ALLOW", impact.let_in.count, f"at most {money(impact.let_in.upper)}"),
        ("out", "ALLOW → DENY", impact.kept_out.count, f"at most {money(impact.kept_out.upper)}{charged}"),
        ("same", "stay the same", same.allowed + same.denied, f"{same.allowed:,} allowed, {same.denied:,} denied"),
    ):
        yield f'<div class="card {kind}">{title}<b>{count:,}</b>{escape(said if count else "none")}</div>'
    yield "</div>"


def _side(title: str, kind: str, side: Side) -> Iterator[str]:
    if not side.count:
        return
    yield f'<section class="{kind}">\n<h2>{title}</h2>'
    for heading, found in (("project", side.by_project), ("reason", side.by_reason)):
        yield f"<h3>By {heading}</h3>"
        yield _bars(heading, found)
        yield from _table(
            (heading, "decisions", "at most", "charged"),
            [(line.name, f"{line.count:,}", money(line.upper), _paid(line.charged)) for line in found],
        )
    yield f"<h3>The dearest {min(side.count, len(side.shown))} of {side.count:,}</h3>"
    yield from _table(
        ("job", "decided", "project", "why it is denied", "at most"),
        [(flip.job_id, flip.at, flip.project, flip.why, _amount(flip.upper, flip.currency)) for flip in side.shown],
        numbers=1,
    )
    yield "</section>"


def _rest(impact: Impact) -> Iterator[str]:
    same, control = impact.same, impact.control
    yield "<h2>What stays</h2>"
    yield from _table(
        ("", "decisions"),
        [
            ("allowed", f"{same.allowed:,}"),
            ("denied", f"{same.denied:,}"),
            ("of these denied for other reasons", f"{same.other_reasons:,}"),
            ("of these allowed on other backends", f"{same.other_backends:,}"),
            ("would have run elsewhere", f"{same.moved:,}"),
        ],
        numbers=1,
    )
    yield "<h2>What can't be told exactly</h2>"
    rows = [(UNCLEAR[member], f"{count:,}") for member, count in unclear(impact)]
    yield from _table(("", "decisions"), rows or [("nothing", "0")], numbers=1)
    yield f"<p>{control.agreed:,} of {control.checked:,} made again by their own revision came out as recorded: every"
    yield "flip whose revision is at hand, and a sample of the others.</p>"
    if impact.unclear.faults:
        yield "<h3>Answers that weren't sound</h3>\n<ul>"
        yield from (f"<li>{escape(fault)}</li>" for fault in impact.unclear.faults)
        yield "</ul>"
    yield "<h2>Revisions that decided</h2>"
    yield from _table(
        ("revision", "decisions"),
        [(revision, f"{count:,}") for revision, count in impact.by_revision.items()],
        numbers=1,
    )


def _bars(heading: str, found: Sequence[Line]) -> str:
    """The first lines as bars; the table below has all of them, and every number."""
    shown = found[:_BARS]
    most = max(line.count for line in shown)
    room = _WIDTH - _LABEL - _VALUE
    rows = []
    for place, line in enumerate(shown):
        y, width = place * _ROW, max(2, round(room * line.count / most))
        name = line.name if len(line.name) <= 24 else f"{line.name[:23]}…"
        rows.append(
            f'<text x="{_LABEL - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{y + 4}" width="{width}" height="{_ROW - 9}" rx="2"/>'
            f'<text x="{_LABEL + width + 8}" y="{y + 17}">{line.count:,} · {escape(money(line.upper))}</text>'
        )
    label = f"decisions by {heading}, the {len(shown)} most" if len(found) > len(shown) else f"decisions by {heading}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {len(shown) * _ROW}" role="img" aria-label="{label}; the table below has them">'
        f"{''.join(rows)}</svg>"
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> Iterator[str]:
    """Rows of texts; the last `numbers` columns, or all but the first, are numbers."""
    first = len(heading) - numbers if numbers else 1
    kinds = ["" if place < first else ' class="n"' for place in range(len(heading))]
    yield '<div class="wide"><table>'
    heads = (f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, heading, strict=True))
    yield f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>"
    for row in rows:
        cells = (f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _in_force(impact: Impact) -> str:
    return f"; in force is <code>{escape(short(impact.in_force))}</code>" if impact.in_force else ""


def _paid(amounts: Money) -> str:
    return money(amounts) if any(Decimal(amount) for amount in amounts.values()) else ""


def _amount(amount: str | None, currency: str | None) -> str:
    return money({currency: amount}) if amount is not None and currency is not None else ""
