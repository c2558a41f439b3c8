# SPDX-License-Identifier: Apache-2.0
"""`qcos up`: the whole plane on one machine, each part started when what it needs is there, and kept alive.

Enters: settings and a `Teller`, which shows a line when it has become true. Leaves: a running plane until `stop`, its
record in `run/plane.json`. Order: home and port (before anything starts), PostgreSQL, roles, migrations, policy engine,
keys, authority of time, sealer, seed (dev), API, workers; the way down is the way up reversed, PostgreSQL last. All
processes run under one OS user here, which separates no key from any other: the last line says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import make_url

from control_plane import authorities, crash, home, logs, parts, store, witnesses
from control_plane.auth.keys import SIDECAR
from control_plane.db import Database, conninfo, engine, transaction
from control_plane.documents import chains
from control_plane.errors import SealingStopped, SettingInvalid, StartFailed
from control_plane.listening import Listening, answers, failing
from control_plane.network import own
from control_plane.policy import beside, choice, shipped
from control_plane.policy.opa import OPA_ENVIRONMENT, opa_command
from control_plane.policy.store import Stored
from control_plane.postgres import DATABASE, SUPERUSER, Cluster, cluster
from control_plane.process import GIVING_BACK_S
from control_plane.provision import migrate, provision
from control_plane.settings import Settings, to_json
from control_plane.supervisor import Child
from control_plane.telemetry import config as telemetry
from control_plane.telling import Teller

_BOUND_S = 30.0


class Plane:
    """The plane of this `up`: its children in starting order and the record that others read."""

    def __init__(self, settings: Settings, teller: Teller) -> None:
        self.settings = settings
        self._teller = teller
        self._children: list[Child] = []
        self._cluster: Cluster | None = None
        self._listening: Listening | None = None
        self._is_ready = False
        self._bounding: asyncio.Task[None] | None = None
        self._snapshots: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start everything; raises an Unusable error, and what was started is then stopped by `stop`."""
        self._listening = Listening(self.settings)
        self.settings = msgspec.structs.replace(self.settings, http_port=self._listening.port, url=self._listening.url)
        self._write()  # from here on `down` finds this plane, and no older record is taken for it
        # Chosen before anything starts, so that a wrong setting costs nothing.
        chosen = choice.choose_engine(
            self.settings.policy_engine,  # type: ignore[arg-type]  # the reader of the field admits these words only
            self.settings.profile,
            self.settings.opa_bin,
            self.settings.opa_url,
        )
        crash.arm(self.settings.home, self.settings.crash_at)
        database = await self._start_database()
        parts.make_keys(self.settings)
        telemetry.keep_headers(self.settings.telemetry, self.settings.home)
        await self._seed()
        await self._start_sealer(database)
        await self._start_policy(chosen, database)
        network = own.OwnNetwork(self.settings, self._run, self._python)
        await network.start_fabric()
        await self._start_services()
        await network.start_nodes(self._teller)
        await self._start_telemetry()
        await self._start_siem()
        self._bounding = asyncio.create_task(self._bound_logs(), name="bound logs")
        self._snapshots = asyncio.create_task(self._keep_snapshots(), name="snapshots")
        self._is_ready = True
        self._write()

    async def stop(self) -> None:
        """Stop the children, those that use before those that are used, PostgreSQL last.

        API and workers finish what they hold within `stop_limit_s`, or give it back; then the sealer seals what waits.
        """
        self._is_ready = False
        for task in (self._bounding, self._snapshots):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
        users = [c for c in self._children if c.name.startswith(("api", "worker"))]
        await asyncio.gather(*(child.stop() for child in users))
        for child in reversed([c for c in self._children if c not in users]):
            await child.stop()
        self._write()

    def end_now(self) -> None:
        """Let nobody finish: what was acknowledged is durable, and the next start recovers the rest."""
        for child in self._children:
            child.end_now()

    def record(self) -> home.PlaneRecord:
        """What `status` shows; no password is in it."""
        s = self.settings
        folder = self._cluster
        return home.PlaneRecord(
            pid=os.getpid(),
            started=home.started_at(os.getpid()),
            profile=s.profile,
            url=s.url or "",
            socket=str(s.api_socket),
            policy_engine=s.policy_engine,
            database=_shown(s, folder),
            database_admin=None
            if folder is None
            else {"socket_folder": str(folder.socket_folder), "password_file": str(folder.password_file)},
            processes=tuple(child.record() for child in self._children),
            ready=self._is_ready,
        )

    async def _start_database(self) -> Database:
        begun = time.monotonic()
        url = self.settings.database_url
        if url is None:
            url = await self._start_postgres()
        folder = self.settings.home / "db"
        database = await asyncio.to_thread(provision, url, folder)
        migrated = await asyncio.to_thread(migrate, database)
        pool = engine(database.audit, connections=1)
        try:
            async with transaction(pool, None) as conn:
                lax = await store.lax_settings(conn)
                size = await store.entries(conn)
        finally:
            await pool.dispose()
        if lax:
            raise SettingInvalid("QCOS_DATABASE_URL", ", ".join(lax), "a PostgreSQL whose durable writes are on")
        kind = "socket" if self._cluster else "by URL"
        said = f"{kind}, ledger {size:,} entries, durable writes on"
        if migrated.before not in {None, migrated.after}:
            said += f", schema migrated from {migrated.before} to {migrated.after}"
        self._teller.true("postgres", said, time.monotonic() - begun)
        return database

    async def _start_postgres(self) -> str:
        folder = self.settings.home / "db"
        home.make_folder(folder)
        home.make_folder(self.settings.postgres_sockets)
        found = await asyncio.to_thread(cluster, folder, self.settings.postgres_sockets)
        self._cluster = found
        await self._run(
            Child(
                "postgres",
                found.command(),
                log=self._log("postgres"),
                environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                probe=lambda: asyncio.to_thread(found.answers),
                who=found.who,
                before=found.clear_leftovers,
                stop_signal=signal.SIGINT,
                stop_limit_s=30.0,
                end_signal=signal.SIGQUIT,  # killed outright, its backends would outlive it for a moment
            )
        )
        await asyncio.to_thread(found.make_database, DATABASE)
        return found.url(DATABASE)

    async def _start_policy(self, chosen: choice.Choice, database: Database) -> None:
        url, key = chosen.opa_url, self.settings.home / "keys" / "policy"
        pool = engine(database.app, connections=1)
        try:
            push, policies = await shipped.in_force(pool, key)
        finally:
            await pool.dispose()
        if chosen.opa_bin is not None:
            socket = self.settings.opa_socket
            home.make_folder(socket.parent)
            url = f"unix://{socket}"
            command = opa_command(chosen.opa_bin, url, configuration=await asyncio.to_thread(self._told_opa, push))
            probing = choice.open_engine("opa", url)
            try:
                await self._run(
                    Child(
                        "opa",
                        command,
                        log=self._log("opa"),
                        environment=OPA_ENVIRONMENT
                        | {"PATH": os.environ.get("PATH", ""), "HOME": str(self.settings.home)},
                        probe=lambda: _decides(probing),
                        before=lambda: socket.unlink(missing_ok=True),
                    )
                )
            finally:
                await probing.close()
        else:
            deciding = choice.open_engine(chosen.engine, url)
            await deciding.ready(policies)
            await deciding.close()
        self.settings = msgspec.structs.replace(
            self.settings, policy_engine=chosen.engine, opa_url=url if chosen.engine == "opa" else None
        )
        packages = len({path.split("/")[-2] for path in policies.modules})
        text = f"{chosen.engine}, revision {policies.revision[:15]}, {packages} packages"
        self._teller.true("policy", text if chosen.engine == "opa" else f"{text} ({chosen.why})")

    def _told_opa(self, push: Stored) -> Path:
        """OPA's configuration, and the bundle with which it starts."""
        s, key, folder = self.settings, self.settings.home / "keys" / "policy", self.settings.home / "opa"
        home.make_folder(folder)
        assert s.url is not None
        beside.keep(push, key, folder)
        traces = s.telemetry.opa_address
        told = beside.told(
            s.url, key, s.home / SIDECAR, folder, log_per_s=s.policy_log_per_s, traces_to=traces, service=self._opa()
        )
        return beside.lay(folder, told)

    async def _start_sealer(self, database: Database) -> None:
        home.make_folder(self.settings.tsa_socket.parent)
        await self._run(self._python("tsa", probe=lambda: answers(self.settings.tsa_socket)))
        pool = engine(database.audit, connections=1)

        async def caught_up() -> bool:
            async with transaction(pool, None) as conn:
                if (alarm := await store.alarm(conn)) is not None:
                    raise SealingStopped(alarm["code"], alarm["detail"])
                return await store.waited_s(conn) == 0.0

        try:
            async with transaction(pool, None) as conn:
                awaited = await store.unstamped_outside(conn)
            authorities.change(self.settings, datetime.now(UTC), awaited)
            witnesses.change(self.settings, datetime.now(UTC))
            chains.change(self.settings, datetime.now(UTC))
            try:
                await _all([asyncio.ensure_future(self._run(child)) for child in self._sealers()])
            except StartFailed:
                await caught_up()  # a sealer that refuses has said why, in the database
                raise
            # Asked once, here: a sealer that is started again under load never finds the inbox empty.
            await self._until(caught_up, "the seal of what waits")
            async with transaction(pool, None) as conn:
                size, origin = await store.entries(conn), await store.log_origin(conn)
        finally:
            await pool.dispose()
        said = f"checkpoint signed over {size:,} entries" if size else "nothing to sign yet"
        self._teller.true("sealer", f"log {origin or parts.origin(self.settings)}, {said}")

    def _sealers(self) -> list[Child]:
        """One seals; each further one stands by and takes over where that one stands still."""
        return [self._python("sealer" if n == 1 else f"sealer-{n}") for n in range(1, self.settings.sealers + 1)]

    async def _seed(self) -> None:
        from control_plane.seed import seed  # after migrations: its tables are theirs

        await seed(self.settings)

    async def _start_services(self) -> None:
        begun = time.monotonic()
        s, listening = self.settings, self._listening
        assert listening is not None
        services = [self._python(f"worker-{n}") for n in range(1, s.workers + 1)]
        services += [
            self._python(
                f"api-{n}",
                probe=lambda: answers(s.api_socket, "/api/v1/health"),
                descriptors=listening.descriptors,
                environment={"QCOS_LISTEN_FDS": ",".join(str(fd) for fd in listening.descriptors)},
            )
            for n in range(1, s.api_processes + 1)
        ]
        await _all([asyncio.ensure_future(self._run(child)) for child in services])
        await self._until(self._serves, "GET /api/v1/ready")
        time_of = "self-issued time" + (f", and time from {s.tsa_url}" if s.tsa_url else "")
        self._teller.true(
            f"api ×{s.api_processes} · worker ×{s.workers} · tsa ({time_of})", "", time.monotonic() - begun
        )

    async def _serves(self) -> bool:
        """All checks pass but, maybe, those of others: a backend may come later, a witness's alarm is told."""
        lacking = await failing(self.settings.api_socket)
        return lacking is not None and lacking <= {"backends", "outside"}

    async def _start_telemetry(self) -> None:
        found = self.settings.telemetry
        if not found.on:
            return
        await self._run(self._python("telemetry"))
        signals = " ".join(signal for signal in telemetry.SIGNALS if getattr(found, signal))
        self._teller.true("telemetry", f"{signals} by {found.protocol} to {found.endpoint}")

    async def _start_siem(self) -> None:
        if self.settings.siem:
            await self._run(self._python("siem"))
            told = ", ".join(f"{facts.name} at {facts.host}:{facts.port}" for facts in self.settings.siem)
            self._teller.true("siem", f"administrative entries to {told}")

    async def _bound_logs(self) -> None:
        # Processes of ours turn their own files over.
        while True:
            await asyncio.sleep(_BOUND_S)
            for name in ("postgres", "opa"):
                await asyncio.to_thread(logs.bound, self._log(name), self.settings.log_file_mb << 20)

    async def _keep_snapshots(self) -> None:
        from control_plane.snapshots import keep_making  # what folds the register is no part of a start

        await keep_making(self.settings)

    async def _until(self, probe: Any, what: str) -> None:
        until = time.monotonic() + self.settings.start_limit_s
        while not await probe():
            if time.monotonic() > until:
                raise StartFailed(
                    f"{what}: not within {self.settings.start_limit_s:g} s; see {self._log('sealer').parent}"
                )
            await asyncio.sleep(0.02)

    def _python(self, name: str, *, environment: dict[str, str] | None = None, **rest: Any) -> Child:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("QCOS_") and not telemetry.is_secret(key)
        }
        own = {"QCOS_SETTINGS": to_json(self.settings).decode(), "PYTHONUNBUFFERED": "1"}
        return Child(
            name,
            [sys.executable, "-m", "control_plane.process", name],
            log=self._log(name),
            environment={**kept, **own, **(environment or {})},
            says_ready=True,
            stop_limit_s=self.settings.stop_limit_s + GIVING_BACK_S + 2.0,
            **rest,
        )

    def _opa(self) -> str:
        return f"{self.settings.telemetry.service}-opa"

    def _log(self, name: str) -> Any:
        folder = self.settings.home / "log"
        home.make_folder(folder)
        return folder / f"{name}.log"

    async def _run(self, child: Child) -> None:
        child.changed = self._write
        self._children.append(child)
        await child.start(self.settings.start_limit_s)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            home.write_record(self.settings.home, self.record())


async def _all(starting: list[asyncio.Future[None]]) -> None:
    try:
        await asyncio.gather(*starting)
    finally:
        for other in starting:
            other.cancel()
        await asyncio.gather(*starting, return_exceptions=True)


async def _decides(deciding: Any) -> bool:
    """Whether it has policies; by which revision a decision is had, who asks for it compares."""
    from control_plane.policy.decision import PolicyUnavailable

    try:
        await deciding.holds()
    except PolicyUnavailable:
        return False
    return True


def _shown(settings: Settings, found: Cluster | None) -> str:
    if found is not None:
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={found.socket_folder}"
    if settings.database_url is None:
        return ""
    return make_url(conninfo(settings.database_url)).set(password=None).render_as_string()
