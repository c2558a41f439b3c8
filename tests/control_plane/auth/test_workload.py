# SPDX-License-Identifier: Apache-2.0
"""G13: a pipeline's token stands for an account only where a rule pins that very pipeline."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.workload import WorkloadRule, accounts, check, matches

GITHUB = "https://token.actions.githubusercontent.com"
CLAIMS: dict[str, Any] = {
    "sub": "repo:acme/solver:ref:refs/heads/main",
    "repository": "acme/solver",
    "repository_id": "8471",
    "ref": "refs/heads/main",
    "run_attempt": 1,
    "ref_protected": True,
    "runner": ["a"],
}


def rule(issuer: str = GITHUB, **claims: str) -> WorkloadRule:
    """A rule for the account `ci`."""
    return WorkloadRule(rule_id="r", issuer=issuer, account="ci", claims=claims)


@pytest.mark.parametrize(
    ("claims", "fits"),
    [
        ({"sub": "repo:acme/solver:ref:refs/heads/main"}, True),
        ({"sub": "repo:acme/solver:ref:refs/heads/*"}, True),
        ({"sub": "repo:acme/*:ref:refs/heads/main"}, True),
        ({"sub": "repo:acme/*"}, False),
        ({"sub": "repo:acme/**"}, True),
        ({"sub": "repo:acme/solver:*"}, False),
        ({"sub": "repo:acme/solver:**"}, True),
        ({"sub": "repo:acme/solver:ref:refs/heads/main "}, False),
        ({"sub": "Repo:acme/solver:ref:refs/heads/main"}, False),
        ({"repository": "acme/solver", "ref": "refs/heads/main"}, True),
        ({"repository": "acme/solver", "ref": "refs/tags/**"}, False),
        ({"repository": "acme/solver", "environment": "production"}, False),
        ({"repository_id": "8471", "run_attempt": "1", "ref_protected": "true"}, True),
        ({"repository_id": "8471", "ref_protected": "1"}, False),
        ({"repository_id": "8471", "runner": "a"}, False),
        ({"repository_id": "8471", "runner": "**"}, False),
        ({"repository": "acme/solve."}, False),
        ({}, False),
    ],
)
def test_every_claim_of_a_rule_must_be_there_and_match(claims: dict[str, str], *, fits: bool) -> None:
    """A star stops at a separator, so that `main*` names no other ref; nothing else is special."""
    assert matches(rule(**claims), GITHUB, CLAIMS) is fits
    assert not matches(rule(issuer="https://other.example", **claims), GITHUB, CLAIMS)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"ref": "refs/heads/main"},
        {"repository": "*"},
        {"repository": "**"},
        {"repository": "*/solver"},
        {"repository": "/solver*"},
        {"repository_id": "8*"},
        {"repository_owner": "ac*"},
        {"sub": "**"},
        {"sub": "repo:*"},
        {"sub": "repo:acme*"},
        {"sub": "repo:*/solver:ref:refs/heads/main"},
        {"sub": "::*"},
        {"actor": "ann"},
        {"repository": "acme/***"},
        {"repository": ""},
        {"repository": "acme/solver\n"},
        {"repository": "acme/" + "*/" * 9},
        {f"c{number}": "x" for number in range(17)},
    ],
)
def test_a_rule_that_would_let_in_strangers_is_refused(claims: dict[str, str]) -> None:
    """A public CI system signs for everybody: a rule must say whose pipeline."""
    with pytest.raises(ValueError, match=r"."):
        check(claims)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "repo:acme/*:environment:production"},
        {"sub": "project_path:acme/*:ref_type:branch:ref:main"},
        {"sub": "system:serviceaccount:ci:*"},
        {"sub": "pipeline"},
        {"repository": "acme/*", "ref": "refs/tags/**"},
        {"repository_owner_id": "77", "ref": "**"},
        {"project_path": "acme/solver", "ref_protected": "true"},
    ],
)
def test_a_rule_that_says_whose_pipeline_is_taken(claims: dict[str, str]) -> None:
    """GitHub, GitLab, Kubernetes and a plain client."""
    check(claims)


def test_one_token_may_stand_for_several_accounts_and_each_is_told() -> None:
    """Which one is meant, the caller then says."""
    rules = [
        WorkloadRule("1", GITHUB, "ci", {"repository": "acme/solver"}),
        WorkloadRule("2", GITHUB, "ci", {"repository": "acme/*"}),
        WorkloadRule("3", GITHUB, "release", {"repository": "acme/solver"}),
        WorkloadRule("4", GITHUB, "else", {"repository": "acme/else"}),
    ]
    assert accounts(rules, GITHUB, CLAIMS) == {"ci": "1", "release": "3"}


LETTERS = st.text("ab/:", max_size=12)
PATTERNS = st.lists(st.sampled_from(["a", "b", "/", ":", "*", "**"]), max_size=8).map("".join)


@given(PATTERNS, LETTERS)
def test_patterns_mean_what_the_regular_expression_does(pattern: str, text: str) -> None:
    """The search by sets of places agrees with the slow and plain reading."""
    plain = "".join(
        ".*" if one == "**" else "[^/:]*" if one == "*" else re.escape(one) for one in re.findall(r"\*\*|.", pattern)
    )
    wanted = re.fullmatch(plain, text) is not None and bool(pattern)
    assert matches(rule(sub=pattern), GITHUB, {"sub": text}) is (wanted or (not pattern and not text))


def test_no_claim_makes_the_search_long() -> None:
    """A branch may be named so that a backtracking search never ends; this one looks at each place once a piece."""
    nasty = rule(sub="repo:acme/" + "**a" * 7 + "**b")
    assert not matches(nasty, GITHUB, {"sub": "repo:acme/" + "a" * 1_000})
    assert not matches(rule(sub="repo:acme/**"), GITHUB, {"sub": "repo:acme/" + "a" * 2_000})
