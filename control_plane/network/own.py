# SPDX-License-Identifier: Apache-2.0
"""The network that `qcos up` starts: the fabric, and with `--nodes N` nodes of the plane's own (development).

The fabric starts before API and workers, which speak to it. Own nodes keep their keys over restarts, and are enrolled
by the plane itself, which an entry tells like any other enrolment; then they are labs' nodes like all others: outside
of the plane's trust, known by their peer ids. One that an administrator has suspended or revoked stays so, and isn't
waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from control_plane.db import Database, engine, transaction
from control_plane.errors import StartFailed
from control_plane.home import make_folder
from control_plane.jobs.known import FRESH_S
from control_plane.jobs.quote import NETWORK
from control_plane.network import acts, options
from control_plane.registry import store as registry
from control_plane.sealing import utc_now
from control_plane.settings import Settings
from control_plane.supervisor import Child
from control_plane.telling import Teller
from hal_drivers.p2p import identity
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import NetworkError
from hal_drivers.p2p.office import AskSnapshot, AskStanding, SnapshotIs, Standing
from hal_drivers.p2p.plan import NodeFacts

_LOOK_S = 0.05
_JUDGED = frozenset({"online", "degraded"})
_HEARD = _JUDGED | {"unverified"}


class OwnNetwork:
    """The fabric and the own nodes of one `up`."""

    def __init__(self, settings: Settings, run: Callable[[Child], Awaitable[None]], made: Callable[..., Child]) -> None:
        """`run` starts and keeps a child; `made` makes one of a name."""
        self._settings, self._run, self._made = settings, run, made
        self._begun_s = 0.0

    async def start_fabric(self) -> None:
        """Nothing where the network is off; a fabric that can't start is a plane that doesn't."""
        if self._settings.network.enabled:
            self._begun_s = time.monotonic()
            make_folder(self._settings.fabric_socket.parent)
            await self._run(self._made("fabric"))

    async def start_nodes(self, teller: Teller) -> None:
        """Enrol and start the own nodes, wait until each is heard and verified, and tell of the network."""
        if not self._settings.network.enabled:
            return
        names = [f"node-{number}" for number in range(1, self._settings.nodes + 1)]
        office = Office(self._settings.fabric_socket)
        try:
            standing = await office.ask(AskStanding(), Standing)
            peers = await asyncio.to_thread(self._identities, names)
            approved = await self._enrol(peers)
            environment = {options.BOOTSTRAP: ",".join(standing.listen_addrs)}
            await asyncio.gather(*(self._run(self._made(name, environment=environment)) for name in names))
            await self._until_heard(office, approved)
            online = await self._until_probed(office, approved)
            if online:
                await self._until_offered()
        except NetworkError as error:
            raise StartFailed(f"the fabric: {error.detail}") from error
        finally:
            await office.close()
        where = standing.listen_addrs[0].partition("/p2p/")[0]
        nodes = f" · node ×{len(names)}, {online} online" if names else ""
        teller.true("network", f"fabric at {where}{nodes}", time.monotonic() - self._begun_s)

    def _identities(self, names: list[str]) -> list[str]:
        found = []
        for name in names:
            home = options.node_home(self._settings, name)
            make_folder(home)
            found.append(identity.make(home / "key.pem").peer_id)
            (home / "peer_id").write_text(found[-1] + "\n", encoding="utf-8")  # node list tells its pid by this
        return found

    async def _enrol(self, peers: list[str]) -> set[str]:
        """Who of them is approved."""
        pool = engine(Database.of_home(self._settings.home / "db").app, connections=1, name="qcos-enrol")
        try:
            records = await acts.enrol_own(pool, map(options.own_proposal, peers), utc_now())
        finally:
            await pool.dispose()
        return {record.peer_id for record in records if record.state == "approved"}

    async def _until_heard(self, office: Office, approved: set[str]) -> None:
        end_s = time.monotonic() + self._settings.start_limit_s
        while lacking := approved - {one.node_id for one in await self._nodes(office) if one.state in _HEARD}:
            if time.monotonic() > end_s:
                shown = ", ".join(sorted(lacking))
                raise StartFailed(f"nodes not heard within {self._settings.start_limit_s:g} s: {shown}")
            await asyncio.sleep(_LOOK_S)

    async def _until_probed(self, office: Office, approved: set[str]) -> int:
        """How many may be used. StartFailed where some stay unjudged and nothing was found out for so long.

        A judgement may be a bad one: then the node is degraded, as it would be later, and the plane starts.
        """
        limit_s, judged, heard_s = self._settings.start_limit_s, -1, time.monotonic()
        while True:
            own = [one for one in await self._nodes(office) if one.node_id in approved]
            lacking = [one.node_id for one in own if one.state not in _JUDGED or not _is_judged(one)]
            if not lacking or not self._settings.network.probe_s:
                return sum(one.state == "online" for one in own)
            if (now := sum(offer.verified_ppm is not None for one in own for offer in one.offers)) != judged:
                judged, heard_s = now, time.monotonic()
            if time.monotonic() > heard_s + limit_s:
                said = ", ".join(f"{one.node_id} ({one.state})" for one in own if one.node_id in lacking)
                raise StartFailed(f"nodes not verified, and no probe came through for {limit_s:g} s: {said}")
            await asyncio.sleep(_LOOK_S)

    async def _until_offered(self) -> None:
        """The workers have told that the network is there, and every API process has heard of it."""
        end_s = time.monotonic() + self._settings.start_limit_s
        pool = engine(Database.of_home(self._settings.home / "db").app, connections=1, name="qcos-offered")
        try:
            while True:
                async with transaction(pool, None) as conn:
                    rows = await registry.backends(conn, registry.BACKEND_STALE_S)
                if any(row["provider"] == NETWORK and row["fresh"] and row["state"] == "online" for row in rows):
                    break
                if time.monotonic() > end_s:
                    raise StartFailed(f"no worker offers the network within {self._settings.start_limit_s:g} s")
                await asyncio.sleep(_LOOK_S)
        finally:
            await pool.dispose()
        await asyncio.sleep(FRESH_S)

    async def _nodes(self, office: Office) -> tuple[NodeFacts, ...]:
        return (await office.ask(AskSnapshot(), SnapshotIs)).snapshot.nodes


def _is_judged(node: NodeFacts) -> bool:
    return all(offer.verified_ppm is not None for offer in node.offers)
