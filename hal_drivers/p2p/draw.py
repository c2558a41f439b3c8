# SPDX-License-Identifier: Apache-2.0
"""A plan as a picture (N4): SVG that stands alone, in light and dark, with a title and a description. Pure.

Qubits are rows, those of a fragment beside one another; a fragment is a box over its rows, as far to the right as what
it waits for. A box says who runs it and who would, its services, its fidelity and its cost; an arrow says which
recorded bits are handed on. Nodes have colours, and their names everywhere: no meaning rests on a colour alone. The
same plan gives the same bytes. Of a very large plan the first :data:`MOST` fragments in its order are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from msgspec import Struct

from hal_drivers.p2p.ir import Program
from hal_drivers.p2p.plan import Assignment, Fragment, Plan

MOST = 40
ROWS = 12
"""Of a fragment with more qubits the first and the last rows are drawn."""

_LABELS, _BOX, _GAP, _ROW, _LEAST, _BETWEEN = 96, 300, 120, 20, 132, 22
_HEAD, _MARGIN = 92, 24
_LIGHT = {
    "paper": "#ffffff",
    "ink": "#1c2430",
    "quiet": "#5b6675",
    "line": "#c3cad4",
    "card": "#f6f8fa",
    "wire": "#9aa5b3",
}
_DARK = {
    "paper": "#12161c",
    "ink": "#e6eaf0",
    "quiet": "#9aa6b5",
    "line": "#3a4350",
    "card": "#1a2028",
    "wire": "#5d6876",
}
_NODES = ("#2f6fde", "#0b8f6a", "#b8591c", "#8a45c7", "#b52f5d", "#4d7a10", "#0d7f9c", "#7a5b2e")
_NODES_DARK = ("#7aa7ff", "#4fd0a6", "#f2a268", "#c79bf5", "#f58bb0", "#a5d45c", "#63cbe6", "#d8b98a")
_COLOURS = len(_NODES)


def _palette(of: Mapping[str, str], nodes: Sequence[str]) -> str:
    """Colours as they are, no variables: converters and viewers that are no browsers know none and paint black."""
    return (
        f".paper {{ fill:{of['paper']} }} .card {{ fill:{of['card']}; stroke:{of['line']} }}\n"
        f".wire {{ stroke:{of['wire']}; fill:none }} .bits {{ stroke:{of['ink']}; fill:none; stroke-width:1.6 }}\n"
        f".tip {{ fill:{of['ink']} }} text {{ fill:{of['ink']} }} .quiet {{ fill:{of['quiet']} }}\n"
        f".over {{ paint-order:stroke; stroke:{of['paper']}; stroke-width:5px }}\n"
        + " ".join(f".f{n} {{ fill:{colour} }}" for n, colour in enumerate(nodes))
    )


_STYLE = f"""
text {{ font-family:ui-sans-serif,system-ui,"Segoe UI",Roboto,sans-serif; font-size:12px }}
.big {{ font-size:17px; font-weight:650 }} .strong {{ font-weight:650; font-size:13px }}
.mono {{ font-family:ui-monospace,Menlo,Consolas,monospace; font-size:11px }}
{_palette(_LIGHT, _NODES)}
@media (prefers-color-scheme: dark) {{
{_palette(_DARK, _NODES_DARK)}
}}
"""


class _Box(Struct, frozen=True):
    """Where a fragment stands."""

    fragment: Fragment
    chosen: Assignment
    x: int
    y: int
    height: int


def svg(plan: Plan, program: Program) -> str:
    """The picture."""
    boxes = _placed(plan)
    nodes = sorted({node for box in boxes for node in (box.chosen.primary, *box.chosen.fallbacks)})
    colour = {node: place % _COLOURS for place, node in enumerate(nodes)}
    right = max((box.x + _BOX for box in boxes), default=_LABELS + _BOX) + _MARGIN
    foot = max((box.y + box.height for box in boxes), default=_HEAD) + 34
    legend = _legend(nodes, colour, plan, len(boxes), foot)
    height = foot + 20 * len(legend) + _MARGIN
    width = max(right, 640)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="plan-title plan-what">',
        f'<title id="plan-title">Plan {escape(plan.plan_id[:12])}</title>',
        f'<desc id="plan-what">{escape(description(plan))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        *_heading(plan),
        *(line for box in boxes for line in _wires(box, program, right)),
        *_arrows(boxes, program),
        *(line for box in boxes for line in _box(box, program, colour)),
        *legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def description(plan: Plan) -> str:
    """The plan in sentences: what the picture says to who can't see it."""
    chosen = {assignment.fragment_id: assignment for assignment in plan.assignments}
    by_id = {fragment.fragment_id: fragment for fragment in plan.fragments}
    said = [f"Mode {plan.mode}: {plan.mode_reason}."]
    for name in plan.order[:MOST]:
        fragment, assignment = by_id[name], chosen[name]
        after = f" after {', '.join(fragment.depends_on)}" if fragment.depends_on else ""
        spare = f", or {', '.join(map(short, assignment.fallbacks))}" if assignment.fallbacks else ""
        said.append(f"{name} ({_qubits(fragment)}) runs{after} on {short(assignment.primary)}{spare}.")
    if len(plan.order) > MOST:
        said.append(f"{len(plan.order) - MOST} more fragments follow.")
    return " ".join([*said, *(f"{one}." for one in plan.approximations)])


