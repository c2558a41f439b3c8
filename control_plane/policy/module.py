# SPDX-License-Identifier: Apache-2.0
"""What one Rego file names: package, imports, rules, and each reference with its place and whether it is called (G2).

Pure. Tokens are read, not a grammar: `opa check` judges that. Whatever could make two readers disagree about what is
called (a bracket on a line of its own, a call by a text) is a fault here and never a guess.
"""

from __future__ import annotations

from msgspec import Struct, field

from control_plane.policy.fault import Fault
from control_plane.policy.tokens import Token, tokens

DEEPEST = 60
"""Brackets inside one another: a parser that calls itself has an end."""

_ENDLESS = {
    ",",
    ".",
    ":",
    ":=",
    "=",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&",
    "|",
    "(",
    "[",
    "{",
}


class Use(Struct, frozen=True):
    """One reference: its words as far as they are written out; `called`: a bracket follows; `open`: it goes on with
    something computed; `arguments` are those of a call.
    """

    words: tuple[str, ...]
    line: int
    rule: str | None
    called: bool
    open: bool
    arguments: tuple[tuple[Token, ...], ...] = ()

    @property
    def name(self) -> str:
        """As it is written."""
        return ".".join(self.words)


class Module(Struct):
    """`imports`: path by the name that it has here; `rules` and `functions` by name with the line of the first;
    `variables`: names that rules declare; `unread`: what is no token; `faults`: what could be read in two ways.
    """

    path: str
    package: tuple[str, ...] = ()
    imports: dict[str, Use] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    variables: dict[str, int] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    templates: list[Use] = field(default_factory=list)
    keywords: list[tuple[str, str, Use]] = field(default_factory=list)
    numbers: list[Use] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unread: list[Fault] = field(default_factory=list)


def fault_of(path: str, line: int, rule: str | None, message: str) -> Fault:
    """A fault of the dialect; the message begins with the name of the Rego rule that it is in."""
    return Fault(path, line, "dialect", f"{rule}: {message}" if rule else message)


def read(path: str, source: str) -> Module:
    """Read one file; what can't be read is among its `faults`."""
    found, faults = tokens(source)
    module = Module(path, unread=[fault_of(path, line, None, message) for line, message in faults])
    return _Reader(module, found).read()


