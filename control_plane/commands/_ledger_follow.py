# SPDX-License-Identifier: Apache-2.0
"""`qcos ledger follow`: another instance catches up with a plane's log in a folder of its own (S5)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from control_plane.follower.source import Source
    from ledger.trust import Trust


def register(ledger: Any) -> None:
    """Add the command."""
    follow = ledger.add_parser(
        "follow",
        help="catch up with a plane's log in a folder of one's own, and prove the agreement",
        description="SOURCE is a plane's URL (https://…, unix:PATH), for the tenant that is signed in; or a plane's "
        "home, or the URL of its database with the role audit (postgresql://…), for the whole log.",
    )
    follow.add_argument("source", metavar="SOURCE")
    follow.add_argument(
        "-o", "--output", metavar="FOLDER", type=Path, required=True, help="where the follower keeps it"
    )
    follow.add_argument(
        "--trust", metavar="FILE", type=Path, help="the plane's trust file; kept in FOLDER from then on"
    )
    follow.add_argument("--state", metavar="FILE", type=Path, help="write the canonical state there")
    follow.add_argument("--json", action="store_true", help="one document")
    follow.set_defaults(run=_follow)


def _follow(arguments: argparse.Namespace) -> None:
    import msgspec

    from control_plane import tables
    from control_plane.errors import Refused
    from control_plane.follower.follow import catch_up
    from control_plane.follower.store import Store

    folder: Path = arguments.output
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        trust = _trust(folder, arguments.trust)
        source, store = _source(arguments.source), Store(folder / "follower.db")
        try:
            report = catch_up(source, store, trust)
            if arguments.state is not None:
                arguments.state.write_bytes(store.value("state") or b"")
        finally:
            store.close()
            source.close()
    except OSError as error:
        raise Refused("unusable_input", f"{error.filename or folder}: {error.strerror}") from None
    told = msgspec.to_builtins(report)
    if arguments.json:
        tables.document(told)
    else:
        shown = told | {"snapshots": ", ".join(map(str, told["snapshots"])) or "none yet"}
        tables.facts([(name, value) for name, value in shown.items() if value is not None])


def _trust(folder: Path, given: Path | None) -> Trust:
    """The trust file given, which is kept, or the one that was kept before."""
    from control_plane.errors import Refused
    from ledger.trust import parse_trust

    kept = folder / "trust.json"
    if given is None and not kept.exists():
        raise Refused("usage", "--trust FILE names the plane's trust file, which came another way than its log")
    data = (given or kept).read_bytes()
    found = parse_trust(data)
    if given is not None:
        kept.write_bytes(data)
    return found


def _source(name: str) -> Source:
    from sqlalchemy import make_url

    from control_plane.db import Database as Logins
    from control_plane.errors import Refused
    from control_plane.follower.source import Api, Database
    from control_plane.settings import located

    if name.startswith(("http://", "https://", "unix:")):
        return Api(located().home, name)
    if name.startswith("postgresql"):
        return Database(make_url(name).set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
    if (Path(name) / "db" / "place").exists():
        return Database(Logins.of_home(Path(name) / "db").audit)
    raise Refused("usage", f"{name}: a plane's URL, its home, or the URL of its database")
