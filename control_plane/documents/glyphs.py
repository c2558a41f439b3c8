# SPDX-License-Identifier: Apache-2.0
"""Text of strangers made fit for a page: what can be drawn is drawn, everything else is told by its number.

A control character, a direction override, a character that no embedded font has: each stands as ⟨U+202E⟩, so that a
reader sees that something is there and what. Lines are broken between words, and within a word that fits no line.
Pure: fonts enter as the set of characters that they have and as a function that measures.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Container, Iterator

MAX_CHARACTERS = 4000  # of one text; what a justification may have, and then some
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def shown(text: str, covered: Container[int]) -> str:
    """The text as it is drawn, in composed form; lines are kept, tabs are four spaces."""
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\t", "    "))
    cut = len(composed) - MAX_CHARACTERS
    kept = composed[:MAX_CHARACTERS] if cut > 0 else composed
    drawn = "".join(character if _plain(character, covered) else f"⟨U+{ord(character):04X}⟩" for character in kept)
    return f"{drawn} … ({cut:,} more characters in the attached file)" if cut > 0 else drawn


def right_to_left(line: str) -> bool:
    """Whether a line has characters that are read from the right."""
    return any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in line)


def wrap(text: str, width: float, measure: Callable[[str], float], *, anywhere: bool = False) -> list[str]:
    """The lines of a `shown` text, none wider than `width`; `anywhere` breaks between any two letters."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _broken(paragraph, width, measure) if anywhere else _filled(paragraph, width, measure)
    return lines


def _plain(character: str, covered: Container[int]) -> bool:
    return character == "\n" or (unicodedata.category(character) not in _HIDDEN and ord(character) in covered)


def _filled(paragraph: str, width: float, measure: Callable[[str], float]) -> Iterator[str]:
    line = ""
    for word in paragraph.split(" "):
        longer = f"{line} {word}" if line else word
        if measure(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        *whole, line = _broken(word, width, measure)
        yield from whole
    yield line


def _broken(word: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """A text cut where a line is full; each line has one character at least."""
    lines: list[str] = []
    while measure(word) > width and len(word) > 1:
        low, high = 1, len(word)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if measure(word[:middle]) <= width else (low, middle - 1)
        lines.append(word[:low])
        word = word[low:]
    return [*lines, word]
