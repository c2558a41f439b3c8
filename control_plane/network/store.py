# SPDX-License-Identifier: Apache-2.0
"""The SQL of the network: enrolments, what was heard and measured of peers, the fabric's journal, plans (N8, N10, N14).

Enrolments and all that is measured are of the plane; plans and reservations are read with the tenant's row-level
security (I7). Everything that grows by itself is bounded by age and number: `prune`. An act on an enrolment raises the
number of the set in the same transaction, under the lock of its one row, so that a higher number is a later set.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.db import Query
from control_plane.network.enrolment import Record, plain
from hal_drivers.p2p.office import Enrol, Enrolled, Event, Known, KnownAdvert, Link, Verified
from hal_drivers.p2p.plan import Plan, Snapshot
from hal_drivers.p2p.wire import Signed

EVENT_DAYS = 30
EVENTS_AT_MOST = 1_000_000
PROBE_DAYS = 90
PROBES_AT_MOST = 1000  # of one service of one peer
QUALITY_DAYS = 400
JUDGEMENTS_AT_MOST = 200
LINK_DAYS = 30
TOPOLOGIES = 1000

_FACTS = "organisation, region, compliance_zone, sovereign, price_per_fragment, price_per_shot, currency"
_RECORD = f"peer_id, state, revision, {_FACTS}, reason"
_LOCKED = text(f"SELECT {_RECORD} FROM network.enrolment WHERE peer_id = :peer_id FOR UPDATE")
_PUT = text(f"""
    INSERT INTO network.enrolment ({_RECORD}, acted_for, acted_by, proposed_at, changed_at)
    VALUES (:peer_id, :state, :revision, :organisation, :region, :compliance_zone, :sovereign,
            CAST(:price_per_fragment AS numeric), CAST(:price_per_shot AS numeric), :currency, :reason,
            :tenant, :actor, :now, :now)
    ON CONFLICT (peer_id) DO UPDATE SET state = excluded.state, revision = excluded.revision,
        reason = excluded.reason, acted_for = excluded.acted_for, acted_by = excluded.acted_by,
        changed_at = excluded.changed_at
    WHERE network.enrolment.revision = excluded.revision - 1 RETURNING revision
""")
_RAISE = text("UPDATE network.standing SET version = greatest(version, :above) + 1 RETURNING version")
_ENROLMENTS = f"SELECT {_RECORD}, acted_for, proposed_at, changed_at FROM network.enrolment"
# The newest judgement of each service of a peer.
_JUDGED = """
    SELECT DISTINCT ON (peer_id, service) peer_id, service, at, probes, shots, reported_ppm, verified_ppm, degraded,
           because
    FROM network.quality ORDER BY peer_id, service, id DESC
"""
_ENROL = text(f"""
    SELECT s.version, to_jsonb(e) AS peer, coalesce(
        (SELECT jsonb_agg(jsonb_build_array(q.service, q.verified_ppm, q.degraded) ORDER BY q.service)
         FROM ({_JUDGED}) q WHERE q.peer_id = e.peer_id), '[]') AS verified,
        e.price_per_fragment::text AS fragment, e.price_per_shot::text AS shot
    FROM network.standing s LEFT JOIN network.enrolment e ON e.state <> 'pending' ORDER BY e.peer_id
""")


async def lock(conn: AsyncConnection, peer_id: str) -> Record | None:
    """The enrolment, held until the transaction ends; None: nobody has proposed it."""
    row = (await conn.execute(_LOCKED, {"peer_id": peer_id})).mappings().one_or_none()
    return None if row is None else record(row)


async def put(conn: AsyncConnection, new: Record, tenant: str, actor: str, now: dt.datetime) -> bool:
    """Write the record that follows the one that is there, and raise the set's number; False: another came first."""
    values = msgspec.structs.asdict(new) | {"tenant": tenant, "actor": actor, "now": now}
    if (await conn.execute(_PUT, values)).one_or_none() is None:
        return False
    await raise_version(conn)
    return True


async def raise_version(conn: AsyncConnection, above: int = 0) -> int:
    """The set of enrolments, or what was found of a peer, has changed; the fabric is to be told."""
    return int((await conn.execute(_RAISE, {"above": above})).scalar_one())


async def count(conn: AsyncConnection) -> int:
    """How many peers are known."""
    return int((await conn.execute(text("SELECT count(*) FROM network.enrolment"))).scalar_one())


