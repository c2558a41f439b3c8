# SPDX-License-Identifier: Apache-2.0
"""A site joins the plane's jobs with Slurm's accounts on Slurm's job id; people see what they may (G6, I7)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.accounting import listing, store
from control_plane.accounting.record import Accounted, record
from control_plane.accounting.store import Wanted
from control_plane.commands._spec import accounted
from control_plane.jobs import reading, view
from control_plane.strict import Invalid
from hal_drivers.base import Handle, Outcome
from tests.control_plane.jobs.desk import Desk, bell, person
from tests.control_plane.jobs.ends import evidence_of, finish
from tests.fakes import FakeDriver

SACCT = Path(__file__).parents[2] / "vectors" / "sacct" / "parsable2.txt"
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_ACCOUNT": "chem", "SLURM_CLUSTER_NAME": "hpc1"}


class Clustered(FakeDriver):
    """A driver whose tasks are Slurm jobs, as `hal_drivers.slurm` tells of them."""

    async def result(self, handle: Handle) -> Outcome:
        """The outcome, with what it ran as."""
        known = {"slurm_job_id": "5150", "slurm_partition": "debug"}
        return msgspec.structs.replace(await super().result(handle), accounting=known)


async def ran(desk: Desk, driver: FakeDriver, **changes: Any) -> str:
    job_id = await desk.admitted(**changes)
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    return job_id


async def lines(desk: Desk, tenant: str = "demo", **wanted: Any) -> list[dict[str, Any]]:
    async with desk.plane.transaction(tenant) as conn:
        rows = await store.lines(conn, Wanted(**wanted), limit=100, before=None)
    return [msgspec.to_builtins(record(row)) for row in rows]


async def test_a_job_is_found_by_the_slurm_job_that_submitted_it_and_by_the_one_that_it_ran_as(desk: Desk) -> None:
    """G6: and its line has what a site's accounts ask for; the ledger tells both."""
    submitted = {"slurm_job_id": "4711", "account": "chem", "cluster": "hpc1"}
    job_id = await ran(desk, Clustered(), accounting=submitted)
    (line,) = await lines(desk, job="4711")
    assert (line["slurm_job_id"], line["ran_slurm_job_id"], line["partition"]) == ("4711", "5150", "debug")
    assert (line["account"], line["cluster"], line["user"]) == ("chem", "hpc1", person().actor)
    assert (line["job_id"], line["acquisition_id"], line["resource"]) == (job_id, job_id, "fake")
    assert (line["state"], line["exit"], line["shots"]) == ("COMPLETED", "0:0", 1000)
    assert line["finished_epoch"] - line["running_epoch"] in (0, 1)
    assert line["running"].endswith("Z")
    assert line["qpu_seconds"] is None
    assert (line["cost"], line["currency"]) == (view.plain((await desk.row(job_id))["cost_amount"]), "USD")
    assert await lines(desk, job="5150") == [line]
    assert await lines(desk, job="4712") == []
    assert (await desk.replayed()).differences == []
    carried = (await evidence_of(desk, job_id)).contents["spec"]
    assert msgspec.json.decode(carried)["accounting"] == submitted


async def test_an_array_is_listed_by_its_id_and_each_task_by_its_own(desk: Desk) -> None:
    """sacct writes `4711_3` and `4712+0`, and lists all of them for `-j 4711`; 47 is another job."""
    driver = FakeDriver()
    third = await ran(desk, driver, accounting={"slurm_job_id": "4711_3"})
    fourth = await ran(desk, driver, accounting={"slurm_job_id": "4711_4"})
    leader = await ran(desk, driver, accounting={"slurm_job_id": "4712+0"})
    for asked, jobs in {"4711": [fourth, third], "4711_3": [third], "4712": [leader], "47": [], "4711_": []}.items():
        assert [line["job_id"] for line in await lines(desk, job=asked)] == jobs, asked


async def test_a_page_is_of_what_was_asked_for_and_of_no_other_tenant_or_project(desk: Desk) -> None:
    """I7: the projects that somebody may see bound the page."""
    driver = FakeDriver()
    mine = await ran(desk, driver, accounting={"slurm_job_id": "1", "account": "chem"})
    plain = await ran(desk, driver)
    assert [line["job_id"] for line in await lines(desk)] == [plain, mine]
    assert [line["job_id"] for line in await lines(desk, account="chem")] == [mine]
    assert [line["job_id"] for line in await lines(desk, user=person().actor)] == [plain, mine]
    assert await lines(desk, user="bob@demo") == []
    assert await lines(desk, projects=[]) == []
    assert await lines(desk, tenant="other") == []


async def test_a_job_that_waits_or_was_denied_has_a_line_too(desk: Desk) -> None:
    """As sacct lists what is pending: without a start, an end or a price."""
    await desk.admitted()
    (line,) = await lines(desk)
    assert (line["state"], line["running"], line["finished"], line["cost"], line["shots"]) == (
        "PENDING",
        None,
        None,
        None,
        None,
    )
    assert "|Unknown|Unknown|00:00:00|PENDING||" in listing.parsable([line])