class _Reader:
    """One walk over the tokens; `rule` is the one that the walk is in."""

    def __init__(self, module: Module, found: list[Token]) -> None:
        self.module = module
        self.tokens = found
        self.rule: str | None = None
        self.depth = 0
        self.made: list[str] = []
        self.every = False

    def read(self) -> Module:
        at = 0
        while at < len(self.tokens):
            token = self.tokens[at]
            if self._begins(at):
                at = self._statement(at)
                continue
            if token.kind == "mark":
                self._mark(at)
            elif token.kind == "template":
                self.module.templates.append(self._use((), token))
            elif token.kind == "number":
                self.module.numbers.append(self._use((token.text,), token))
            elif token.kind == "keyword":
                self._keyword(at)
            elif token.kind == "name":
                at = self._reference(at)
                continue
            at += 1
        if self.depth:
            self._fault(self.tokens[-1], "a bracket has no end")
        return self.module

    def _begins(self, at: int) -> bool:
        """Whether a rule, `package` or `import` begins here."""
        token = self.tokens[at]
        if self.depth or not token.first or token.kind not in {"name", "keyword"}:
            return False
        if token.kind == "keyword":
            return token.text in {"package", "import", "default"}
        before = self.tokens[at - 1] if at else None
        return before is None or not _goes_on(before)

    def _statement(self, at: int) -> int:
        token = self.tokens[at]
        if token.kind == "keyword":
            self.rule = None
            at += 1
            if token.text == "package":
                self.module.package, at = self._words(at)
                return at
            if token.text == "import":
                return self._import(at)
            if at >= len(self.tokens) or self.tokens[at].kind != "name":
                return at
            token = self.tokens[at]
        self.rule = f"{self.module.package[-1]}.{token.text}" if self.module.package else token.text
        words, after = self._words(at)
        if after < len(self.tokens) and self.tokens[after].text == "(" and self.tokens[after].kind == "mark":
            self.module.functions.setdefault(words[0], token.line)
            if len(words) > 1:
                self._fault(token, "a function has a name of one word here")
            self._declare(range(after + 1, self._closing(after)))
        self.module.rules.setdefault(words[0], token.line)
        return after

    def _import(self, at: int) -> int:
        if at >= len(self.tokens):
            return at
        token = self.tokens[at]
        words, at = self._words(at)
        name = words[-1] if words else ""
        if at + 1 < len(self.tokens) and self.tokens[at].text == "as":
            name, at = self.tokens[at + 1].text, at + 2
        if name in self.module.imports:
            self._fault(token, f"two imports are called {name}")
        self.module.imports[name] = self._use(words, token)
        return at

    def _words(self, at: int) -> tuple[tuple[str, ...], int]:
        """The words of a reference that begins at a name, as far as they are written out, and what follows it."""
        if at >= len(self.tokens) or self.tokens[at].kind not in {"name", "keyword"}:
            return (), at
        words = [self.tokens[at].text]
        at += 1
        while at + 1 < len(self.tokens) and self.tokens[at].glued and self.tokens[at].kind == "mark":
            mark, word = self.tokens[at].text, self.tokens[at + 1]
            if mark == "." and word.glued and word.kind in {"name", "keyword"}:
                at += 2
            elif mark == "[" and word.kind == "text" and self._is(at + 2, "]"):
                at += 3
            else:
                break
            words.append(word.text)
        return tuple(words), at

    def _reference(self, at: int) -> int:
        token = self.tokens[at]
        if at and self.tokens[at - 1].text == "." and token.glued:
            return at + 1  # the last word of something computed
        words, after = self._words(at)
        called = self._is(after, "(") and self.tokens[after].glued
        if called and self.tokens[after - 1].kind == "mark":
            self._fault(token, f"{'.'.join(words)} is called by a text; a call is written with dots")
        goes_on = self._is(after, "[") and self.tokens[after].glued
        given = self._arguments(after) if called else ()
        self.module.uses.append(Use(words, token.line, self.rule, called, goes_on, given))
        if self._is(after, ":="):
            self._declare(range(at, after))
        return after

    def _collect(self, token: Token, before: Token | None) -> None:
        """Keep in mind which brackets are lists and sets that are made: a comma among their conditions is a fault."""
        if token.text in {"(", "[", "{"}:
            ends = before is not None and (
                before.kind in {"name", "text"} or before.text in {")", "]", "}", "if", "else"}
            )
            self.made.append("other" if token.text == "(" or ends else "list")
        elif token.text in {")", "]", "}"} and self.made:
            self.made.pop()
        elif token.text == ":" and self.made and self.made[-1] == "list":
            self.made[-1] = "other"
        elif token.text == "|" and self.made and self.made[-1] == "list":
            self.made[-1] = "conditions"
        elif token.text == "," and self.made and self.made[-1] == "conditions" and not self.every:
            self._fault(
                token, "the embedded engine reads no comma in what a list or set is made by; name the keys first"
            )

    def _arguments(self, at: int) -> tuple[tuple[Token, ...], ...]:
        """Of the call whose bracket is opened here."""
        given: list[list[Token]] = [[]]
        depth = 0
        for place in range(at + 1, self._closing(at)):
            depth += self._turn(place)
            if depth == 0 and self._is(place, ","):
                given.append([])
            else:
                given[-1].append(self.tokens[place])
        return tuple(tuple(words) for words in given if words)

    def _mark(self, at: int) -> None:
        token = self.tokens[at]
        before = self.tokens[at - 1] if at else None
        self._collect(token, before)
        if token.text in {"(", "[", "{"}:
            self.depth += 1
            if self.depth == DEEPEST + 1:
                self._fault(token, f"brackets inside one another more than {DEEPEST} deep")
        elif token.text in {")", "]", "}"}:
            self.depth -= 1
            if self.depth < 0:
                self._fault(token, f"{token.text} closes nothing")
                self.depth = 0
        ends = before is not None and (before.kind in {"name", "text"} or before.text in {")", "]", "}"})
        if token.text == "(" and before is not None and (before.kind == "name" or before.text in {")", "]"}):
            if not (token.glued and before.kind == "name"):
                self._fault(token, "an engine could take this bracket for a call of what stands before it")
        elif token.text == "[" and ends and not token.glued and token.first:
            self._fault(token, "an engine could take this bracket for a part of what stands before it")
        elif token.text == "." and not token.glued:
            self._fault(token, "a dot stands right after a name")
        elif token.text in {"/", "%"}:
            self._fault(token, f"{token.text} rounds otherwise in the embedded engine; multiply the other side")
        elif token.text in {"<", "<=", ">", ">="} and "text" in {self._kind(at - 1), self._kind(at + 1)}:
            self._fault(token, f"{token.text} is for numbers; engines put texts in another order")
        elif token.text == ":=" and before is not None and before.text in {"]", "}"}:
            self._declare(range(self._opening(at - 1), at))

    def _keyword(self, at: int) -> None:
        token = self.tokens[at]
        after = self.tokens[at + 1].text if at + 1 < len(self.tokens) else ""
        self.module.keywords.append((token.text, after, self._use((token.text,), token)))
        self.every = token.text == "every"
        if token.text in {"some", "every"}:
            end = at + 1
            while end < len(self.tokens) and self.tokens[end].text not in {"in", ";"} and not self._new(end, token):
                end += 1
            self._declare(range(at + 1, end))

    def _new(self, at: int, since: Token) -> bool:
        return self.tokens[at].first and not _goes_on(self.tokens[at - 1]) and self.tokens[at] is not since

    def _declare(self, places: range) -> None:
        for at in places:
            token = self.tokens[at]
            if token.kind == "name" and not (at and self.tokens[at - 1].text == "." and token.glued):
                self.module.variables.setdefault(token.text, token.line)

    def _closing(self, at: int) -> int:
        depth = 0
        for place in range(at, len(self.tokens)):
            depth += self._turn(place)
            if depth == 0:
                return place
        return len(self.tokens)

    def _opening(self, at: int) -> int:
        depth = 0
        for place in range(at, -1, -1):
            depth += self._turn(place)
            if depth == 0:
                return place
        return 0

    def _turn(self, at: int) -> int:
        token = self.tokens[at]
        if token.kind != "mark":
            return 0
        return (token.text in {"(", "[", "{"}) - (token.text in {")", "]", "}"})

    def _kind(self, at: int) -> str:
        return self.tokens[at].kind if 0 <= at < len(self.tokens) else ""

    def _is(self, at: int, text: str) -> bool:
        return at < len(self.tokens) and self.tokens[at].kind == "mark" and self.tokens[at].text == text

    def _use(self, words: tuple[str, ...], token: Token) -> Use:
        return Use(words, token.line, self.rule, called=False, open=False)

    def _fault(self, token: Token, message: str) -> None:
        self.module.faults.append(fault_of(self.module.path, token.line, self.rule, message))


def _goes_on(token: Token) -> bool:
    """Whether a line can't end after this."""
    if token.kind == "keyword":
        return token.text not in {"true", "false", "null"}
    return token.kind == "mark" and token.text in _ENDLESS