def short(node: str) -> str:
    """A node's id as people tell them apart: peer ids begin alike."""
    return node if len(node) <= 16 else f"…{node[-8:]}"


def _placed(plan: Plan) -> list[_Box]:
    """A column for each step of waiting; rows from above in the plan's order."""
    chosen = {assignment.fragment_id: assignment for assignment in plan.assignments}
    by_id = {fragment.fragment_id: fragment for fragment in plan.fragments}
    column: dict[str, int] = {}
    boxes = []
    y = _HEAD
    for name in plan.order[:MOST]:
        fragment = by_id[name]
        column[name] = 1 + max((column[other] for other in fragment.depends_on), default=-1)
        height = max(_LEAST, _ROW * min(len(fragment.qubits), ROWS) + 12)
        boxes.append(_Box(fragment, chosen[name], _LABELS + column[name] * (_BOX + _GAP), y, height))
        y += height + _BETWEEN
    return boxes


def _heading(plan: Plan) -> Iterator[str]:
    yield _text(_MARGIN, 36, f"Plan {plan.plan_id[:12]}", "big")
    yield _text(_MARGIN, 57, f"{plan.mode}: {plan.mode_reason}")
    facts = f"{plan.alias_model} · seed {plan.seed} · {plan.shots:,} shots · {plan.planner}"
    yield _text(_MARGIN, 75, facts, "quiet")


def _wires(box: _Box, program: Program, right: int) -> Iterator[str]:
    shown: list[int | None] = list(box.fragment.qubits)
    if len(shown) > ROWS:
        half = ROWS // 2
        shown = [*shown[: half - 1], None, *shown[-half:]]
    top = box.y + (box.height - _ROW * len(shown)) // 2 + _ROW // 2
    for place, qubit in enumerate(shown):
        y = top + place * _ROW
        name = "⋮" if qubit is None else program.qubit_map[qubit]
        yield f'<text class="mono quiet" x="{_LABELS - 16}" y="{y + 4}" text-anchor="end">{escape(name[:14])}</text>'
        if qubit is not None:
            yield f'<path class="wire" d="M{_LABELS - 8} {y}H{box.x}M{box.x + _BOX} {y}H{right - 8}"/>'


