# SPDX-License-Identifier: Apache-2.0
"""What a plane decided is explained by its id or its job's, and as far as it goes where its document is erased (G2)."""

from __future__ import annotations

from tests.e2e.plane import Plane, bell


def test_a_denied_job_is_explained_by_the_rule_that_denied_it(plane: Plane) -> None:
    job = plane.run(bell(governance__project=plane.project("10"), governance__purpose="production"), user="user")
    assert job["state"] == "DENIED"
    by_job = plane.cli("policy", "explain", job["job_id"], "--json", user="auditor")
    assert by_job.code == 0, by_job
    reason = job["decision"]["reasons"][0]
    assert by_job.json["rule"] == f"qcos/{reason['rule']}"
    assert by_job.json["sentence"].startswith(f"job {job['job_id']} was denied on ")
    assert reason["fix"] in by_job.json["sentence"]
    assert by_job.json["checks"] == job["decision"]["checks"]
    assert by_job.json["replay"]["same"] is True
    assert by_job.json["replay"]["revision"] == job["decision"]["policy_revision"]
    by_id = plane.cli("policy", "explain", job["decision"]["id"], "--json", user="auditor")
    assert by_id.json == by_job.json
    assert plane.cli("policy", "explain", job["job_id"], user="user").err.startswith("forbidden: ")
    unknown = plane.cli("policy", "explain", "0d2c3a0e-9f2c-4e8e-8a11-3d6f3b3e6c55", user="auditor")
    assert (unknown.code, unknown.err.split(":")[0]) == (1, "not_found")


def test_an_erased_document_leaves_the_sentence_and_is_named(plane: Plane) -> None:
    job = plane.run(bell(governance__project=plane.project("10")))
    assert plane.cli("retention", "erase", job["job_id"], "--reason", "asked for", "--early", user="admin").code == 0
    told = plane.cli("policy", "explain", job["job_id"], user="auditor")
    assert told.code == 1
    assert told.out.startswith(f"job {job['job_id']} was allowed on ")
    assert told.err.startswith("not_replayable: ")
    assert "erased" in told.err
