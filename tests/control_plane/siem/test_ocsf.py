# SPDX-License-Identifier: Apache-2.0
"""Each administrative entry is an event that OCSF's own schema takes, and a message that RFC 5424 and 5425 describe."""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from control_plane import administrative
from control_plane.siem import ocsf, syslog
from ledger.canonical import dumps
from ledger.chain import Leaf

AT = dt.datetime(2026, 11, 22, 8, 30, 0, 125_000, tzinfo=dt.UTC)
BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"by": "user:admin@demo", "reason": "she joined the team", "subject": "s-1", "role": "quantum-user"},
    {"by": "user:admin@demo", "to": "service:robot@demo", "actions": ["job:submit"], "project": "p1", "reason": None},
    {"group": "quantum", "role": "auditor", "project": None, "by": 7, "subject": ["x"]},
    {"reason": "r" * 5_000, "files": {f"file-{number}": "0" * 64 for number in range(300)}},
)


def leaf(kind: str, body: dict[str, Any]) -> Leaf:
    return Leaf(
        entry_id="0190a0de-0000-4000-8000-000000000001",
        tenant="demo",
        kind=kind,
        actor="a-0123456789abcdef0123456789abcdef",
        time=AT,
        body=body,
        commitments={},
        schema=1,
        index=41,
        tenant_index=7,
        tenant_prev=None,
        prev_checkpoint=None,
    )


@cache
def published() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(ocsf.VERSION))


@cache
def schema(class_uid: int) -> jsonschema.Draft202012Validator:
    found = published()
    return jsonschema.Draft202012Validator(found.get_class_schema(found.lookup_class_name_from_uid(class_uid)))


def told(kind: str, body: dict[str, Any], most: int = 7_800) -> dict[str, Any]:
    made = ocsf.event(leaf(kind, body), "sha256:" + "0" * 64, 12, origin="qcos/dev/dev", most_bytes=most)
    assert made is not None
    return made


def test_every_kind_of_administration_is_an_event_of_ocsf() -> None:
    for kind in [*sorted(ocsf.KINDS), "identity:thing:renamed", "tenant:moved"]:
        for body in BODIES:
            made = told(kind, body)
            schema(made["class_uid"]).validate(made)
            assert len(dumps(made)) <= 7_800
            assert made["metadata"]["sequence"] == made["unmapped"]["entry"]["index"] == 41


def test_every_act_that_the_plane_records_has_a_meaning_of_its_own() -> None:
    assert ocsf.KINDS.keys() >= administrative.KINDS


def test_a_wrong_event_is_found_by_the_schema() -> None:
    made = told("identity:role:granted", BODIES[1])
    del made["privileges"]
    with pytest.raises(jsonschema.ValidationError, match="privileges"):
        schema(made["class_uid"]).validate(made)


def test_who_gave_what_to_whom_and_why_stands_in_the_event() -> None:
    made = told("identity:role:granted", BODIES[1] | {"project": "p1"})
    assert made["actor"]["user"]["name"] == "user:admin@demo"
    assert (made["user"]["name"], made["privileges"]) == ("s-1", ["quantum-user@p1"])
    assert made["status_detail"] == "she joined the team"
    assert made["unmapped"]["entry"]["previous"] == 12


@pytest.mark.parametrize(
    "kind", ["job:submission:accepted", "job:admission:denied", "hashedrekord", "policy:notice:sent"]
)
def test_what_is_no_administration_is_not_told(kind: str) -> None:
    assert ocsf.event(leaf(kind, {}), "sha256:" + "0" * 64, None, origin="o", most_bytes=7_800) is None


def test_a_body_too_long_for_a_message_is_left_out_and_said_to_be() -> None:
    made = told("policy:pushed", BODIES[4], 2_000)
    assert made["unmapped"]["entry"]["body_omitted"] is True
    assert len(dumps(made)) <= 2_000


@given(st.text(), st.text(), st.integers(0, 2**53))
def test_a_message_is_what_rfc_5424_describes(host: str, kind: str, index: int) -> None:
    body = b'{"a":1}'
    one = syslog.message(body, at=AT, host=host, index=index, kind=kind, severity_id=1)
    found = re.fullmatch(
        rb"<(\d{1,3})>1 2026-11-22T08:30:00\.125Z ([!-~]{1,255}) qcos - ([!-~]{1,32})"
        rb' \[meta sequenceId="(\d+)"\] (.*)',
        one,
    )
    assert found is not None
    assert (found[1], found[5]) == (b"110", body)
    assert 1 <= int(found[4]) <= 2**31 - 1
    assert len(one) - len(body) <= syslog.HEADER_ROOM
    length, _, rest = syslog.framed(one).partition(b" ")
    assert int(length) == len(rest)
    assert json.loads(rest[-len(body) :]) == {"a": 1}
