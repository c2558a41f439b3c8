# SPDX-License-Identifier: Apache-2.0
"""Fills a plane's ledger quickly and honestly: with copies of jobs that this plane ran itself.

A few jobs of each kind are submitted over HTTP; what the plane stored of them is the pattern (`bench.copies`). Copies
are written as an API or worker would write them: as role `app`, row-level security on, contents encrypted under the
tenant's key, rows and inbox entries in one transaction. The plane's own sealer places, signs, stamps and seals them.
What isn't done again for a copy: HTTP, the policy decision, the circuit's run, and the moves of its row, which is
written in its last state. So the ledger verifies, `replay --compare` agrees, and a copy's evidence is valid.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
from msgspec import json as msgjson

from bench.copies import Copy, Pattern, Stored
from bench.plane import Client, Plane, spec
from control_plane.db import Database, conninfo
from control_plane.jobs import store
from ledger.blob import BlobKeys, SealedBlob, open_blob

TENANT = "demo"
AHEAD = 4096  # entries that may wait for their seal: the sealer always has a whole batch
# Kinds of a job, and how many of each in a transaction of copies: 258 entries and 23 leaves of the sealer's. Few are
# signed, for signing would take most of the time: 777 ML-DSA signatures a second a core.
MIX = {"full": 3, "standard": 7, "failed": 26, "denied": 52}
PLACED = {"index", "tenant_index", "tenant_prev", "type", "v", "prev_checkpoint"}  # a leaf's, not the writer's
BAD_SOURCE = "OPENQASM 3.0;\nqubit[1] q;\nnot_a_gate q[0];\n"


class Fill:
    """Writes copies into one running plane until its log has a size."""

    def __init__(self, plane: Plane, source: str) -> None:
        """Run the patterns: some seconds."""
        self._plane = plane
        self._database = Database.of_home(plane.home / "db")
        with plane.client() as client:
            jobs = {kind: _submit(client, kind, source) for kind in MIX}
        with self._audit() as conn:
            key = self._tenant_key(conn)
            self._patterns = {kind: Pattern(_stored(conn, job_id, key), key) for kind, job_id in jobs.items()}
        # Spread evenly, as they would come.
        self._order = sorted((at / count, kind) for kind, count in MIX.items() for at in range(count))
        self.jobs: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def to(self, size: int, say: Callable[[str], None] = lambda _: None, limit_s: float = 3600) -> float:
        """Until the log has `size` entries, or the time is over; all sealed and stamped. How many seconds it took."""
        begun = told = time.monotonic()
        with psycopg.connect(conninfo(self._database.app), autocommit=True) as app, self._audit() as audit:
            begin = durable = _size(audit)
            while durable < size and time.monotonic() - begun < limit_s:
                durable += self._chunk(app, size - durable)
                while durable - _sealed(audit) > AHEAD:
                    time.sleep(0.01)
                if time.monotonic() - told > 20:
                    told = time.monotonic()
                    say(f"{durable:,} of {size:,} entries, {(durable - begin) / (told - begun):,.0f} a second")
            while _count(audit, "ledger.inbox") or _count(audit, "ledger.unstamped"):
                time.sleep(0.02)
            refused = audit.execute(
                "SELECT count(*) FROM ledger.entry WHERE kind IN ('ledger:row:refused', 'evidence:refused')"
            ).fetchone()
        if refused != (0,):
            raise RuntimeError(f"the sealer refused {refused} of what was filled in")
        return time.monotonic() - begun

    def bulk(self, times: int, entries: int = 256) -> list[float]:
        """Seconds from the commit of so many entries to the last of them sealed and stamped, again and again."""
        found = []
        with psycopg.connect(conninfo(self._database.app), autocommit=True) as app, self._audit() as audit:
            for _ in range(times):
                self._chunk(app, entries)
                begun = time.perf_counter()
                while _count(audit, "ledger.inbox") or _count(audit, "ledger.unstamped"):
                    time.sleep(0.001)
                found.append(time.perf_counter() - begun)
        return found

    def _chunk(self, app: psycopg.Connection[Any], left: int) -> int:
        """One transaction of copies; how many leaves they come to."""
        now = dt.datetime.now(dt.UTC)
        made: list[tuple[str, Copy]] = []
        entries = 0
        for _, kind in self._order:
            if entries >= left:
                break
            made.append((kind, self._patterns[kind].copy(now)))
            entries += self._patterns[kind].leaves
        with app.transaction(), app.pipeline():
            app.execute("SELECT set_config('qcos.tenant', %s, true)", (TENANT,))
            _put_blobs(app, [blob for _, copy in made for blob in copy.blobs])
            for table, rows in self._rows(made).items():
                app.execute(
                    f"INSERT INTO {table} SELECT r.* FROM unnest(%s::text[]) AS one,"
                    f" jsonb_populate_record(NULL::{table}, one::jsonb) AS r",
                    (rows,),
                )
            _put_entries(app, [copy for _, copy in made])
            for row in self._counted(made):
                _count_in(app, row)
        self.jobs.update(kind for kind, _ in made)
        self.examples |= {kind: json.loads(copy.rows[0])["job_id"] for kind, copy in made}
        return entries

    def _rows(self, made: list[tuple[str, Copy]]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for kind, copy in made:
            for table, row in zip(self._patterns[kind].tables, copy.rows, strict=True):
                found.setdefault(table, []).append(row)
        return found

    def _counted(self, made: list[tuple[str, Copy]]) -> list[dict[str, Any]]:
        """For each kind what its copies add to budgets and quotas: one of them, and how many."""
        last = {kind: copy for kind, copy in made if kind != "denied"}
        numbers = Counter(kind for kind, _ in made)
        return [
            {table: json.loads(row) for table, row in zip(self._patterns[kind].tables, copy.rows, strict=True)}
            | {"copies": numbers[kind]}
            for kind, copy in last.items()
        ]

    def _audit(self) -> psycopg.Connection[Any]:
        return psycopg.connect(conninfo(self._database.audit), autocommit=True)

    def _tenant_key(self, audit: psycopg.Connection[Any]) -> bytes:
        (wrapped,) = audit.execute("SELECT wrapped FROM ledger.tenant_key WHERE tenant = %s", (TENANT,)).fetchone() or (
            b"",
        )
        return BlobKeys.load(self._plane.home / "keys" / "blob" / "root").tenant_key(wrapped)


def _submit(client: Client, kind: str, source: str) -> str:
    """A job of a kind, ended; its id."""
    body = json.loads(spec(source, 1000, "full" if kind in ("failed", "denied") else kind))
    match kind:
        case "failed":
            body["circuit"]["source"] = base64.b64encode(BAD_SOURCE.encode()).decode()
        case "denied":
            body["execution"]["backend_constraints"] = {"allowed_providers": ["p2p"]}
    _, data = client.ask("POST", "/api/v1/jobs?wait=60", json.dumps(body).encode())
    answer = json.loads(data)
    wanted = {"failed": "FAILED", "denied": "DENIED"}.get(kind, "COMPLETED")
    if answer.get("state") != wanted:
        raise RuntimeError(f"want a {wanted} job: {answer}")
    return str(answer["job_id"])


def _stored(audit: psycopg.Connection[Any], job_id: str, key: bytes) -> Stored:
    """Everything that the plane keeps of a job."""
    leaves = audit.execute(
        """SELECT leaf FROM ledger.entry WHERE tenant = %s
           AND convert_from(leaf, 'UTF8')::jsonb -> 'body' ->> 'job_id' = %s ORDER BY "index" """,
        (TENANT, job_id),
    )
    entries = [{k: v for k, v in json.loads(leaf).items() if k not in PLACED} for (leaf,) in leaves.fetchall()]
    rows = tuple((table, row) for table in _tables(audit) for row in _row_of(audit, table, job_id))
    job = json.loads(dict(rows)["jobs.job"])
    wanted = sorted({one for entry in entries for one in entry["commitments"].values()})
    blobs = audit.execute(
        """SELECT tenant, commitment, nonce, wrapped_key, ciphertext FROM ledger.blob
           WHERE tenant = %s AND commitment = ANY (%s)""",
        (TENANT, wanted),
    )
    contents = {row[1]: open_blob(SealedBlob(*row), key)[1] for row in blobs.fetchall()}
    own = ("decision_id", "admission_entry", "outcome_entry", "bundle_id", "token")
    ids = [*(job[name] for name in own if job[name]), *(entry["entry_id"] for entry in entries)]
    signed = audit.execute(
        "SELECT entry_id::text, level FROM ledger.signature WHERE bundle_id = %s", (job["bundle_id"],)
    )
    entry_id, level = signed.fetchone() or (job["outcome_entry"] or job["admission_entry"], "sealed")
    return Stored(
        tenant=TENANT,
        job_id=job_id,
        ids=tuple(dict.fromkeys(ids)),
        entries=tuple(msgjson.encode(entry, order="sorted") for entry in entries),
        contents=contents,
        rows=rows,
        bundle=(entry_id, job["bundle_id"], level, job["statement_blob"]),
    )


def _tables(audit: psycopg.Connection[Any]) -> list[str]:
    """The tables that have a row a job, the job's own first."""
    found = audit.execute(
        """SELECT n.nspname || '.' || c.relname FROM pg_attribute a
           JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE a.attname = 'job_id' AND c.relkind = 'r' AND n.nspname IN ('jobs', 'finops')
           ORDER BY c.relname <> 'job', 1"""
    )
    return [name for (name,) in found.fetchall()]