async def enrol(conn: AsyncConnection) -> Enrol:
    """What the fabric is to know, of one moment."""
    rows = (await conn.execute(_ENROL)).all()
    peers = (
        Enrolled(
            peer_id=row.peer["peer_id"],
            state=row.peer["state"],
            organisation=row.peer["organisation"],
            region=row.peer["region"],
            compliance_zone=row.peer["compliance_zone"],
            sovereign=row.peer["sovereign"],
            price_per_fragment=plain(row.fragment),
            price_per_shot=plain(row.shot),
            currency=row.peer["currency"],
            verified=tuple(Verified(*one) for one in row.verified),
        )
        for row in rows
        if row.peer is not None
    )
    return Enrol(version=rows[0].version, peers=tuple(peers))


async def records(conn: AsyncConnection) -> dict[str, Record]:
    """Every enrolment; for the audit role too, which holds them against their entries."""
    rows = (await conn.execute(text(_ENROLMENTS))).mappings()
    return {row["peer_id"]: record(row) for row in rows}


def record(row: RowMapping | Mapping[str, Any]) -> Record:
    """The record of an enrolment's row."""
    names = {field: row[field] for field in Record.__struct_fields__}
    return Record(**names | {name: plain(row[name]) for name in ("price_per_fragment", "price_per_shot")})


def enrolments(peer_id: str | None = None, *, state: str | None = None) -> Query:
    """The query for enrolments by peer id: one, those of a state, or all."""
    condition = (
        "(%(peer_id)s::text IS NULL OR peer_id = %(peer_id)s) AND (%(state)s::text IS NULL OR state = %(state)s)"
    )
    return f"{_ENROLMENTS} WHERE {condition} ORDER BY peer_id", {"peer_id": peer_id, "state": state}


_ADVERT = text("""
    INSERT INTO network.advert AS a (peer_id, service, serial, signed, heard_at)
    VALUES (:peer_id, :service, :serial, :signed, :heard_at)
    ON CONFLICT (peer_id, service) DO UPDATE SET serial = excluded.serial, signed = excluded.signed,
        heard_at = excluded.heard_at
    WHERE a.serial < excluded.serial OR (a.serial = excluded.serial AND a.heard_at < excluded.heard_at)
""")
_KNOWN = text("""
    SELECT a.signed, greatest(0, extract(epoch FROM clock_timestamp() - a.heard_at))::bigint AS age_s
    FROM network.advert a JOIN network.enrolment e USING (peer_id) WHERE e.state = 'approved'
    ORDER BY a.peer_id, a.service
""")


async def keep_adverts(conn: AsyncConnection, adverts: Sequence[Mapping[str, Any]]) -> None:
    """The newest advert of each service: {peer_id, service, serial, signed (bytes), heard_at}."""
    if adverts:
        await conn.execute(_ADVERT, list(adverts))


async def known(conn: AsyncConnection) -> Known:
    """What approved peers said last, with its age."""
    rows = (await conn.execute(_KNOWN)).all()
    return Known(tuple(KnownAdvert(msgspec.json.decode(row.signed, type=Signed), row.age_s) for row in rows))


_PROBE = text("""
    INSERT INTO network.probe (peer_id, service, at, shots, facts, reported_ppm, duration_us, code)
    VALUES (:peer_id, :service, :at, :shots, CAST(:facts AS jsonb), :reported_ppm, :duration_us, :code)
""")
_PROBES = text("""
    SELECT at, shots, facts, reported_ppm, duration_us, code FROM network.probe
    WHERE peer_id = :peer_id AND service = :service ORDER BY id DESC LIMIT :most
""")
_PROBED = text("""
    SELECT peer_id, service, count(*) AS probes, extract(epoch FROM clock_timestamp() - max(at))::float AS age_s
    FROM network.probe GROUP BY 1, 2
""")
# Marked, and not counted up to an id: rows of several transactions become visible in any order.
_METER = text("""
    WITH done AS (
        UPDATE network.probe SET metered = true WHERE NOT metered RETURNING peer_id, shots, duration_us, code)
    SELECT d.peer_id, count(*) AS probes, count(*) FILTER (WHERE d.code IS NOT NULL) AS failed, sum(d.shots) AS shots,
        sum(d.duration_us) AS duration_us, e.currency, (count(*) FILTER (WHERE d.code IS NULL) * e.price_per_fragment
            + sum(d.shots) * e.price_per_shot)::text AS amount
    FROM done d JOIN network.enrolment e USING (peer_id)
    GROUP BY d.peer_id, e.currency, e.price_per_fragment, e.price_per_shot ORDER BY d.peer_id
""")
_QUALITY = text("""
    INSERT INTO network.quality (peer_id, service, at, probes, shots, reported_ppm, verified_ppm, degraded, because)
    VALUES (:peer_id, :service, :at, :probes, :shots, :reported_ppm, :verified_ppm, :degraded, :because)
""")


