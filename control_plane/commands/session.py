# SPDX-License-Identifier: Apache-2.0
"""`qcos login`, `whoami`: who the commands speak for."""

from __future__ import annotations

import argparse
from typing import Any


def register(groups: Any) -> None:
    """Add the two commands."""
    login = groups.add_parser("login", help="sign in and keep the token in QCOS_HOME/credentials.json")
    login.add_argument("--as", dest="user", metavar="USER", help="a development user (profile dev)")
    login.add_argument("--json", action="store_true", help="one document, the token in it")
    login.set_defaults(run=_login)
    who = groups.add_parser("whoami", help="the identity and rights of the token in use")
    who.add_argument("--json", action="store_true", help="one document")
    who.set_defaults(run=_whoami)


def _login(arguments: argparse.Namespace) -> None:
    from urllib.parse import urlencode

    from control_plane import tables
    from control_plane.client import Client, store_credentials
    from control_plane.errors import NotSignedIn, Refused
    from control_plane.settings import located

    settings = located()
    if arguments.user is None:
        raise Refused("usage", "login needs --as USER; this plane signs in development users only")
    secret = settings.home / "dev-login"
    client = Client(settings.home)
    if not secret.is_file():
        raise NotSignedIn(f"{settings.home} holds no development secret: log in where the plane runs, in profile dev")
    form = urlencode({"user": arguments.user, "client_secret": secret.read_text(encoding="ascii").strip()})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    issued = client.ask("POST", "/issuer/token", form.encode(), headers=headers, signed_in=False)
    login = {name: issued[name] for name in ("subject", "access_token", "expires_at")}
    store_credentials(settings.home, login)
    if arguments.json:
        tables.document(login)
    else:
        tables.facts([("subject", login["subject"]), ("expires", login["expires_at"])])


def _whoami(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.client import Client
    from control_plane.settings import located

    who = Client(located().home).ask("GET", "/api/v1/whoami")
    if arguments.json:
        tables.document(who)
        return
    tables.facts(
        [
            ("actor", who["actor"]),
            ("tenant", who["tenant"]),
            ("roles", ", ".join(who["roles"])),
            ("projects", ", ".join(who["projects"])),
            ("team", who["team"]),
            ("groups", ", ".join(who["groups"])),
            ("came by", who["via"]),
            *((f"acts for {link['by']}", f"{link['to']} by delegation {link['delegation']}") for link in who["acting"]),
        ]
    )
