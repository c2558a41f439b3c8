# SPDX-License-Identifier: Apache-2.0
"""The comparison's document and page: what failed is a row, what is shown is escaped, pictures are tables (G14)."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from control_plane.compare import gather, page, report
from control_plane.compare.report import Row
from control_plane.errors import Refused


def row(name: str, counts: dict[str, int] | None = None, **more: Any) -> Row:
    if counts is None:
        return Row(backend=name, state="FAILED", error={"code": "backend_failed", "detail": "a fuse blew"}, **more)
    plain: dict[str, Any] = {
        "provider": "aer",
        "state": "COMPLETED",
        "cost": {"amount": "0.38", "currency": "USD"},
        "queue_s": 0.1,
        "run_s": 0.02,
        "depth": 3,
        "gates": 4,
        "qubits": 2,
        "calibration": {"id": "c1", "valid_from": "2026-11-21T09:00:00.000Z"},
    }
    return Row(backend=name, counts=counts, shots=sum(counts.values()), **plain | more)


def document(*rows: Row, margin: float = 0.1) -> dict[str, Any]:
    return report.document(
        rows, name="bell.json", workflow="w", at="2026-11-21T09:00:00.000Z", margin=margin, chance=random.Random
    )


EVEN, UNEVEN = {"00": 500, "11": 500}, {"00": 800, "11": 200}


def test_a_backend_that_failed_is_a_row_and_the_others_are_compared() -> None:
    found = document(row("a", EVEN), row("b"), row("c", {"00": 490, "11": 510}))
    assert [one["state"] for one in found["backends"]] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert [(pair["a"], pair["b"], pair["verdict"]) for pair in found["pairs"]] == [("a", "c", "equal")]
    assert found["verdict"]["word"] == "equal"
    assert found["verdict"]["because"].endswith("without b")


def test_what_differs_is_named_and_each_pair_has_its_share_of_false_alarms() -> None:
    found = document(row("a", EVEN), row("b", UNEVEN), row("c", EVEN))
    assert {(p["a"], p["b"]): p["verdict"] for p in found["pairs"]} == {
        ("a", "b"): "different",
        ("a", "c"): "equal",
        ("b", "c"): "different",
    }
    assert all(pair["alpha"] == pytest.approx(0.05 / 3, abs=1e-6) for pair in found["pairs"])
    assert found["verdict"] == {"word": "different", "because": "counts differ beyond chance: a and b; b and c"}


def test_the_same_counts_give_the_same_document() -> None:
    rows = row("a", EVEN), row("b", {"00": 520, "11": 480})
    assert document(*rows) == document(*rows)


def test_few_shots_show_nothing_and_one_backend_is_no_comparison() -> None:
    assert document(row("a", {"0": 6}), row("b", {"0": 7}))["verdict"]["word"] == "undecided"
    alone = document(row("a", EVEN), row("b"))
    assert (alone["pairs"], alone["verdict"]["word"]) == ([], "nothing to compare")
    assert document(row("a"), row("b"))["outcomes"] == []


def test_rare_outcomes_of_many_are_told_as_their_sum() -> None:
    wide = {f"{i:08b}": 1 + i for i in range(200)}
    outcomes = document(row("a", wide), row("b", wide))["outcomes"]
    assert len(outcomes) == report.OUTCOMES + 1
    assert outcomes[-1]["outcome"] == "others"
    assert sum(one["shares"]["a"]["count"] for one in outcomes) == sum(wide.values())
    assert outcomes[0]["shares"]["a"]["low"] < outcomes[0]["shares"]["a"]["share"] < outcomes[0]["shares"]["a"]["high"]


def test_the_cheapest_are_those_of_one_currency() -> None:
    dear = row("b", EVEN, cost={"amount": "0.41", "currency": "USD"})
    assert report.cheapest([row("a", EVEN), dear, row("c")]) == ["a"]
    assert report.cheapest([row("a", EVEN), row("b", EVEN, cost={"amount": "0.1", "currency": "EUR"})]) == []
    assert report.cheapest([row("a"), row("b")]) == []


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


NASTY = '<script>alert("x")</script>&\'"'


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    """No script, no address, no handler; whatever a backend or a file is called stays text."""
    found = document(
        row(NASTY, EVEN, method=NASTY, noise=NASTY, calibration={"id": NASTY, "valid_from": NASTY}),
        row("b", {NASTY: 1, "11": 999}),
        Row(backend="c", state="DENIED", error={"code": NASTY, "detail": NASTY}),
    )
    text = page.page(found | {"file": NASTY, "workflow": NASTY})
    made = Page(text)
    assert made.open == []
    assert not {"script", "link", "img", "iframe", "object", "a", "form", "use"} & set(made.tags)
    assert not [name for name, _ in made.attributes if name.startswith("on") or name in ("href", "src", "style")]
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_each_picture_is_a_table_too_and_says_what_it_shows() -> None:
    text = page.page(document(row("a", EVEN), row("b", UNEVEN)))
    made = Page(text)
    assert made.tags.count("svg") == 4
    assert text.count('role="img" aria-label="') == 4
    assert made.tags.count("table") >= 4
    assert made.tags.count("caption") == made.tags.count("table")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    for words in ("0.5000", "0.8000", "0.38 USD", "different"):
        assert words in text


def test_a_page_of_failures_alone_is_a_page() -> None:
    text = page.page(document(row("a"), row("b")))
    assert Page(text).open == []
    assert "a fuse blew" in text


def test_a_spec_is_pinned_and_keeps_its_other_constraints() -> None:
    spec = {
        "job_id": "mine",
        "execution": {"shots": 10, "seed": 1, "backend_constraints": {"backend": "x", "max_depth": 9}},
        "governance": {"project": "demo"},
    }
    made = gather.pinned(spec, "aer", shots=20, workflow="w")
    assert made == {
        "execution": {"shots": 20, "seed": 1, "backend_constraints": {"backend": "aer", "max_depth": 9}},
        "governance": {"project": "demo"},
        "workflow": {"id": "w"},
    }
    assert spec["job_id"] == "mine"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"execution": 3}', b'{"program": {}, "execution": {}}', b"\xff"])
def test_what_is_no_job_of_one_circuit_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        gather.read_spec(body, "x.json")
    assert caught.value.code == "unusable_input"