async def keep_probe(conn: AsyncConnection, values: Mapping[str, Any]) -> None:
    """One probe: {peer_id, service, at, shots, facts, reported_ppm, duration_us, code}."""
    await conn.execute(_PROBE, dict(values) | {"facts": _json(values["facts"])})


async def probes(conn: AsyncConnection, peer_id: str, service: str, most: int) -> list[RowMapping]:
    """The newest probes of a service of a peer, newest first."""
    values = {"peer_id": peer_id, "service": service, "most": most}
    return list((await conn.execute(_PROBES, values)).mappings())


async def probed(conn: AsyncConnection) -> dict[tuple[str, str], tuple[int, float]]:
    """(peer, service) → how many probes are kept, and the age of the newest in seconds."""
    return {(row.peer_id, row.service): (row.probes, row.age_s) for row in (await conn.execute(_PROBED)).all()}


async def meter(conn: AsyncConnection) -> list[RowMapping]:
    """What probes used since they were metered last, a peer a row, each probe once; the price is the enrolment's."""
    return list((await conn.execute(_METER)).mappings())


_SPENT = """
    SELECT min(p.at) AS since, count(p.at) AS probes, count(p.code) AS failed,
        coalesce(sum(p.shots), 0)::bigint AS shots, coalesce(sum(p.duration_us), 0)::bigint AS duration_us, e.currency,
        ((count(p.at) - count(p.code)) * e.price_per_fragment + coalesce(sum(p.shots), 0) * e.price_per_shot)::text
            AS amount
    FROM network.enrolment e LEFT JOIN network.probe p USING (peer_id) WHERE e.peer_id = %(peer_id)s
    GROUP BY e.currency, e.price_per_fragment, e.price_per_shot
"""


def spent(peer_id: str) -> Query:
    """The query for what the kept probes of a peer used, and cost by its enrolment; one row where it is enrolled."""
    return _SPENT, {"peer_id": peer_id}


async def judge(conn: AsyncConnection, values: Mapping[str, Any]) -> None:
    """A new judgement of a service of a peer; the fabric is to be told."""
    await conn.execute(_QUALITY, dict(values))
    await raise_version(conn)


async def judged(conn: AsyncConnection) -> dict[tuple[str, str], RowMapping]:
    """(peer, service) → the newest judgement."""
    rows = (await conn.execute(text(_JUDGED))).mappings()
    return {(row["peer_id"], row["service"]): row for row in rows}


def quality(peer_id: str, most: int = 200) -> tuple[Query, Query]:
    """The queries for the newest judgement of each service of a peer, and for all its judgements, newest first."""
    now = f"SELECT * FROM ({_JUDGED}) q WHERE peer_id = %(peer_id)s ORDER BY service"
    ever = """
        SELECT service, at, probes, shots, reported_ppm, verified_ppm, degraded, because FROM network.quality
        WHERE peer_id = %(peer_id)s ORDER BY id DESC LIMIT %(most)s
    """
    return (now, {"peer_id": peer_id}), (ever, {"peer_id": peer_id, "most": most})


_LINK = text("""
    INSERT INTO network.link AS l (from_id, to_id, at, connected, latency_us, failure_ppm, degraded)
    VALUES (:from_id, :to_id, date_bin('5 minutes', clock_timestamp(), 'epoch'), :connected, :latency_us, :failure_ppm,
            :degraded)
    ON CONFLICT (from_id, to_id, at) DO UPDATE SET connected = l.connected AND excluded.connected,
        latency_us = greatest(l.latency_us, excluded.latency_us),
        failure_ppm = greatest(l.failure_ppm, excluded.failure_ppm), degraded = l.degraded OR excluded.degraded,
        reports = l.reports + 1
""")
_LINKS = """
    SELECT at, connected, latency_us, failure_ppm, degraded FROM network.link
    WHERE to_id = %(peer_id)s AND at > now() - make_interval(hours => %(hours)s) ORDER BY at
"""


