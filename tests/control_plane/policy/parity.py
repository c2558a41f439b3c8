# SPDX-License-Identifier: Apache-2.0
"""Arguments for every built-in of the dialect, and for its operators: texts that engines stumble over, numbers about
every edge, and values of the wrong type (G2).

A case makes its arguments from a `Random`: of one seed for the golden answers, of Hypothesis's seeds for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import msgspec

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.pdp import Engine
from control_plane.policy.revision import PolicySet, load

Make = Callable[[Random], Any]

TEXTS = [
    *(
        "",
        "a",
        "abc",
        "A",
        "ä",
        "İ",
        "ǅ",
        "ſ",
        "e\u0301",
        "é",
        "🎈",
        "a🎈b",
        "a\0b",
        "\0",
        '"',
        '"q"',
        "'",
        "\\",
        "\\n",
    ),
    *("\n", "\r\n", "\t", "n", "u0000", " a ", "%s", "{x}", "1", "-1", "007", "1.5", "99999999999999999999", "true"),
    *("null", "a/b/c", "a.b.c", "*", "[a-z]+", "(", "^a", ",", "a,b,c", "1.2.3", "\u2028", "\ufeff", "abcabc", "\x7f"),
    *("\u00a0x", "\u0085", "é,é", "$1", "]]>", "\ud7fb", "\ue000", "\uffff", "eu-west-1", "us-east-22"),
]
PLAIN = [text for text in TEXTS if not any(character in '"\\!' or character <= " " for character in text)]
ASCII = [text for text in TEXTS if text.isascii()]
SMALL = [0, 1, -1, 2, 9, 10, 16, 999, 1000, -5, 2**31, 2**32, 2**53 - 1, -(2**53 - 1)]
LARGE = [*SMALL, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 2**64 + 5, 10**30, -(10**30)]


def text(random: Random) -> str:
    """Of one or two pieces."""
    return random.choice(TEXTS) + (random.choice(TEXTS) if random.random() < 0.3 else "")


def plain(random: Random) -> str:
    """One whose place in an order is agreed on."""
    return random.choice(PLAIN) + (random.choice(PLAIN) if random.random() < 0.3 else "")


def ascii_text(random: Random) -> str:
    """One whose case is agreed on."""
    return random.choice(ASCII)


def filled(random: Random) -> str:
    """One that isn't empty."""
    return text(random) or "-"


def small(random: Random) -> int:
    """Within 2^53."""
    return random.choice(SMALL) if random.random() < 0.7 else random.randint(-50, 50)


def large(random: Random) -> int:
    """Any whole number."""
    return random.choice(LARGE) if random.random() < 0.7 else random.randint(-50, 50)


def signed(random: Random) -> int:
    """Within 2^63."""
    return max(min(large(random), 2**63 - 1), -(2**63))


def place(random: Random) -> int:
    """Into a text."""
    return random.randint(0, 6)


def value(random: Random, deep: int = 2) -> Any:
    """Of any type."""
    kind = random.randint(0, 7 if deep else 4)
    match kind:
        case 0 | 1:
            return text(random)
        case 2 | 3:
            return large(random)
        case 4:
            return random.choice([True, False, None])
        case 5 | 6:
            return [value(random, deep - 1) for _ in range(random.randint(0, 3))]
        case _:
            return {text(random): value(random, deep - 1) for _ in range(random.randint(0, 3))}


def many(make: Make) -> Make:
    """A list of such."""
    return lambda random: [make(random) for _ in range(random.randint(0, 4))]


def thing(random: Random) -> dict[str, Any]:
    """An object."""
    return {text(random): value(random, 1) for _ in range(random.randint(0, 3))}


def known_key(random: Random) -> str:
    """One of a few."""
    return random.choice(["a", "ä", "\n", "a\0", '"'])


def known(random: Random) -> dict[str, Any]:
    """An object that often has it."""
    return {known_key(random): random.choice([value(random, 1), small(random)]) for _ in range(3)}


class Case(NamedTuple):
    """A Rego expression over `a`, `b`, `c` and what makes them; `any_type`: one of them may be of any type at times;
    `sets`: the answer holds sets, which have no order.
    """

    expression: str
    made: tuple[Make, ...]
    any_type: bool = True
    sets: bool = False

    def arguments(self, random: Random) -> list[Any]:
        """One list of arguments; one in eight of another type."""
        loose = self.any_type
        return [value(random) if loose and random.random() < 0.12 else make(random) for make in self.made]


_SETS = "{x | some x in a}", "{x | some x in b}"

