# SPDX-License-Identifier: Apache-2.0
"""How commands name somebody: by pseudonym, by a name or subject that is one person's here, or with their issuer."""

from __future__ import annotations

import argparse
import re
from typing import Any

from control_plane.commands._plane import plane

_PSEUDONYM = re.compile("a-[0-9a-f]{32}")
WORDS = "their subject, NAME@DOMAIN, or pseudonym, as qcos users list has them"


def named(asking: Any, text: str, issuer: str | None = None) -> dict[str, str]:
    """The members of a request that name them; with an issuer `text` is the subject, and they may be new."""
    from urllib.parse import quote

    from control_plane.errors import Refused

    if issuer is not None:
        return {"issuer": issuer, "subject": text}
    if _PSEUDONYM.fullmatch(text):
        return {"user": text}
    found = asking.ask("GET", f"/api/v1/users?find={quote(text, safe='')}")
    if len(found) == 1:
        return {"user": found[0]["user"]}
    if found:
        each = ", ".join(f"{one['user']} ({one['actor']} of {one['issuer']})" for one in found)
        raise Refused("usage", f"{text} is {len(found)} people: {each}; name one by the pseudonym")
    raise Refused("not_found", f"nobody here is called {text}; --issuer ISSUER with a subject names somebody new")


def listing(arguments: argparse.Namespace, path: str, fields: tuple[str, ...], join: str = "?") -> None:
    """Every page of a list as one document, or as a table of these fields."""
    import json

    from control_plane import tables

    rows = [row for page in plane().pages(f"{path}{join}limit=1000") for row in json.loads(page)]
    if arguments.json:
        tables.document(rows)
    else:
        tables.table(fields, [[row[name] for name in fields] for row in rows])


def told(arguments: argparse.Namespace, done: dict[str, Any], fields: tuple[str, ...]) -> None:
    """One answer as a document, or these fields of it."""
    from control_plane import tables

    if arguments.json:
        tables.document(done)
    else:
        tables.facts([(name, done[name]) for name in fields])
