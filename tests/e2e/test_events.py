# SPDX-License-Identifier: Apache-2.0
"""The live view: a WebSocket tells each move of a job once, in order, to whom may see it (N9)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.e2e.plane import Plane, bell

PATH = ["QUEUED", "COMPILING", "RESERVING", "EXECUTING", "SEALING", "COMPLETED"]


async def events(plane: Plane, job_id: str, token: str | None) -> list[dict[str, Any]]:
    url = plane.status["url"].replace("http", "ws", 1) + f"/api/v1/jobs/{job_id}/events"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(url, additional_headers=headers, open_timeout=10) as socket:
        return [json.loads(message) async for message in socket]


async def test_each_move_is_told_once_and_the_socket_closes_after_the_last(plane: Plane) -> None:
    job = plane.submit(bell()).json["job_id"]
    live = await events(plane, job, plane.tokens["engineer"])
    assert [event["state"] for event in live] == PATH
    assert [event["seq"] for event in live] == list(range(1, 7))
    later = await events(plane, job, plane.tokens["auditor"])
    assert later[:-1] == live[:-1]
    assert later[-1]["state"] == "COMPLETED"


async def test_a_denied_and_a_failed_job_have_their_events(plane: Plane) -> None:
    denied = plane.run(bell(governance__purpose="production-run"), "user")["job_id"]
    assert [event["state"] for event in await events(plane, denied, plane.tokens["user"])] == ["DENIED"]
    failed = plane.run(bell(circuit__source="aGVsbG8="))["job_id"]
    told = await events(plane, failed, plane.tokens["engineer"])
    assert (told[0]["state"], told[-1]["state"]) == ("QUEUED", "FAILED")


@pytest.mark.parametrize(
    ("user", "status", "code"),
    [
        ("outsider", 404, "not_found"),
        (None, 401, "token_missing"),
        ("nobody", 401, "token_invalid"),
    ],
)
async def test_who_may_not_see_the_job_is_refused_as_a_request_would_be(
    plane: Plane, user: str | None, status: int, code: str
) -> None:
    job = plane.run(bell())["job_id"]
    token = plane.tokens.get(user, "not.a.token") if user else None
    with pytest.raises(InvalidStatus) as refused:
        await events(plane, job, token)
    answer = refused.value.response
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert json.loads(answer.body or b"")["code"] == code


@pytest.mark.parametrize("job", ["no-such-job", "%00", "%2f"])
async def test_a_job_that_isnt_there_has_no_events(plane: Plane, job: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await events(plane, job, plane.tokens["engineer"])
    assert refused.value.response.status_code in (403, 404)


async def test_a_role_that_reads_no_jobs_sees_no_events(plane: Plane) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await events(plane, plane.run(bell())["job_id"], plane.tokens["finops"])
    assert refused.value.response.status_code == 403
