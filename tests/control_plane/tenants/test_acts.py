# SPDX-License-Identifier: Apache-2.0
"""G11: a tenant is opened, limited, closed and opened again, and its own chain tells of it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import msgspec
import pytest

from control_plane.auth import credentials
from control_plane.auth.errors import TenantRefused
from control_plane.auth.rights import enrich
from control_plane.errors import Refused
from control_plane.jobs.control import signal
from control_plane.jobs.run import Run
from control_plane.tenants import acts
from control_plane.tenants.limits import Limits, changed
from tests.control_plane.jobs.desk import Desk, bell, person
from tests.fakes import FakeDriver


async def test_a_new_tenant_has_a_key_and_rate_cards_of_its_own(desk: Desk) -> None:
    """G11: and nothing of anybody else's; a second one of the name is refused."""
    made = await acts.create(desk.plane, "acme", "a new customer")
    assert (made["state"], made["limits"]) == ("open", msgspec.structs.asdict(Limits()))
    assert made["usage"] == {"waiting_jobs": 0, "running_jobs": 0, "shots_today": 0}
    keys = desk.sql("SELECT wrapped FROM ledger.tenant_key WHERE tenant IN ('acme', 'demo')")
    assert len({bytes(wrapped) for (wrapped,) in keys}) == 2
    assert desk.sql("SELECT count(*) FROM finops.rate_card WHERE tenant = 'acme'") == [(3,)]
    with pytest.raises(Refused, match="there is a tenant acme") as refused:
        await acts.create(desk.plane, "acme", "again")
    assert refused.value.code == "conflict"
    with pytest.raises(Refused, match="lower-case"):
        await acts.create(desk.plane, "Acme", "odd")


async def test_a_closed_tenants_jobs_end_with_evidence_and_hold_nothing(desk: Desk) -> None:
    """G11, I3: queued and held ones; asked for again it changes nothing."""
    queued, held = await desk.admitted(), await desk.admitted()
    await signal(desk.plane, person(), "hold", held)
    done = await acts.close(desk.plane, "demo", "the contract ended")
    assert (done["state"], done["jobs_ended"], done["jobs_stopping"]) == ("closed", 2, 0)
    await desk.seal()
    for job_id in (queued, held):
        row = await desk.row(job_id)
        assert (row["final"], row["error"]["code"], row["ready"]) == ("FAILED", "tenant_closed", True)
        assert row["bundle_id"] is not None
    assert await desk.money() == (Decimal(0), Decimal(0))
    again = await acts.close(desk.plane, "demo", "once more")
    assert (again["jobs_ended"], again["closed_at"]) == (0, done["closed_at"])
    assert desk.kinds().count("tenant:closed") == 1
    assert (await desk.replayed()).agrees


async def test_what_runs_as_the_tenant_is_closed_is_stopped_and_what_slipped_in_never_starts(
    desk: Desk, driver: FakeDriver
) -> None:
    """G11, N10: a worker reads the state of the tenant with the job."""
    running = await desk.admitted()
    run = await desk.attempt(driver)
    desk.sql("UPDATE jobs.job SET state = 'COMPILING'")
    assert (await acts.close(desk.plane, "demo", "ended"))["jobs_stopping"] == 1
    desk.sql("UPDATE jobs.job SET state = 'QUEUED'")
    assert (await desk.row(running))["cancel_requested"]
    del run
    late = (await desk.submit()).job_id  # its request had entered before the tenant was closed
    await desk.seal()
    desk.lose_lease()
    assert await desk.claim("w2") == []
    assert {(await desk.row(job_id))["final"] for job_id in (running, late)} == {"FAILED"}
    assert driver.submissions == 0


async def test_a_closed_tenants_people_and_keys_are_refused_and_keys_stay_so(desk: Desk) -> None:
    """G11, G13: in every process from the commit on; another tenant's aren't touched."""
    now = desk.plane.now()
    until = now + dt.timedelta(hours=1)
    for tenant in ("demo", "other"):
        async with desk.plane.transaction(tenant) as conn:
            await credentials.issue(conn, person("ann", tenant), "key", at=now, expires_at=until)
    assert (await acts.close(desk.plane, "demo", "ended"))["credentials_revoked"] == 1
    with pytest.raises(TenantRefused):
        await enrich(desk.plane.engine, person())
    assert desk.sql("SELECT tenant FROM auth.credential WHERE revoked_at IS NULL") == [("other",)]
    opened = await acts.reopen(desk.plane, "demo", "the contract goes on")
    assert (opened["state"], opened["closed_at"]) == ("open", None)
    assert (await enrich(desk.plane.engine, person())).tenant == "demo"
    assert desk.sql("SELECT count(*) FROM auth.credential WHERE revoked_at IS NULL") == [(1,)]
    assert desk.kinds()[-2:] == ["tenant:closed", "tenant:reopened"]
    with pytest.raises(Refused, match="is open"):
        await acts.reopen(desk.plane, "demo", "again")


async def test_limits_are_set_one_by_one_and_told(desk: Desk, driver: FakeDriver) -> None:
    """G11: what isn't named stays; the job that a limit lets through runs as any other."""
    await acts.limit(desk.plane, "demo", {"waiting_jobs": "1", "requests_per_s": "2.5"}, "a trial")
    set_ = await acts.limit(desk.plane, "demo", {"shots_per_day": "1000"}, "a trial")
    assert set_["limits"] == msgspec.structs.asdict(Limits(requests_per_s=2.5, waiting_jobs=1, shots_per_day=1000))
    await desk.admitted()
    with pytest.raises(Refused) as refused:
        await desk.submit()
    assert refused.value.code == "tenant_queue_full"
    await Run(desk.plane, {"fake": driver}, (await desk.claim())[0]).advance()
    assert (await acts.shown(desk.plane, "demo"))["usage"] == {
        "waiting_jobs": 0,
        "running_jobs": 0,
        "shots_today": 1000,
    }
    assert (await desk.submit()).problem == "tenant_quota_exceeded"
    await acts.limit(desk.plane, "demo", {"shots_per_day": "none"}, "bought more")
    assert (await desk.submit(bell(execution__shots=1))).state == "QUEUED"
    assert desk.kinds().count("tenant:limits_set") == 3


@pytest.mark.parametrize("said", ["-1", "x", "", "1.5", "nan", "9" * 40, "１"])
def test_a_limit_that_is_no_number_is_refused(said: str) -> None:
    """N13: naming the limit."""
    for name in ("waiting_jobs", "running_jobs", "shots_per_day"):
        with pytest.raises(Refused, match=name):
            changed(Limits(), {name: said})
    for text in ("0", "-1", "inf", "nan", "x", "1e300"):
        with pytest.raises(Refused, match="requests_per_s"):
            changed(Limits(), {"requests_per_s": text})


async def test_a_tenant_that_is_not_there_is_named(desk: Desk) -> None:
    """G11: nothing is made by the way."""
    for act in (acts.close(desk.plane, "nobody", "x"), acts.reopen(desk.plane, "nobody", "x")):
        with pytest.raises(Refused, match="no tenant nobody"):
            await act
    with pytest.raises(Refused, match="no tenant nobody"):
        await acts.limit(desk.plane, "nobody", {"waiting_jobs": "1"}, "x")
