# SPDX-License-Identifier: Apache-2.0
r"""Texts as the embedded engine can hold them: without a character that JSON escapes (I5).

Pure. The engine keeps texts escaped, so that in `a\nb` it counts four characters and finds an `n`. So the quote, the
backslash and the control characters stand for themselves in a plane of Unicode that no input may use: on their way in,
in the policies' own texts, and back. A text is as long as it was, holds what it held and equals what it equalled; only
its place in an order changes, which the dialect leaves to plain texts.
"""

from __future__ import annotations

import json
import re
from typing import Any

from control_plane.policy.tokens import Token, tokens

_PLANE = 0xF0000
_STAND = {_PLANE + code: json.dumps(chr(code))[1:-1] for code in [*range(32), ord('"'), ord("\\")]}
_ESCAPE = re.compile(r'\\(?:u[0-9a-f]{4}|["\\bfnrt])')
_OURS = re.compile(f"[{chr(_PLANE)}-{chr(_PLANE + 0xFF)}]")


def document(value: object) -> str:
    """The JSON of a value, transcribed; raises ValueError where it holds what stands for another character."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if _OURS.search(text):
        raise ValueError("a text holds a private character that the embedded engine needs")
    return _ESCAPE.sub(_stands, text) if "\\" in text else text


def source(text: str) -> str:
    """A Rego source whose texts are transcribed; the pattern of `regex.match` stays as it is written."""
    if _OURS.search(text):
        raise ValueError("the policies hold a private character that the embedded engine needs")
    found, _ = tokens(text)
    parts: list[str] = []
    done = 0
    for at, token in enumerate(found):
        if token.kind == "text" and not _pattern(found, at):
            parts += [text[done : token.begin], document(token.text)]
            done = token.end
    return "".join([*parts, text[done:]])


def answer(value: Any) -> Any:
    """An engine's answer, with the characters that were meant."""
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.translate(_STAND)) if _OURS.search(text) else value


def _stands(found: re.Match[str]) -> str:
    return chr(_PLANE + ord(json.loads(f'"{found.group()}"')))


def _pattern(found: list[Token], at: int) -> bool:
    return [token.text for token in found[max(at - 4, 0) : at]] == ["regex", ".", "match", "("]