CASES: dict[str, Case] = {
    "abs": Case("abs(a)", (small,), any_type=False),
    "array.concat": Case("array.concat(a, b)", (many(value), many(value))),
    "array.reverse": Case("array.reverse(a)", (many(value),)),
    "ceil": Case("ceil(a)", (small,), any_type=False),
    "concat": Case("concat(a, b)", (text, many(text))),
    "contains": Case("contains(a, b)", (text, text)),
    "count": Case("count(a)", (value,)),
    "endswith": Case("endswith(a, b)", (text, text)),
    "floor": Case("floor(a)", (small,), any_type=False),
    "format_int": Case("format_int(a, 10)", (signed,), any_type=False),
    "intersection": Case(f"intersection({{{_SETS[0]}, {_SETS[1]}}})", (many(value), many(value)), sets=True),
    **{f"is_{kind}": Case(f"is_{kind}(a)", (value,)) for kind in ("array", "boolean", "null", "number", "object")},
    "is_set": Case("[is_set(a), is_set({a})]", (value,)),
    "is_string": Case("is_string(a)", (value,)),
    "lower": Case("lower(a)", (ascii_text,), any_type=False),
    "object.filter": Case("object.filter(a, b)", (known, many(known_key))),
    "object.get": Case("object.get(a, b, c)", (known, known_key, value)),
    "object.keys": Case("object.keys(a)", (thing,), sets=True),
    "object.remove": Case("object.remove(a, b)", (known, many(known_key))),
    "object.union": Case("object.union(a, b)", (thing, thing)),
    "object.union_n": Case("object.union_n([a, b])", (thing, thing)),
    "regex.match": Case("regex.match(`^(eu|us)-[a-z]+-\\d{1,2}$`, a)", (text,)),
    "replace": Case("replace(a, b, c)", (text, filled, text), any_type=False),
    "round": Case("round(a)", (small,), any_type=False),
    "set": Case("set() | {a}", (value,), sets=True),
    "sort": Case("[sort(a), sort({x | some x in a})]", (many(plain),), any_type=False),
    "split": Case("split(a, b)", (text, filled), any_type=False),
    "startswith": Case("startswith(a, b)", (text, text)),
    "strings.any_prefix_match": Case("strings.any_prefix_match(a, b)", (text, many(text))),
    "strings.any_suffix_match": Case("strings.any_suffix_match(a, b)", (many(text), text)),
    "substring": Case("substring(a, b, c)", (text, place, place), any_type=False),
    "trim_prefix": Case("trim_prefix(a, b)", (text, text)),
    "trim_suffix": Case("trim_suffix(a, b)", (text, text)),
    "type_name": Case("type_name(a)", (value,)),
    "union": Case(f"union({{{_SETS[0]}, {_SETS[1]}}})", (many(value), many(value)), sets=True),
    "upper": Case("upper(a)", (ascii_text,), any_type=False),
    "equal": Case("[a == b, a != b, a == a]", (value, value)),
    "order of numbers": Case("[a < b, a <= b, a > b, a >= b]", (large, large), any_type=False),
    "sums": Case("[a + b, a - b, a * b, 0 - a]", (large, large), any_type=False),
    "sum of what isn't numbers": Case("a + b", (value, large)),
    "set operators": Case(f"[{_SETS[0]} & {_SETS[1]}, {_SETS[0]} | {_SETS[1]}]", (many(value), many(value)), sets=True),
    "difference": Case(f"{_SETS[0]} - {_SETS[1]}", (many(value), many(value)), sets=True),
    "member": Case("[a in b, b in [a], 1 in a]", (value, many(value))),
    "key and member": Case('{"a": 1 | some k, x in c; k == a; x == b}', (known_key, small, known)),
    "part": Case("a[b]", (known, known_key)),
    "part of a list": Case("a[b]", (many(value), place)),
    "some": Case("{k: [x, k] | some k, x in a}", (value,), sets=True),
    "every": Case("{1 | every x in a { x != b }}", (many(value), value)),
    "not": Case("{1 | not a[b]}", (known, known_key)),
    "object of": Case("{k: x | some k, x in a}", (thing,)),
    "texts": Case('[a == "\\n", a == "\\u0000", a == `\\`, contains(a, "\\\\"), startswith(`"q"x`, a)]', (text,)),
    "else": Case("graded(a)", (value,)),
}
"""By built-in, then operators and forms."""

_GRADED = """
graded(x) := "text" if is_string(x)

else := "none" if x == null

else := "other"
"""


async def said(engine: Engine, name: str, arguments: list[Any]) -> Any:
    """The value in a list, an empty list where it is undefined, or `error`."""
    try:
        answer = await engine.evaluate(POLICIES, asked(name, arguments))
    except PolicyUnavailable:
        return "error"
    return _sorted(answer) if CASES[name].sets else answer


def _sorted(answer: Any) -> Any:
    return sorted(map(_sorted, answer), key=_key) if isinstance(answer, list) else answer


def _key(element: Any) -> str:
    return json.dumps(element, sort_keys=True)


def policies() -> PolicySet:
    """One decision that is the case that the input names: a list of its value, empty where that is undefined."""
    rules = []
    for number, case in enumerate(CASES.values()):
        named = {letter: f"input.arguments[{place}]" for place, letter in enumerate("abc"[: len(case.made)])}
        given = "\n".join(f"\t\t{letter} := {where}" for letter, where in named.items())
        rules.append(f"decision := [x |\n{given}\n\t\tx := {case.expression}\n\t] if input.case == {number}\n")
    module = "package qcos.main\n\n" + "\n".join(rules) + _GRADED
    return msgspec.structs.replace(
        load(), modules={"qcos/main/decision.rego": module}, data={}, revision="sha256:" + "0" * 64
    )


def asked(name: str, arguments: list[Any]) -> bytes:
    """The input that asks for one case."""
    return json.dumps({"case": list(CASES).index(name), "arguments": arguments}, ensure_ascii=False).encode()


POLICIES = policies()
