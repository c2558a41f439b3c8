# SPDX-License-Identifier: Apache-2.0
"""The comparison as one HTML page that needs nothing else: no script, no address outside, each picture also a table.

Its own policy forbids all but inline style. Light and dark by the reader's choice, dark ink on white in print; nothing
is told by colour alone. Everything that came from elsewhere is escaped. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import Any

from control_plane.compare import chart
from control_plane.compare.report import OTHERS

DRAWN = 16  # outcomes in the picture; the table has more

_STYLE = (
    """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --rule: #d0d7de; --soft: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --rule: #3d444d; --soft: #9ba4ae; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
  margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
p.verdict { border-left: .3rem solid var(--ink); padding: .3rem .9rem; font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
caption { text-align: left; color: var(--soft); padding: .2rem 0; }
th, td { border-bottom: 1px solid var(--rule); padding: .25rem .7rem; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; } th { font-weight: 600; } code { font-size: .85em; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--rule); } svg .whisker { stroke: var(--ink); fill: none; }
"""
    + chart.COLOURS
    + """
@media print { :root { --ink: #000; --paper: #fff; --rule: #999; --soft: #333; } body { max-width: none; padding: 0; }
  section, table, svg { break-inside: avoid; } .scroll { overflow: visible; } }
"""
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(report: dict[str, Any]) -> str:
    """The whole document."""
    title = f"{report['file']} on {len(report['backends'])} backends"
    parts = [
        _head(report, title),
        _section("Backends", "backends", _backends(report["backends"])),
        _section("Distributions", "distributions", _distributions(report)),
        _section("Pairs", "pairs", _pairs(report)),
        _section("Cost", "cost", _costs(report["backends"])),
        _section("Time", "time", _times(report["backends"])),
        _section("Depth after compilation", "depth", _depths(report["backends"])),
        _section("Evidence", "evidence", _evidence(report["backends"])),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(report: dict[str, Any], title: str) -> str:
    verdict = report["verdict"]
    workflow = f" Workflow <code>{escape(report['workflow'])}</code>." if report["workflow"] else ""
    return (
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="verdict"><strong>{escape(verdict["word"])}</strong>: {escape(verdict["because"])}</p>\n'
        f"<p>Made {escape(report['made_at'])}.{workflow} Intervals at {report['confidence']:.0%} (Wilson). Equality is "
        f"judged against a margin of {report['margin']:g} in total variation; the chance of a false alarm over all "
        f"pairs together is at most {report['alpha']:.0%}.</p>"
    )


def _section(title: str, name: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{body}\n</section>'


def _backends(rows: Sequence[dict[str, Any]]) -> str:
    found = [
        (
            row["backend"],
            row["provider"],
            row["state"],
            row["shots"] or None,
            _amount(row),
            _number(row["queue_s"]),
            _number(row["run_s"]),
            row["depth"],
            row["method"],
            row["noise"],
        )
        for row in rows
    ]
    heads = ("backend", "provider", "state", "shots", "cost", "queue s", "run s", "depth", "method", "noise")
    table = _table("What became of the job on each", heads, found, numbers=(3, 4, 5, 6, 7))
    why = [
        f"<li><strong>{escape(row['backend'])}</strong>: {escape(said)}</li>" for row in rows if (said := _said(row))
    ]
    return table + ("<ul>\n" + "\n".join(why) + "\n</ul>" if why else "")


def _said(row: dict[str, Any]) -> str | None:
    if row["error"]:
        return f"{row['error']['code']}: {row['error']['detail']}"
    return f"partial: {row['partial']}" if row["partial"] else None


def _distributions(report: dict[str, Any]) -> str:
    outcomes = report["outcomes"]
    if not outcomes:
        return "<p>No backend gave counts.</p>"
    names = list(outcomes[0]["shares"])
    drawn = [one for one in outcomes if one["outcome"] != OTHERS][:DRAWN]
    groups = [(one["outcome"], [(s["share"], s["low"], s["high"]) for s in one["shares"].values()]) for one in drawn]
    told = f"Shares of the {len(drawn)} most frequent outcomes by backend, with intervals; the table has the numbers"
    picture = chart.grouped(told, names, groups)
    rows = [(one["outcome"], *map(_share, one["shares"].values())) for one in outcomes]
    table = _table("Count (share, interval) of each outcome, last classical bit left", ("outcome", *names), rows)
    return picture + table


def _share(one: dict[str, Any]) -> str:
    return f"{one['count']} ({one['share']:.4f}, {one['low']:.4f} to {one['high']:.4f})"


def _pairs(report: dict[str, Any]) -> str:
    rows = [
        (
            f"{p['a']} and {p['b']}",
            p["verdict"],
            f"{p['distance']:.4f}",
            f"{p['upper']:.4f}",
            f"{p['p_value']:.4f}",
            p["because"],
        )
        for p in report["pairs"]
    ]
    if not rows:
        return "<p>There are no two distributions to compare.</p>"
    heads = ("pair", "verdict", "distance", "at most", "p", "because")
    return _table("Total variation of every two, and a permutation test", heads, rows, numbers={2, 3, 4})


def _costs(rows: Sequence[dict[str, Any]]) -> str:
    bars = [(row["backend"], [float(row["cost"]["amount"])]) for row in rows if row["cost"]]
    table = _table("What was charged", ("backend", "cost"), [(r["backend"], _amount(r)) for r in rows], numbers={1})
    return (chart.stacked("Cost by backend", ("cost",), bars) if bars else "") + table


def _times(rows: Sequence[dict[str, Any]]) -> str:
    bars = [(row["backend"], [row["queue_s"], row["run_s"]]) for row in rows if row["run_s"] is not None]
    cells = [(row["backend"], _number(row["queue_s"]), _number(row["run_s"])) for row in rows]
    told = "Seconds from submission to start, and of the run"
    table = _table(told, ("backend", "queue", "run"), cells, numbers=(1, 2))
    return (chart.stacked("Seconds by backend, queue and then run", ("queue", "run"), bars) if bars else "") + table


def _depths(rows: Sequence[dict[str, Any]]) -> str:
    bars = [(row["backend"], [float(row["depth"])]) for row in rows if row["depth"] is not None]
    cells = [(row["backend"], row["depth"], row["gates"], row["qubits"]) for row in rows]
    table = _table("The compiled circuit", ("backend", "depth", "gates", "qubits"), cells, numbers={1, 2, 3})
    return (chart.stacked("Depth by backend", ("depth",), bars) if bars else "") + table


def _evidence(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        (
            row["backend"],
            row["job_id"],
            row["bundle_id"],
            row["evidence"],
            (row["calibration"] or {}).get("id"),
            (row["calibration"] or {}).get("valid_from"),
            row["seed"],
        )
        for row in rows
    ]
    heads = ("backend", "job", "bundle", "level", "calibration", "valid from", "seed")
    told = "qcos evidence get JOB gives each bundle; qcos verify judges it offline"
    return _table(told, heads, cells, code=(1, 2, 4))


def _table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Collection[int] = (),
    code: Collection[int] = (),
) -> str:
    def cell(place: int, value: object) -> str:
        text = "" if value is None else escape(str(value))
        text = f"<code>{text}</code>" if place in code and text else text
        kind = ' class="n"' if place in numbers else ""
        return f'<th scope="row">{text}</th>' if place == 0 else f"<td{kind}>{text}</td>"

    kinds = [' class="n"' if place in numbers else "" for place in range(len(heads))]
    head = "".join(f'<th scope="col"{kind}>{escape(word)}</th>' for kind, word in zip(kinds, heads, strict=True))
    body = "\n".join("<tr>" + "".join(cell(place, value) for place, value in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _amount(row: dict[str, Any]) -> str | None:
    return f"{row['cost']['amount']} {row['cost']['currency']}" if row["cost"] else None


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