def _arrows(boxes: list[_Box], program: Program) -> Iterator[str]:
    at = {box.fragment.fragment_id: box for box in boxes}
    for box in boxes:
        for other in box.fragment.depends_on:
            source = at[other]
            x1, y1 = source.x + _BOX, source.y + source.height // 2
            x2, y2 = box.x, box.y + box.height // 2
            bend = max(40, (x2 - x1) // 2)
            handed = sorted(set(box.fragment.bits_read) & set(source.fragment.bits_written))
            yield f'<path class="bits" d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2 - 7} {y2}"/>'
            yield f'<path class="tip" d="M{x2} {y2}l-9 -5v10z"/>'
            words = ", ".join(_bit(program, bit) for bit in handed[:3]) + (" …" if len(handed) > 3 else "")
            middle = (x1 + x2) // 2, (y1 + y2) // 2 - 7
            yield f'<text class="mono over" x="{middle[0]}" y="{middle[1]}" text-anchor="middle">{escape(words)}</text>'


def _box(box: _Box, program: Program, colour: Mapping[str, int]) -> Iterator[str]:
    fragment, chosen = box.fragment, box.chosen
    n = colour[chosen.primary]
    yield f'<rect class="card" x="{box.x}" y="{box.y}" width="{_BOX}" height="{box.height}" rx="8"/>'
    yield f'<rect class="f{n}" x="{box.x}" y="{box.y}" width="6" height="{box.height}" rx="3"/>'
    x, y = box.x + 20, box.y + 24
    yield _text(x, y, fragment.fragment_id, "strong")
    facts = f"{_qubits(fragment)} · {len(fragment.operations)} operations"
    yield f'<text class="quiet" x="{box.x + _BOX - 14}" y="{y}" text-anchor="end">{escape(facts)}</text>'
    yield f'<circle class="f{n}" cx="{x + 5}" cy="{y + 20}" r="5"/>'
    yield _text(x + 17, y + 24, f"{short(chosen.primary)}", "strong")
    spare = "then " + ", ".join(map(short, chosen.fallbacks)) if chosen.fallbacks else "no fallback"
    yield _text(x, y + 44, _held(spare, 44), "quiet")
    for place, line in enumerate(_services(fragment, program)):
        yield _text(x, y + 64 + 15 * place, line, "mono")
    primary = next(one for one in chosen.candidates if one.node_id == chosen.primary)
    if primary.fidelity_ppm is not None and primary.cost is not None:
        figures = f"fidelity {primary.fidelity_ppm / 1_000_000:.4f} · cost {primary.cost:,}"
        yield _text(x, y + 98, figures, "quiet")


def _services(fragment: Fragment, program: Program) -> list[str]:
    """What it uses and how often, in two lines at most."""
    names = [program.operations[number].name for number in fragment.operations]
    said = [f"{service} {names.count(service)}" for service in fragment.services] or ["one-qubit gates alone"]
    lines = [""]
    for one in said:
        longer = f"{lines[-1]} · {one}" if lines[-1] else one
        if len(longer) <= 39:
            lines[-1] = longer
        else:
            lines.append(one)
    return lines if len(lines) <= 2 else [lines[0], _held(" · ".join(lines[1:]), 39)]


def _legend(nodes: list[str], colour: Mapping[str, int], plan: Plan, drawn: int, top: int) -> list[str]:
    made: list[str] = []
    for node in nodes[:MOST]:
        y = top + 20 * len(made)
        made.append(
            f'<g><circle class="f{colour[node]}" cx="{_MARGIN + 5}" cy="{y - 4}" r="5"/>'
            + _text(_MARGIN + 18, y, node, "mono")
            + "</g>"
        )
    notes = [*plan.approximations]
    if drawn < len(plan.order):
        notes.append(f"{len(plan.order) - drawn} more fragments are not drawn")
    for note in notes:
        made.append(_text(_MARGIN, top + 20 * len(made), _held(note, 110), "quiet"))
    return made


def _bit(program: Program, bit: int) -> str:
    for name, width in program.registers:
        if bit < width:
            return f"{name}[{bit}]"
        bit -= width
    return f"bit {bit}"


def _qubits(fragment: Fragment) -> str:
    return "1 qubit" if len(fragment.qubits) == 1 else f"{len(fragment.qubits)} qubits"


def _held(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x}" y="{y}">{escape(text)}</text>'
