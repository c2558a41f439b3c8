# SPDX-License-Identifier: Apache-2.0
"""Attacks on how a bundle is written: the same meaning in other bytes, and one text that two readers read differently.

Enters: the file's bytes and tree. Leaves: changed copies. A verifier that parses before it hashes takes these for the
original; one that reads a doubled key's first value where another reads its last can be shown two records. Pure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from ledger.attack_edits import Copy, Pick
from ledger.attack_shape import OPEN, binary, branches, leaves, put, spelled, written


def spellings(tree: Any, data: bytes, pick: Pick) -> Iterator[Copy]:
    """The file written otherwise: white space, order, escapes, numbers, base64, doubled keys."""
    yield from _whole(tree, data)
    yield from _numbers(tree, pick)
    yield from _texts(tree, pick)
    yield from _doubled(tree, pick)


def _whole(tree: Any, data: bytes) -> Iterator[Copy]:
    loose = json.dumps(tree, ensure_ascii=False, sort_keys=True)
    yield from {
        "a line end after it": data + b"\n",
        "a space before it": b" " + data,
        "a byte order mark before it": b"\xef\xbb\xbf" + data,
        "a NUL after it": data + b"\0",
        "a second document after it": data + b"{}",
        "itself twice": data + data,
        "a comment after it": data + b"/**/",
        "in a list": b"[" + data + b"]",
        "as a text": json.dumps(data.decode()).encode(),
        "in UTF-16": data.decode().encode("utf-16"),
        "in UTF-32": data.decode().encode("utf-32"),
        "spaces after separators": loose.encode(),
        "indented": json.dumps(tree, indent=1, sort_keys=True).encode(),
        "keys in another order": json.dumps(dict(reversed(list(tree.items()))), separators=(",", ":")).encode(),
        "all text escaped": "".join(f"\\u{ord(c):04x}" if c.isalpha() else c for c in loose).encode(),
        "CR LF": loose.replace(", ", ",\r\n").encode(),
        "a trailing comma": data[:-1] + b",}",
    }.items()


def _numbers(tree: Any, pick: Pick) -> Iterator[Copy]:
    """Each number as a fraction, with an exponent, a sign, a leading zero, rounded through a float."""
    numbers = [(at, n) for at, n in leaves(tree, inside=False) if isinstance(n, int) and not isinstance(n, bool)]
    for at, number in pick(numbers, each=6):
        for text in (
            f"{number}.0",
            f"{number}e0",
            f"{number}E+0",
            f"+{number}",
            f"0{number}",
            f"{number}.0000000000000001",
        ):
            yield f"{spelled(at)} as {text}", _spliced(tree, at, text)
    for at, number in pick(numbers, each=1):
        rounded = int(float(f"{number:.2g}"))
        if rounded != number:
            yield f"{spelled(at)} rounded to {rounded}", written(put(tree, at, rounded))


def _texts(tree: Any, pick: Pick) -> Iterator[Copy]:
    """Each text with an escape; each base64 without padding, with its other alphabet, spare bits, a line end."""
    texts = [(at, text) for at, text in leaves(tree, inside=False) if isinstance(text, str) and text]
    for at, text in pick(texts, each=2):
        yield f"{spelled(at)} with an escape", _spliced(tree, at, f'"\\u{ord(text[0]):04x}{json.dumps(text[1:])[1:]}')
        yield f"{spelled(at)} with a mark that joins nothing", written(put(tree, at, text + "\u200b"))
    coded = [(at, text) for at, text in texts if len(text) >= 32 and binary(text) is not None]
    for at, text in pick(coded, each=6):
        others = [
            text.rstrip("="),
            text + "=",
            text[:4] + "\n" + text[4:],
            text + "====",
            base64.urlsafe_b64encode(binary(text) or b"").decode(),
        ]
        if text.endswith("="):
            body = text.rstrip("=")
            spare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            others.append(body[:-1] + spare[spare.index(body[-1]) ^ 1] + "=" * (len(text) - len(body)))
        for number, other in enumerate(others):
            if other != text:
                yield f"{spelled(at)} in base64 of form {number + 1}", written(put(tree, at, other))


def _doubled(tree: Any, pick: Pick) -> Iterator[Copy]:
    """A member twice, its second or first value being another."""
    objects = [(at, branch) for at, branch in branches(tree) if isinstance(branch, dict) and branch and OPEN not in at]
    for at, branch in pick(objects, each=6):
        for name in sorted(branch)[:2]:
            inner = written(branch)[1:-1].decode()
            key = json.dumps(name)
            for what, text in (
                ("first", f"{{{key}:null,{inner}}}"),
                ("last", f"{{{inner},{key}:null}}"),
                ("last, alike", f"{{{inner},{key}:{written(branch[name]).decode()}}}"),
            ):
                yield f"{spelled((*at, name))} twice, another {what}", _spliced(tree, at, text)


def _spliced(tree: Any, at: tuple[str | int, ...], text: str) -> bytes:
    """The tree with raw text at a place: what no value can say."""
    mark = "\x02here\x03"
    return written(put(tree, at, mark)).replace(json.dumps(mark).encode(), text.encode(), 1)
