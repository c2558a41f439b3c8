# SPDX-License-Identifier: Apache-2.0
"""Which service account a CI system's token stands for: rules as data, over verified claims (G13). Pure.

A rule names an issuer and what its tokens must claim, word by word: `{"repository": "acme/solver", "ref":
"refs/heads/main"}`. Every claim must be there and match. In a pattern `*` is any run of characters without `/` and `:`,
`**` any run at all; nothing else is special and case counts. A claim that is missing, a list or an object matches
nothing.

The issuers of public CI systems sign for everybody who has an account there, so a rule that pins nobody would let in
strangers: `check` demands one claim that says *whose* pipeline it is (`IDENTIFYING`), written out as far as the owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

__all__ = ["IDENTIFYING", "MOST_CLAIMS", "Claims", "WorkloadRule", "accounts", "check", "matches"]

MOST_CLAIMS: Final = 16
IDENTIFYING: Final[dict[str, int | None]] = {
    "sub": 2,
    "repository": 1,
    "project_path": 1,
    "job_workflow_ref": 2,
    "workflow_ref": 2,
    "repository_id": None,
    "repository_owner_id": None,
    "repository_owner": None,
    "project_id": None,
    "namespace_id": None,
    "namespace_path": None,
    "organization_id": None,
    "client_id": None,
    "azp": None,
}
"""Claims that say whose a pipeline is, and after how many `/` or `:` a wildcard may begin; None = never."""
_LONGEST = 1024
_SEPARATORS = re.compile(r"[/:]")
_STAR = re.compile(r"\*\*|\*")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")

Claims = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/-]+$")],
        Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")],
    ],
    Meta(
        min_length=1, max_length=MOST_CLAIMS, description="What a token must claim; * stops at / and :, ** at nothing."
    ),
]


class WorkloadRule(Struct, frozen=True):
    """Tokens of `issuer` that claim this are `account`'s."""

    rule_id: str
    issuer: str
    account: str
    claims: Mapping[str, str]


def check(claims: Mapping[str, str]) -> None:
    """ValueError unless the rule pins somebody; the text names the claim at fault."""
    if not 0 < len(claims) <= MOST_CLAIMS:
        raise ValueError(f"1 to {MOST_CLAIMS} claims")
    for name, pattern in claims.items():
        if not _PLAIN.fullmatch(name) or not pattern or not pattern.isprintable() or len(pattern) > 512:
            raise ValueError(f"{name[:64]!r}: wanted a claim's name and a plain text of at most 512 characters")
        if "***" in pattern:
            raise ValueError(f"{name}: *** says nothing that ** doesn't")
        if len(_STAR.findall(pattern)) > 8:
            raise ValueError(f"{name}: at most 8 wildcards")
    if not any(_pins(name, pattern) for name, pattern in claims.items()):
        raise ValueError(
            "the rule would let in every pipeline of the issuer: pin one of "
            + ", ".join(IDENTIFYING)
            + ", written out as far as its owner (repo:OWNER/…, OWNER/…)"
        )


def _pins(name: str, pattern: str) -> bool:
    if name not in IDENTIFYING:
        return False
    literal, wildcard, _ = pattern.partition("*")
    if not wildcard:
        return True
    needed = IDENTIFYING[name]
    if needed is None:
        return False
    parts = _SEPARATORS.split(literal)
    return len(parts) > needed and all(parts[:needed])


def matches(rule: WorkloadRule, issuer: str, claims: Mapping[str, Any]) -> bool:
    """Whether the verified claims of a token of `issuer` are what the rule wants; a rule without claims wants none."""
    if rule.issuer != issuer or not rule.claims:
        return False
    return all(_claimed(claims.get(name), pattern) for name, pattern in rule.claims.items())


def accounts(rules: Iterable[WorkloadRule], issuer: str, claims: Mapping[str, Any]) -> dict[str, str]:
    """The accounts that these claims stand for, each with the first rule that says so."""
    found: dict[str, str] = {}
    for rule in rules:
        if matches(rule, issuer, claims):
            found.setdefault(rule.account, rule.rule_id)
    return found


def _claimed(value: Any, pattern: str) -> bool:
    match value:
        case bool():
            text = "true" if value else "false"
        case int():
            # Beyond 2^53 two JSON readers may see two numbers.
            if not -(2**53) < value < 2**53:
                return False
            text = str(value)
        case str():
            text = value
        case _:
            return False
    return len(text) <= _LONGEST and _fits(text, pattern)


def _fits(text: str, pattern: str) -> bool:
    """By the set of places that each piece may end at, so that no text makes it search for long."""
    places, at = {0}, 0
    for star in _STAR.finditer(pattern):
        places = _after(text, places, pattern[at : star.start()])
        reached: set[int] = set()
        for start in sorted(places):
            if start not in reached:  # one that is reached already leads no further
                reached.update(range(start, (len(text) if star[0] == "**" else _stop(text, start)) + 1))
        places = reached
        at = star.end()
    return len(text) in _after(text, places, pattern[at:])


def _after(text: str, places: Iterable[int], literal: str) -> set[int]:
    return {place + len(literal) for place in places if text.startswith(literal, place)}


def _stop(text: str, start: int) -> int:
    found = _SEPARATORS.search(text, start)
    return len(text) if found is None else found.start()