async def note_links(conn: AsyncConnection, links: Iterable[Link]) -> None:
    """How links stand; of five minutes the worst is kept."""
    if values := [msgspec.structs.asdict(link) for link in links]:
        await conn.execute(_LINK, values)


def links(peer_id: str, hours: int) -> Query:
    """The query for a peer's link over the last hours, oldest first."""
    return _LINKS, {"peer_id": peer_id, "hours": hours}


_TOPOLOGY = text("""
    INSERT INTO network.topology (at, hash, topology) SELECT clock_timestamp(), :hash, CAST(:topology AS jsonb)
    WHERE :hash IS DISTINCT FROM (SELECT hash FROM network.topology ORDER BY at DESC LIMIT 1)
""")


async def keep_topology(conn: AsyncConnection, hash_: str, topology: object) -> bool:
    """The topology where it differs from the newest that is kept; whether it did."""
    return bool((await conn.execute(_TOPOLOGY, {"hash": hash_, "topology": _json(topology)})).rowcount)


def topology() -> Query:
    """The query for the newest topology that was kept."""
    return "SELECT at, hash, topology FROM network.topology ORDER BY at DESC LIMIT 1", {}


_KEEP_PLAN = text("""
    INSERT INTO network.plan (tenant, plan_id, job_id, attempt, project, plan, snapshot)
    VALUES (:tenant, :plan_id, :job_id, :attempt, :project, CAST(:plan AS jsonb), CAST(:snapshot AS jsonb))
    ON CONFLICT DO NOTHING
""")
_PLANS = """
    SELECT job_id, attempt, project, planned_at, plan, snapshot FROM network.plan WHERE plan_id = %(plan_id)s
    ORDER BY planned_at DESC, job_id, attempt LIMIT 200
"""


async def keep_plan(
    conn: AsyncConnection, tenant: str, job_id: str, attempt: int, project: str, plan: Plan, snapshot: Snapshot
) -> None:
    """The plan of an attempt of a tenant's job, with what it was made from; the same again changes nothing."""
    values = {"tenant": tenant, "plan_id": plan.plan_id, "job_id": job_id, "attempt": attempt, "project": project}
    await conn.execute(_KEEP_PLAN, values | {"plan": _json(plan), "snapshot": _json(snapshot)})


def plan_of(job_id: str, attempt: int) -> Query:
    """The query for the plan of one attempt."""
    condition = {"job_id": job_id, "attempt": attempt}
    return "SELECT plan, snapshot FROM network.plan WHERE job_id = %(job_id)s AND attempt = %(attempt)s", condition


def plans(plan_id: str) -> Query:
    """The query for the attempts of the tenant that rest on a plan, newest first."""
    return _PLANS, {"plan_id": plan_id}


_STANDING = text("SELECT * FROM network.standing")
_LEASE = text("""
    UPDATE network.standing SET keeper = :keeper, kept_until = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE keeper = :keeper OR kept_until IS NULL OR kept_until < clock_timestamp() RETURNING *
""")
_ADVANCE = text("""
    UPDATE network.standing SET seq = :seq, head = :head WHERE run = :run AND seq = :before AND keeper = :keeper
""")
_NEW_RUN = text("""
    UPDATE network.standing SET run = run + 1, seq = 0, head = NULL, told_seq = 0, told_head = NULL
    WHERE run = :run AND keeper = :keeper
""")
_TOLD = text("""
    UPDATE network.standing SET told_seq = seq, told_head = head, told_at = clock_timestamp()
    WHERE run = :run AND seq = :seq AND keeper = :keeper
""")
_TURNED_AWAY = text("""
    SELECT kind, left(coalesce(facts ->> 'reason', 'unknown'), 100) AS reason, sum(CASE
        WHEN jsonb_typeof(facts -> 'count') = 'number' THEN (facts ->> 'count')::numeric ELSE 1 END)::bigint AS times
    FROM network.event WHERE run = :run AND seq > :after AND seq <= :seq AND kind IN ('advert:rejected', 'peer:refused')
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50
""")
_EVENT = text("""
    INSERT INTO network.event (run, seq, at, kind, peer_id, token, fragment_id, epoch, facts, signed)
    VALUES (:run, :seq, CAST(:at AS timestamptz), :kind, :peer_id, :token, :fragment_id, :epoch, CAST(:facts AS jsonb),
            :signed)
""")