def _row_of(audit: psycopg.Connection[Any], table: str, job_id: str) -> list[str]:
    found = audit.execute(
        f"SELECT row_to_json(t)::text FROM {table} t WHERE tenant = %s AND job_id = %s", (TENANT, job_id)
    )
    return [row for (row,) in found.fetchall()]


def _put_blobs(app: psycopg.Connection[Any], blobs: list[SealedBlob]) -> None:
    columns = [[getattr(b, name) for b in blobs] for name in ("commitment", "nonce", "wrapped_key", "ciphertext")]
    app.execute(
        """INSERT INTO ledger.blob (tenant, commitment, nonce, wrapped_key, ciphertext)
           SELECT %t, * FROM unnest(%t::text[], %b::bytea[], %b::bytea[], %b::bytea[])""",
        (TENANT, *columns),
        binary=True,
    )


def _put_entries(app: psycopg.Connection[Any], copies: list[Copy]) -> None:
    """Into the inbox, each with the evidence that the sealer is to sign."""
    rows = []
    for copy in copies:
        place, *proof = copy.evidence
        rows += [(data, *(proof if at == place else (None,) * 4)) for at, data in enumerate(copy.entries)]
    pendings, bundles, levels, statements, salts = (list(column) for column in zip(*rows, strict=True))
    app.execute(
        """INSERT INTO ledger.inbox (tenant, pending, bundle_id, level, statement, salt)
           SELECT %t, * FROM unnest(%b::bytea[], %t::uuid[], %t::text[], %b::bytea[], %b::bytea[])""",
        (TENANT, pendings, bundles, levels, statements, salts),
        binary=True,
    )


