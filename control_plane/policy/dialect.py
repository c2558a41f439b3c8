# SPDX-License-Identifier: Apache-2.0
"""The Rego that both engines read alike, and a check that policies are written in it, by file, line and rule (G2, I5).

Pure. What may be called stands in `builtins`; what is referred to must be there; forms that the engines read
differently are refused, whatever OPA thinks of them. Tests may use all of OPA's Rego but what reaches out of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from control_plane.policy.builtins import BUILTINS, NONE, OUTSIDE, SPACES
from control_plane.policy.fault import Fault
from control_plane.policy.module import Module, Use, fault_of, read


def check(modules: Mapping[str, str], data: Mapping[str, Any]) -> tuple[Fault, ...]:
    """All faults of the rules' files (tests aside), in order; `data` are the documents of `data/` by their keys."""
    found = [read(path, source) for path, source in sorted(modules.items())]
    rules: dict[tuple[str, ...], set[str]] = {}
    functions: dict[tuple[str, ...], set[str]] = {}
    for module in found:
        rules.setdefault(module.package, set()).update(module.rules)
        functions.setdefault(module.package, set()).update(module.functions)
    held = _Held(rules, functions, data)
    faults = {fault for module in found for fault in [*module.unread, *module.faults, *_judged(module, held)]}
    return tuple(sorted(faults, key=lambda fault: (fault.path, fault.line, fault.message)))


def check_tests(tests: Mapping[str, str]) -> tuple[Fault, ...]:
    """Faults of the tests' files: they may call what they like but what reaches out."""
    faults = []
    for path, source in sorted(tests.items()):
        module = read(path, source)
        faults += module.unread
        for use in module.uses:
            if (why := OUTSIDE.get(use.name)) is not None:
                faults.append(_fault(module, use, f"{use.name} {why}"))
        faults += [_fault(module, use, "a template is not looked into") for use in module.templates]
    return tuple(sorted(set(faults), key=lambda fault: (fault.path, fault.line, fault.message)))


class _Held:
    """What there is to refer to."""

    def __init__(
        self,
        rules: Mapping[tuple[str, ...], set[str]],
        functions: Mapping[tuple[str, ...], set[str]],
        data: Mapping[str, Any],
    ) -> None:
        self.rules, self.functions, self.data = rules, functions, data

    def missing(self, words: tuple[str, ...]) -> str | None:
        """Why `data` holds nothing by these words; a package by itself is none but to an import."""
        if len(words) < 3 or words[1] not in {"qcos", "data"}:
            return "data is read as data.qcos.PACKAGE.RULE or data.data.KEY alone"
        if words[1] == "data":
            return None if words[2] in self.data else f"no file of data/ has the key {words[2]}"
        rules = self.rules.get(words[1:3])
        if rules is None:
            return f"there is no package qcos.{words[2]}"
        return None if len(words) == 3 or words[3] in rules else f"package qcos.{words[2]} has no rule {words[3]}"

    def calls(self, words: tuple[str, ...]) -> bool:
        return len(words) == 4 and words[3] in self.functions.get(words[1:3], ())


def _judged(module: Module, held: _Held) -> Iterator[Fault]:
    if len(module.package) != 2 or module.package[0] != "qcos":
        yield fault_of(module.path, 1, None, "a package is called qcos.NAME")
    yield from _imports(module, held)
    yield from _names(module)
    for use in module.uses:
        if (message := _use(module, use, held)) is not None:
            yield _fault(module, use, message)
    for use in module.templates:
        yield _fault(module, use, "a template computes inside of a text; join texts with concat")
    for use in module.numbers:
        if not use.name.isdecimal() or (use.name[0] == "0" and use.name != "0"):
            yield _fault(module, use, f"{use.name} is no whole number; engines differ in fractions")
    for word, after, use in module.keywords:
        if word == "with":
            yield _fault(module, use, "with lets a rule judge another document than the recorded one; tests may")
        elif word == "if" and after == "every":
            yield _fault(module, use, "the embedded engine wants every inside { }")


def _imports(module: Module, held: _Held) -> Iterator[Fault]:
    for name, use in module.imports.items():
        words = use.words
        if words == ("rego", "v1") or words[:1] == ("input",):
            pass
        elif words[:1] != ("data",):
            yield _fault(module, use, f"{use.name} can't be imported: data.qcos, data.data, input and rego.v1 can")
        elif (why := held.missing(words)) is not None:
            yield _fault(module, use, why)
        if name in module.variables:
            yield fault_of(module.path, module.variables[name], None, f"{name} hides the import of that name")


def _names(module: Module) -> Iterator[Fault]:
    """A rule, variable or import by the name of a built-in, of `input` or of `data` would hide what is meant."""
    named = {**module.variables, **module.rules, **{name: use.line for name, use in module.imports.items()}}
    for name, line in named.items():
        taken = name in {"input", "data"} and module.imports.get(name, None) is None
        if taken or name in SPACES or (name in module.functions and (name in BUILTINS or name in NONE)):
            yield fault_of(module.path, line, None, f"{name} is the name of what Rego has already")


def _use(module: Module, use: Use, held: _Held) -> str | None:
    first = use.words[0]
    words = use.words
    if first in module.imports and first not in module.variables:
        words = module.imports[first].words + use.words[1:]
    if words[0] == "data":
        if (why := held.missing(words)) is not None:
            return why
        if words[1] == "qcos" and len(words) == 3:
            return f"a rule of package qcos.{words[2]} is named, not all of it"
        return None if not use.called or held.calls(words) else f"{use.name} is no function"
    if use.called:
        return _call(module, use, held)
    if use.name in OUTSIDE or (len(words) > 1 and (use.name in BUILTINS or first in SPACES)):
        return f"{use.name} is a built-in and no value"
    return None


def _call(module: Module, use: Use, held: _Held) -> str | None:
    if len(use.words) == 1 and use.words[0] in held.functions.get(module.package, ()):
        return None
    builtin = BUILTINS.get(use.name)
    if builtin is not None:
        wrong = builtin.demand(use.arguments) if builtin.demand else None
        return f"{use.name} {wrong}" if wrong else None
    why = OUTSIDE.get(use.name) or NONE.get(use.name)
    return f"{use.name} {why}" if why else f"{use.name} is no built-in of the dialect and no function of these files"


def _fault(module: Module, use: Use, message: str) -> Fault:
    return fault_of(module.path, use.line, use.rule, message)
