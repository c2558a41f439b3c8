# SPDX-License-Identifier: Apache-2.0
"""Policy data of the wrong shape is told of by file, line and place before anything is decided by it (G2, I5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.policy import data
from control_plane.policy.revision import load
from control_plane.policy.schema import SchemaInvalid, check, shown

FILES = load().files
SHIPPED = [path for path in FILES if path.startswith("data/")]


def told(**changes: object) -> list[str]:
    """The faults after data files were replaced; `limits={…}` is `data/limits.json`."""
    files = {f"data/{key}.json": json.dumps({key: value}, indent=1).encode() for key, value in changes.items()}
    return [str(fault) for fault in data.faults({**FILES, **files})]


def held(key: str, **changes: object) -> Any:
    value: dict[str, Any] = json.loads(FILES[f"data/{key}.json"])[key]
    return {**value, **changes}


def test_shipped_data_has_the_shape_of_its_schemas() -> None:
    assert data.faults(FILES) == []
    keys = [key for path in SHIPPED for key in json.loads(FILES[path])]
    assert [key for key in keys if f"schemas/{key}.schema" not in FILES] == []


def test_each_place_of_shipped_data_is_looked_at() -> None:
    """No member and no element may become an object that holds something strange."""
    for path in SHIPPED:
        text = FILES[path].decode()
        for place in data.places(text):
            if len(place) < 2:
                continue
            value: Any = json.loads(text)
            at = value
            for step in place[:-1]:
                at = at[step]
            at[place[-1]] = {"": [1.5]}
            assert data.faults({**FILES, path: json.dumps(value).encode()}), (path, place)


def test_a_fault_has_its_file_line_and_place() -> None:
    limits = held("limits", projects={"q-lab": {"max_shots": "many"}})
    line = json.dumps({"limits": limits}, indent=1).splitlines().index('    "max_shots": "many"') + 1
    assert told(limits=limits) == [
        f'data/limits.json:{line}: schema: limits.projects["q-lab"].max_shots: "many" is no integer'
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limits": held("limits", default={})}, "limits.default: max_qubits is missing"),
        ({"limits": held("limits", projects={"a": {"max_shot": 1}})}, "limits.projects.a.max_shot: no such name"),
        ({"limits": held("limits", projects={"a": {"max_shots": -1}})}, "limits.projects.a.max_shots: -1 is below 0"),
        ({"limits": held("limits", projects={"a": {"max_shots": 2**53}})}, f"{2**53} is above"),
        ({"limits": held("limits", projects={"a": {"max_shots": True}})}, "true is no integer"),
        ({"limits": held("limits", projects={"a": {"max_shots": 1.5}})}, "1.5 is no integer"),
        (
            {"limits": held("limits", projects={"a": {"team_shots_per_day": {"t": 1}}})},
            "team_shots_per_day: * is missing",
        ),
        (
            {"limits": held("limits", projects={"a": {"hours_by_department": {"*": {"*": ["mon 8-18"]}}}})},
            "limits.projects.a: 'mon 8-18' is no hours",
        ),
        (
            {"limits": held("limits", projects={"a": {"budget_approval_percent": 101}})},
            "limits.projects.a.budget_approval_percent: 101 is above 100",
        ),
        ({"exports": {"aws-braket": {}}}, "exports: * is missing"),
        ({"limits": []}, "limits: an array is no object"),
        ({"reasons": held("reasons", budget_exceeded="soft")}, 'reasons.budget_exceeded: "hard" alone may stand here'),
        ({"reasons": held("reasons", quota_exceeded="mild")}, '"mild" is none of "advisory", "soft", "hard"'),
        ({"approvals": held("approvals", roles={})}, "approvals.roles: * is missing"),
        ({"approvals": held("approvals", roles={"*": ["root"]})}, 'approvals.roles["*"][0]: "root" is none of'),
        ({"vocabulary": held("vocabulary", purpose_roles=[{"prefix": ""}])}, "purpose_roles[0]: roles is missing"),
        ({"vocabulary": {}}, "vocabulary: actions is missing"),
        ({"permissions": held("permissions", signed_in=["a", "a"])}, "permissions.signed_in: an element stands twice"),
    ],
)
def test_data_of_another_shape_is_refused(changes: dict[str, object], said: str) -> None:
    assert any(said in fault for fault in told(**changes)), told(**changes)


def test_what_the_plane_reads_must_be_there() -> None:
    files = {
        path: content for path, content in FILES.items() if path not in {"data/limits.json", "data/permissions.json"}
    }
    assert [(fault.path, fault.message) for fault in data.faults(files)] == [
        ("data/limits.json", "no file of data/ has the key limits"),
        ("data/permissions.json", "no file of data/ has the key permissions"),
    ]


def test_a_schema_of_ones_own_holds_for_ones_own_data_and_not_for_the_planes() -> None:
    own = {"data/partners.json": b'{"partners": ["a", 1]}', "schemas/partners.schema": b'{"items": {"type": "string"}}'}
    assert [str(fault) for fault in data.faults({**FILES, **own})] == [
        "data/partners.json:1: schema: partners[1]: 1 is no string"
    ]
    lax = {"schemas/limits.schema": b"{}", "schemas/vocabulary.schema": b"{}"}
    strange = {"data/limits.json": b'{"limits": 1}', "data/vocabulary.json": b'{"vocabulary": 1}'}
    assert {fault.path for fault in data.faults({**FILES, **lax, **strange})} == {"data/limits.json"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (b'{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}', "refers to itself"),
        (b'{"$ref": "https://example.org/s.json"}', "is not among its $defs"),
        (b'{"pattern": "(a+)+$"}', "pattern is no word that is checked here"),
        (b'{"type": "text"}', "'text' is no type"),
        (b'{"type": 1}', "another type"),
        (b"[]", "a schema is an object"),
        (b'{"minimum": "1", "type": "object", "properties": 1}', "another type"),
    ],
)
def test_a_schema_that_can_not_be_used_is_the_fault_of_its_file(schema: bytes, said: str) -> None:
    faults = data.faults({**FILES, "data/own.json": b'{"own": {"a": 1}}', "schemas/own.schema": schema})
    assert [fault.path for fault in faults] == ["schemas/own.schema"]
    assert said in faults[0].message


def test_a_schema_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.policy.schema.MOST_STEPS", 10_000)
    schema: Any = {"type": "string"}
    for _ in range(24):
        schema = {"anyOf": [{"anyOf": [schema, schema]}, schema]}
    with pytest.raises(SchemaInvalid, match="too long"):
        list(check(schema, 1))


def test_many_faults_are_told_of_in_part() -> None:
    limits = held("limits", projects={f"p{number}": {"max_shots": "x"} for number in range(10_000)})
    faults = told(limits=limits)
    assert len(faults) == data.MOST + 1
    assert any("more than 50 faults" in fault for fault in faults)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SHIPPED), JSON, st.data())
def test_any_json_is_judged_and_never_an_error(path: str, strange: object, choose: st.DataObject) -> None:
    """As data and as a schema; limits without a fault can be resolved for anybody."""
    text = FILES[path].decode()
    place = choose.draw(st.sampled_from([place for place in data.places(text) if place]))
    value: Any = json.loads(text)
    at = value
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = strange
    data.faults({**FILES, path: json.dumps(value).encode()})
    data.faults({**FILES, path.replace("data/", "schemas/").replace(".json", ".schema"): json.dumps(strange).encode()})


@settings(max_examples=50, deadline=None)
@given(JSON, st.sampled_from([None, 1]))
def test_each_place_of_a_text_has_its_line(value: object, indent: int | None) -> None:
    text = json.dumps({"a": value}, indent=indent)
    found = data.places(text)
    assert set(found) == set(_places({"a": value}))
    if indent:
        lines = text.splitlines()
        for place, line in found.items():
            if place and isinstance(place[-1], str):
                assert json.dumps(place[-1]) + ":" in lines[line - 1], shown(place)


def _places(value: object, below: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [below, *(place for step, one in inner for place in _places(one, (*below, step)))]