async def standing(conn: AsyncConnection) -> RowMapping:
    """The keeper's one row."""
    return (await conn.execute(_STANDING)).mappings().one()


async def lease(conn: AsyncConnection, keeper: str, lease_s: float) -> RowMapping | None:
    """The keeper's one row where this process keeps the network for the next seconds; None: another does."""
    return (await conn.execute(_LEASE, {"keeper": keeper, "lease_s": lease_s})).mappings().one_or_none()


async def advance(
    conn: AsyncConnection, keeper: str, run: int, before: int, events: Sequence[Event], head: str
) -> bool:
    """Take in events of the journal that follow `before`; False, and nothing is written, where another did."""
    values = {"run": run, "before": before, "seq": events[-1].seq, "head": head, "keeper": keeper}
    if not (await conn.execute(_ADVANCE, values)).rowcount:
        return False
    await conn.execute(_EVENT, [_event(run, event) for event in events])
    return True


async def begin_run(conn: AsyncConnection, keeper: str, run: int) -> bool:
    """The fabric's journal isn't the one that was read: read it from its beginning."""
    return bool((await conn.execute(_NEW_RUN, {"run": run, "keeper": keeper})).rowcount)


async def told(conn: AsyncConnection, keeper: str, run: int, seq: int) -> bool:
    """The ledger names the journal's head up to here; False where another keeper has gone on."""
    return bool((await conn.execute(_TOLD, {"run": run, "seq": seq, "keeper": keeper})).rowcount)


async def turned_away(conn: AsyncConnection, run: int, after: int, seq: int) -> list[RowMapping]:
    """What the journal tells of rejected adverts and refused peers in a stretch: kind, reason, times."""
    values = {"run": run, "after": after, "seq": seq}
    return list((await conn.execute(_TURNED_AWAY, values)).mappings())


def _event(run: int, event: Event) -> dict[str, Any]:
    return {
        "run": run,
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "peer_id": event.node_id,
        "token": event.token,
        "fragment_id": event.fragment_id,
        "epoch": event.epoch,
        "facts": _json(event.facts),
        "signed": msgspec.json.encode(event.signed) if event.signed is not None else None,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


_PRUNE = (
    text("DELETE FROM network.event WHERE at < clock_timestamp() - make_interval(days => :event_days)"),
    text("""
        DELETE FROM network.event e USING (
            SELECT run, seq FROM network.event ORDER BY run DESC, seq DESC OFFSET :events LIMIT 1) AS last
        WHERE (e.run, e.seq) <= (last.run, last.seq)"""),
    text("DELETE FROM network.probe WHERE at < clock_timestamp() - make_interval(days => :probe_days)"),
    text("""
        DELETE FROM network.quality q WHERE at < clock_timestamp() - make_interval(days => :quality_days)
        AND EXISTS (SELECT 1 FROM network.quality n
                    WHERE n.peer_id = q.peer_id AND n.service = q.service AND n.id > q.id)"""),
    text("""
        DELETE FROM network.probe p WHERE id <= (
            SELECT id FROM network.probe n WHERE n.peer_id = p.peer_id AND n.service = p.service
            ORDER BY id DESC OFFSET :probes LIMIT 1)"""),
    text("""
        DELETE FROM network.quality q WHERE id <= (
            SELECT id FROM network.quality n WHERE n.peer_id = q.peer_id AND n.service = q.service
            ORDER BY id DESC OFFSET :judgements LIMIT 1)"""),
    text("DELETE FROM network.link WHERE at < clock_timestamp() - make_interval(days => :link_days)"),
    text("""
        DELETE FROM network.topology
        WHERE at < (SELECT at FROM network.topology ORDER BY at DESC OFFSET :topologies LIMIT 1)"""),
)


async def prune(conn: AsyncConnection) -> None:
    """Forget what is too old, or too much."""
    values = {
        "event_days": EVENT_DAYS,
        "events": EVENTS_AT_MOST,
        "probe_days": PROBE_DAYS,
        "quality_days": QUALITY_DAYS,
        "probes": PROBES_AT_MOST,
        "judgements": JUDGEMENTS_AT_MOST,
        "link_days": LINK_DAYS,
        "topologies": TOPOLOGIES,
    }
    for statement in _PRUNE:
        await conn.execute(statement, {name: values[name] for name in statement.compile().params})
