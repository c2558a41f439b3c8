# SPDX-License-Identifier: Apache-2.0
"""The page drawn: A4, embedded fonts, one ink and quiet tints that survive a black-and-white print.

Page in, PDF out, with the bundle's file attached. Every text goes through `glyphs.shown` and is then drawn glyph by
glyph by fpdf2, which writes no character of it into PDF syntax. Runs in the child that makes documents and nowhere
else: fpdf2 and fontTools take their time to import. Not here: what is said (`describe`), signatures (`signing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import assert_never

from fpdf import FPDF
from fpdf.bidi import BidiParagraph
from fpdf.enums import DocumentCompliance
from fpdf.fonts import TTFFont

from control_plane.documents import glyphs
from control_plane.documents.page import Bars, Fact, Page, Part, Section, Table, Text, Tint, count
from control_plane.documents.result import share

FONTS = Path(__file__).with_name("fonts")
MARGIN, BOTTOM, TOP = 18.0, 20.0, 22.0
LABEL = 38.0  # width of a fact's label
INK, GREY, HAIR, BLUE, PALE = (27, 31, 36), (98, 106, 116), (217, 221, 227), (31, 78, 121), (243, 245, 248)
TINTS: dict[Tint, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "good": ((228, 243, 234), (20, 83, 45)),
    "bad": ((251, 231, 231), (127, 29, 29)),
    "unclear": ((253, 243, 215), (113, 63, 18)),
    "quiet": ((234, 237, 241), (55, 65, 81)),
}
_MARKS = {"observed": "o", "asserted": "a", "recomputed": "r", None: ""}


class Sheet(FPDF):
    """The growing document; `y` runs down the page in millimetres."""

    def __init__(self, page: Page, written: datetime) -> None:
        super().__init__(unit="mm", format="A4", enforce_compliance=DocumentCompliance.PDFA_3B)
        for family, style, name in (
            ("text", "", "DejaVuSansCondensed"),
            ("text", "B", "DejaVuSansCondensed-Bold"),
            ("mono", "", "DejaVuSansMono"),
        ):
            self.add_font(family, style, FONTS / f"{name}.ttf")
        self.set_fallback_fonts(["text"], exact_match=False)
        self._covered = frozenset(
            code for font in self.fonts.values() if isinstance(font, TTFFont) for code in font.cmap
        )
        self._head = page
        self.set_margins(MARGIN, TOP, MARGIN)
        self.set_auto_page_break(False)
        self.set_title(self.shown(f"{page.title}: {page.subject}"))
        self.set_creator("QCOS")
        self.set_producer("QCOS")
        self.set_lang("en")
        self.set_creation_date(written)
        self.alias_nb_pages("{pages}")
        self.add_page()

    def shown(self, text: str) -> str:
        """A stranger's text, fit to be drawn."""
        return glyphs.shown(text, self._covered)

    def header(self) -> None:
        """On every page but the first, which has the title."""
        if self.page_no() > 1:
            self._style(GREY, 8)
            self.set_xy(MARGIN, 11)
            self.cell(self.epw, 4, self._fitted(self.shown(f"{self._head.title}: {self._head.subject}"), self.epw))
            self._hair(16)
        self.set_xy(MARGIN, TOP)

    def footer(self) -> None:
        """Whose page it is, and which of how many."""
        self._hair(self.h - 16)
        self._style(GREY, 7.5)
        self.set_xy(MARGIN, self.h - 14)
        self.cell(self.epw - 20, 4, self._fitted(self.shown(self._head.foot), self.epw - 20))
        self.cell(20, 4, f"{self.page_no()} of {{pages}}", align="R")

    def front(self) -> None:
        """Title, badge and the sentence that tells the whole."""
        page = self._head
        self._style(BLUE, 20, bold=True)
        self.set_xy(MARGIN, 16)
        self.cell(120, 9, page.title)
        back, ink = TINTS[page.badge[1]]
        self._style(ink, 11, bold=True)
        width = self.get_string_width(page.badge[0]) + 8
        self.set_fill_color(*back)
        self.set_xy(self.w - MARGIN - width, 16.5)
        self.cell(width, 8, page.badge[0], fill=True, align="C")
        self.set_xy(MARGIN, 27)
        self._style(INK, 9.5, family="mono")
        self._lines(glyphs.wrap(self.shown(page.subject), self.epw, self.get_string_width, anywhere=True), 4.6)
        self.ln(1.5)
        self._style(INK, 10.5)
        self._lines(glyphs.wrap(self.shown(page.lead), self.epw, self.get_string_width), 5.2)
        self.ln(1)
        self._style(GREY, 7.5)
        self._lines(glyphs.wrap(page.key, self.epw, self.get_string_width), 3.6)

    def section(self, section: Section) -> None:
        """A heading, kept together with what follows, and its parts."""
        self._room(24)
        self.ln(4)
        self._style(BLUE, 11.5, bold=True)
        self.cell(self.epw, 6, section.title)
        self.ln(6)
        self._hair(self.get_y())
        self.ln(1.6)
        for part in section.parts:
            self._part(part)

    def _part(self, part: Part) -> None:
        match part:
            case Fact():
                self._fact(part)
            case Table():
                self._table(part)
            case Bars():
                self._bars(part)
            case Text():
                self._text(part)
            case _:
                assert_never(part)

    def _fact(self, fact: Fact) -> None:
        mark = _MARKS[fact.vouched]
        width = self.epw - LABEL - 8
        self._style(INK, 8.4 if fact.mono else 9.5, family="mono" if fact.mono else "text")
        lines = glyphs.wrap(self.shown(fact.value), width, self.get_string_width, anywhere=fact.mono)
        for number, line in enumerate(lines):
            self._room(4.8)
            y = self.get_y()
            if number == 0:
                self._style(GREY, 9)
                self.cell(LABEL, 4.7, fact.label)
                if mark:
                    self._style(GREY, 7.5)
                    self.set_xy(self.w - MARGIN - 6, y)
                    self.cell(6, 4.7, f"({mark})", align="R")
            self._style(INK, 8.4 if fact.mono else 9.5, family="mono" if fact.mono else "text")
            self.set_xy(MARGIN + LABEL, y)
            self._line(line, width, 4.7)
            self.set_xy(MARGIN, y + 4.7)

    def _text(self, text: Text) -> None:
        self.ln(0.8)
        if text.mono:
            self._style(INK, 8.2, family="mono")
            lines = glyphs.wrap(self.shown(text.text), self.epw - 6, self.get_string_width, anywhere=True)
            self._lines(lines, 4.1, indent=3, fill=True)
        else:
            self._style(INK, 9.5, bold=text.strong)
            self._lines(glyphs.wrap(self.shown(text.text), self.epw, self.get_string_width), 4.7)
        self.ln(1)

    def _table(self, table: Table) -> None:
        whole = sum(share for _, share, _ in table.columns)
        widths = [self.epw * share / whole for _, share, _ in table.columns]
        self.ln(1)
        self._room(14)
        self._heading(table, widths)
        for row in table.rows:
            cells: list[list[str]] = []
            for number, (value, width) in enumerate(zip(row, widths, strict=True)):
                self._cell_style(table, number)
                wrapped = glyphs.wrap(
                    self.shown(value), width - 2, self.get_string_width, anywhere=number in table.mono
                )
                cells.append(wrapped)
            for line in range(max(map(len, cells))):
                if self._room(4.4):
                    self._heading(table, widths)
                y, x = self.get_y(), MARGIN
                for number, (lines, width) in enumerate(zip(cells, widths, strict=True)):
                    self._cell_style(table, number)
                    self.set_xy(x + 1, y)
                    self._line(lines[line] if line < len(lines) else "", width - 2, 4.3, right=table.columns[number][2])
                    x += width
                self.set_xy(MARGIN, y + 4.3)
            self._hair(self.get_y() + 0.2)
            self.ln(0.5)
        self.ln(1.2)

    def _heading(self, table: Table, widths: Sequence[float]) -> None:
        y, x = self.get_y(), MARGIN
        self.set_fill_color(*PALE)
        self.rect(MARGIN, y, self.epw, 5.2, style="F")
        self._style(GREY, 8, bold=True)
        for (name, _, right), width in zip(table.columns, widths, strict=True):
            self.set_xy(x + 1, y + 0.4)
            self.cell(width - 2, 4.4, name, align="R" if right else "L")
            x += width
        self.set_xy(MARGIN, y + 5.6)

    def _cell_style(self, table: Table, number: int) -> None:
        mono = number in table.mono
        self._style(INK, 7 if mono else 8.6, family="mono" if mono else "text")

    def _bars(self, bars: Bars) -> None:
        self._room(min(8 + 5.2 * (len(bars.bars) + len(bars.rest)), 120))
        self.ln(1)
        self._style(INK, 9, bold=True)
        self.cell(self.epw, 5, self._fitted(self.shown(f"{bars.title}: {count(bars.total)} shots"), self.epw))
        self.ln(5.6)
        largest = max((number for _, number in bars.bars), default=0) or 1
        drawn = [*((label, number, BLUE) for label, number in bars.bars), *((name, n, GREY) for name, n in bars.rest)]
        self._style(INK, 8.4, family="mono")
        labels = min(max((self.get_string_width(self.shown(label)) for label, *_ in drawn), default=0) + 2, 70)
        room = self.epw - labels - 34
        for label, number, colour in drawn:
            self._room(5.2)
            y = self.get_y()
            self._style(INK, 8.4, family="mono")
            self.set_xy(MARGIN, y)
            self.cell(labels, 4.6, self._fitted(self.shown(label), labels - 1))
            self.set_fill_color(*PALE)
            self.rect(MARGIN + labels, y + 0.6, room, 3.4, style="F")
            self.set_fill_color(*colour)
            if number and colour is BLUE:  # what the picture leaves out is told, not drawn: it would dwarf the rest
                self.rect(MARGIN + labels, y + 0.6, max(room * number / largest, 0.3), 3.4, style="F")
            self._style(INK, 8.6)
            self.set_xy(MARGIN + labels + room + 1, y)
            self.cell(16, 4.6, count(number), align="R")
            self._style(GREY, 8.6)
            self.cell(17, 4.6, share(number, bars.total), align="R")
            self.set_xy(MARGIN, y + 5.0)
        self.ln(1)

    def _lines(self, lines: Sequence[str], height: float, *, indent: float = 0, fill: bool = False) -> None:
        """Lines of one text, over as many pages as they need, in the style that is set."""
        style = self._styled
        for line in lines:
            if self._room(height):
                self._style(style[0], style[1], family=style[2], bold=style[3])
            if fill:
                self.set_fill_color(*PALE)
                self.rect(MARGIN, self.get_y(), self.epw, height, style="F")
            self.set_x(MARGIN + indent)
            self._line(line, self.epw - 2 * indent, height)
            self.set_xy(MARGIN, self.get_y() + height)

    def _line(self, line: str, width: float, height: float, *, right: bool = False) -> None:
        """One line that fits, drawn where the pen is; what is read from the right stands as it is read."""
        turned = glyphs.right_to_left(line)
        drawn = BidiParagraph(text=line).get_reordered_string() if turned else line
        self.cell(width, height, drawn, align="R" if right else "L")

    def _fitted(self, text: str, width: float) -> str:
        """One line of a text, cut with an ellipsis."""
        line = text.replace("\n", " ")
        if self.get_string_width(line) <= width:
            return line
        return glyphs.wrap(line, width - self.get_string_width("…"), self.get_string_width, anywhere=True)[0] + "…"

    def _room(self, height: float) -> bool:
        """Whether a new page was begun, because this much didn't fit on the old one."""
        if self.get_y() + height <= self.h - BOTTOM:
            return False
        self.add_page()
        return True

    def _hair(self, y: float) -> None:
        self.set_draw_color(*HAIR)
        self.set_line_width(0.2)
        self.line(MARGIN, y, self.w - MARGIN, y)

    def _style(self, ink: tuple[int, int, int], points: float, *, family: str = "text", bold: bool = False) -> None:
        self._styled = (ink, points, family, bold)
        self.set_font(family, "B" if bold else "", points)
        self.set_text_color(*ink)


def draw(page: Page, attachment: tuple[str, bytes], written: datetime) -> bytes:
    """The document, unsigned; `attachment` is a name and the bundle file's bytes."""
    sheet = Sheet(page, written)
    sheet.front()
    for section in page.sections:
        sheet.section(section)
    name, data = attachment
    sheet.embed_file(
        bytes=data,
        basename=name,
        mime_type="application/json",
        associated_file_relationship="Data",
        desc="The evidence bundle that this page describes",
        modification_date=written,
        compress=True,  # no byte of a stranger's stands in the file as it is, where a careless reader might look
    )
    return bytes(sheet.output())
