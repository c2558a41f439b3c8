# SPDX-License-Identifier: Apache-2.0
"""The built-ins of the dialect and what of their arguments engines agree on; and why others are none (G2).

Pure. A built-in stands here only while the parity suite (tests/control_plane/policy/test_parity.py) shows that OPA and
the embedded engine give the same for all arguments that its line allows. docs/policy-dialect.md is made from this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from control_plane.policy.tokens import Token

Arguments = Sequence[Sequence[Token]]
Demand = Callable[[Arguments], str | None]


class Builtin(Struct, frozen=True):
    """`within`: the arguments for which it is in the dialect, where not all are; `demand` says what is wrong with some,
    as far as that is seen in the source.
    """

    does: str
    within: str = ""
    demand: Demand | None = None


_SMALL = "whole numbers up to 2^53 - 1, below zero too"
_PLAIN = "texts without spaces, `!`, quotes, backslashes and control characters"
_ASCII = "texts of plain ASCII"
_SAFE = re.compile(
    r"""\^?(?:(?:[A-Za-z0-9 _@:;,<>=!~&#%/'-]|\\[.*+?()\[\]{}|^$/-]|\\d
    |\[(?:[A-Za-z0-9 _.@:;,/+*?()=!~&#%'-]|\\[-\].d])+\]|[()|])(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})?)*\$?""",
    re.VERBOSE,
)
"""Patterns of which both readers make the same, whatever the text: no dot, no class of what is left out, no spaces by a
name, no flags."""


def _pattern(given: Arguments) -> str | None:
    if not given or len(given[0]) != 1 or given[0][0].kind != "text":
        return "takes a pattern that is written out"
    return None if _safe(given[0][0].text) else f"takes simpler patterns than {given[0][0].text}"


def _safe(pattern: str) -> bool:
    if _SAFE.fullmatch(pattern) is None or "(?" in pattern:
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _base(given: Arguments) -> str | None:
    ten = len(given) == 2 and [token.text for token in given[1]] == ["10"]
    return None if ten else "takes base 10, written out"


def _list(given: Arguments) -> str | None:
    made = [token.text for token in given[1]] if len(given) == 2 else []
    if made[:1] == ["{"] or made[:2] == ["set", "("]:
        return "takes a list, since a set has no order: sort makes one"
    return None


BUILTINS: dict[str, Builtin] = {
    "abs": Builtin("the number without its sign", _SMALL),
    "array.concat": Builtin("two lists in one"),
    "array.reverse": Builtin("a list from its end"),
    "ceil": Builtin("the whole number above", _SMALL),
    "concat": Builtin("the texts of a list, joined", "a list, and no set", _list),
    "contains": Builtin("whether a text holds another"),
    "count": Builtin("how many elements, or characters"),
    "endswith": Builtin("whether a text ends so"),
    "floor": Builtin("the whole number below", _SMALL),
    "format_int": Builtin("a whole number as text", "base 10, numbers below 2^63", _base),
    "intersection": Builtin("what all sets of a set hold"),
    "is_array": Builtin("whether it is a list"),
    "is_boolean": Builtin("whether it is true or false"),
    "is_null": Builtin("whether it is null"),
    "is_number": Builtin("whether it is a number"),
    "is_object": Builtin("whether it is an object"),
    "is_set": Builtin("whether it is a set"),
    "is_string": Builtin("whether it is a text"),
    "lower": Builtin("in lower case", _ASCII),
    "object.filter": Builtin("an object with these keys alone"),
    "object.get": Builtin("a key's value, or another"),
    "object.keys": Builtin("the set of its keys"),
    "object.remove": Builtin("an object without these keys"),
    "object.union": Builtin("two objects in one; the second goes first"),
    "object.union_n": Builtin("the objects of a list in one; a later one goes first"),
    "regex.match": Builtin(
        "whether a pattern is found",
        "a pattern written out, of characters, `[…]`, `(…|…)`, `* + ? {n,m}`, `\\d`, `^`, `$` and marks escaped",
        _pattern,
    ),
    "replace": Builtin("a text with another one in place of a part", "a part that isn't empty"),
    "round": Builtin("the nearest whole number", _SMALL),
    "set": Builtin("`set()`: the empty set"),
    "sort": Builtin("a list or set, as a list in order", _PLAIN),
    "split": Builtin("a text's parts", "a separator that isn't empty"),
    "startswith": Builtin("whether a text begins so"),
    "strings.any_prefix_match": Builtin("whether one of some texts begins with one of others"),
    "strings.any_suffix_match": Builtin("whether one of some texts ends with one of others"),
    "substring": Builtin("so many characters from there on", "numbers that aren't negative"),
    "trim_prefix": Builtin("a text without this beginning"),
    "trim_suffix": Builtin("a text without this end"),
    "type_name": Builtin("the name of its type"),
    "union": Builtin("what any set of a set holds"),
    "upper": Builtin("in upper case", _ASCII),
}
"""By name, as it is called."""

OUTSIDE: dict[str, str] = {
    "http.send": "asks the network",
    "io.jwt.decode_verify": "reads a clock",
    "io.jwt.encode_sign": "is chance",
    "io.jwt.encode_sign_raw": "is chance",
    "net.lookup_ip_addr": "asks the network",
    "opa.runtime": "reads the engine's settings and environment",
    "providers.aws.sign_req": "signs for the network",
    "rand.intn": "is chance",
    "time.now_ns": "reads a clock: the time is in the input",
    "uuid.rfc4122": "is chance",
}
"""Called by nobody, tests included: what a decision rests on must all stand in its input."""

NONE: dict[str, str] = {
    "json.marshal": "orders keys otherwise in the embedded engine",
    "max": "takes 999 before 1000 in the embedded engine; compare by every",
    "min": "takes 10 before 9 in the embedded engine; compare by every",
    "numbers.range": "makes lists of any length",
    "object.subset": "ends the embedded engine's process",
    "print": "writes outside of the answer",
    "product": "answers for what is no number in the embedded engine",
    "regex.split": "may not end in the embedded engine",
    "rego.metadata.chain": "is unknown to the embedded engine",
    "rego.metadata.rule": "is unknown to the embedded engine",
    "sprintf": "writes texts otherwise in the embedded engine; join them with concat",
    "sum": "answers for what is no number in the embedded engine, and OPA's wraps beyond 2^63",
    "to_number": "reads 1.2.3 as 1.2 in the embedded engine",
    "trace": "writes outside of the answer",
    "trim": "cuts into quotes in the embedded engine; there are trim_prefix and trim_suffix",
    "trim_space": "knows other spaces in the embedded engine",
    "walk": "has an order that engines choose",
}
"""What authors would look for, and why it is none. Whatever stands in no table is none either."""

SPACES = frozenset(
    [
        *(
            "array",
            "base64",
            "base64url",
            "bits",
            "crypto",
            "glob",
            "graph",
            "graphql",
            "hex",
            "http",
            "internal",
            "io",
        ),
        *("json", "net", "numbers", "object", "opa", "providers", "rand", "regex", "rego", "semver", "strings", "time"),
        *("units", "uri", "urlquery", "uuid", "yaml"),
    ]
)
"""First words of the built-ins of more than one word."""