def _count_in(app: psycopg.Connection[Any], row: dict[str, Any]) -> None:
    """What these copies captured, and the executions that quotas count."""
    hold, job, copies = row["finops.hold"], row["jobs.job"], row["copies"]
    for budget, window in zip(hold["budgets"], hold["windows"], strict=True):
        app.execute(
            """UPDATE finops.budget_window SET captured = captured + %s::numeric * %s
               WHERE tenant = %s AND budget_id = %s AND window_key = %s""",
            (str(hold["captured"]), copies, TENANT, budget, window),
        )
    scopes = list(store.usage_scopes(job["team"], job["project"]))
    app.execute(
        """INSERT INTO jobs.usage AS u (tenant, scope, day, executions)
           SELECT %s, scope, %s::date, %s FROM unnest(%s::text[]) AS scope ORDER BY scope
           ON CONFLICT (tenant, scope, day) DO UPDATE SET executions = u.executions + EXCLUDED.executions""",
        (TENANT, job["submitted_at"][:10], job["executions"] * copies, scopes),
    )


def _size(audit: psycopg.Connection[Any]) -> int:
    row = audit.execute(
        'SELECT (SELECT coalesce(max("index") + 1, 0) FROM ledger.entry) + (SELECT count(*) FROM ledger.inbox)'
    ).fetchone()
    return int(row[0]) if row else 0


def _sealed(audit: psycopg.Connection[Any]) -> int:
    """Entries under a checkpoint; counting the inbox would read its dead rows."""
    row = audit.execute("SELECT coalesce(max(size), 0) FROM ledger.checkpoint").fetchone()
    return int(row[0]) if row else 0


def _count(audit: psycopg.Connection[Any], table: str) -> int:
    row = audit.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0