async def test_a_jobs_facts_are_shown_once_its_outcome_is_sealed(desk: Desk) -> None:
    """G6: the same that the entry tells, each with its source and who says so."""
    job_id = await ran(desk, FakeDriver())
    shown = view.shown(await desk.row(job_id))
    facts = {fact["meter"]: fact for fact in shown["facts"]}
    assert facts["two_qubit_gate_shots"] == {
        "meter": "two_qubit_gate_shots",
        "quantity": "1000",
        "unit": "Gate-Shots",
        "source": "measured",
        "by": "plane",
    }
    execution = msgspec.json.decode((await evidence_of(desk, job_id)).contents["execution"])
    assert execution["facts"] == shown["facts"]


async def test_lines_join_with_what_sacct_writes(desk: Desk) -> None:
    """G6: a site joins `sacct --parsable2` with `qcos accounting -P` on the first column of both."""
    await ran(desk, FakeDriver(), accounting={"slurm_job_id": "4711", "account": "chem", "cluster": "hpc1"})
    theirs = list(csv.DictReader(SACCT.read_text().splitlines(), delimiter="|", quoting=csv.QUOTE_NONE))
    ours = listing.parsable(await lines(desk)).splitlines()
    quantum = {one["JobID"]: one for one in csv.DictReader(ours, delimiter="|", quoting=csv.QUOTE_NONE)}
    joined = [(one, quantum[one["JobID"]]) for one in theirs if one["JobID"] in quantum]
    ((batch, job),) = joined
    assert (batch["JobID"], batch["Account"], batch["Cluster"]) == ("4711", job["Account"], job["Cluster"])
    assert set(theirs[0]) - {"JobName", "NNodes"} <= set(quantum["4711"])
    assert job["Shots"] == "1000"
    for name in ("Submit", "Start", "End", "Elapsed"):
        assert len(job[name]) == len(batch[name])


LINE: dict[str, Any] = {
    **dict.fromkeys(Accounted.__struct_fields__),
    "slurm_job_id": "7",
    "user": "a|b@demo",
    "account": "=1+1",
    "running_epoch": 100,
    "finished_epoch": 100 + 90_061,
}


def test_no_name_breaks_a_line_or_becomes_a_formula() -> None:
    """sacct quotes nothing, so a bar in a name is spelt otherwise; a spreadsheet runs nothing."""
    text = listing.parsable([LINE])
    assert text.splitlines()[1].startswith("7|=1+1|a%7Cb@demo|||Unknown|Unknown|Unknown|1-01:01:01|")
    assert len({line.count("|") for line in text.splitlines()}) == 1
    (row,) = csv.DictReader(io.StringIO(listing.csv([LINE])))
    assert (row["account"], row["user"]) == ("'=1+1", "a|b@demo")


def test_submit_tells_the_slurm_job_that_it_runs_in_and_changes_nothing_else() -> None:
    """Provenance of the submitter's environment; a spec that has its own keeps it."""
    body = b' {"governance": 1.50, "a": {"b": 1}}'
    told = accounted(body, SLURM)
    assert msgspec.json.decode(told)["accounting"] == {"slurm_job_id": "4711", "account": "chem", "cluster": "hpc1"}
    assert told.endswith(body.lstrip()[1:])
    assert accounted(body, {}) == body
    assert accounted(body, {"SLURM_JOB_ACCOUNT": "chem"}) == body
    own = b'{"accounting": {"slurm_job_id": "1"}}'
    for kept in (own, b"no json", b"[]", b"{}"):
        assert accounted(kept, SLURM) == kept


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({}, "4713"),
        ({"SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"}, "4711_3"),
        ({"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "4712", "SLURM_JOB_ID_HET_GROUP_1": "4713"}, "4712+1"),
        ({"SLURM_HET_SIZE": "1", "SLURM_JOB_ID_HET_GROUP_0": "4713"}, "4713+0"),
        ({"SLURM_HET_SIZE": "x"}, "4713"),
    ],
)
def test_submit_names_the_slurm_job_as_sacct_does(more: dict[str, str], named: str) -> None:
    """SLURM_JOB_ID of a task of an array is a number that no line of `sacct` has as its JobID."""
    told = msgspec.json.decode(accounted(b'{"a": 1}', {"SLURM_JOB_ID": "4713"} | more))
    assert told["accounting"] == {"slurm_job_id": named}


@pytest.mark.parametrize(
    ("accounting", "field"),
    [
        ({"account": "chem"}, "accounting.slurm_job_id"),
        ({"slurm_job_id": "12;rm"}, "accounting.slurm_job_id"),
        ({"slurm_job_id": "12.0"}, "accounting.slurm_job_id"),
        ({"slurm_job_id": "12_"}, "accounting.slurm_job_id"),
        ({"slurm_job_id": "12", "account": "a b"}, "accounting.account"),
        ({"slurm_job_id": "12", "queue": "x"}, "accounting.queue"),
    ],
)
def test_an_accounting_that_cannot_be_is_refused_by_field(accounting: dict[str, str], field: str) -> None:
    """N13."""
    with pytest.raises(Invalid) as refused:
        reading.parse(msgspec.json.encode(bell(accounting=accounting)))
    assert [fault["field"] for fault in refused.value.errors] == [field]
