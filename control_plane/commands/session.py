# SPDX-License-Identifier: Apache-2.0
"""`qcos login`, `logout`, `whoami`, `sessions`: who the commands speak for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from control_plane.commands._plane import plane

if TYPE_CHECKING:
    from control_plane.client import Client


def register(groups: Any) -> None:
    """Add the commands."""
    login = groups.add_parser("login", help="sign in and keep the token in QCOS_HOME/credentials.json")
    login.add_argument("--as", dest="user", metavar="USER", help="a development user (profile dev)")
    login.add_argument("--provider", metavar="NAME", help="the identity provider, where the plane has several")
    login.add_argument("--name", metavar="NAME", help="who you are at a directory; its password is asked for")
    login.add_argument("--json", action="store_true", help="one document, the token in it")
    login.set_defaults(run=_login)
    logout = groups.add_parser("logout", help="end the login that is kept")
    logout.add_argument("--everywhere", action="store_true", help="your browsers' and other commands' logins, too")
    logout.add_argument("--json", action="store_true", help="one document")
    logout.set_defaults(run=_logout)
    sessions = groups.add_parser("sessions", help="your own browsers and commands that are signed in")
    sessions.add_argument("--json", action="store_true", help="one document")
    sessions.set_defaults(run=_sessions)
    who = groups.add_parser("whoami", help="the identity and rights of the token in use")
    who.add_argument("--json", action="store_true", help="one document")
    who.set_defaults(run=_whoami)


def _login(arguments: argparse.Namespace) -> None:
    from control_plane import kept_login, tables
    from control_plane.client import Client
    from control_plane.errors import Refused
    from control_plane.settings import located

    home = located().home
    if arguments.user is not None and arguments.provider is not None:
        raise Refused("usage", "--as names a development user, --provider an identity provider: one of the two")
    client = Client(home)
    login = _as_user(client, arguments.user) if arguments.user is not None else _at(client, arguments)
    if "subject" not in login:  # the plane says who that is, or that it doesn't believe the token
        login = {"subject": Client(home, token=login["access_token"]).ask("GET", "/api/v1/whoami")["subject"], **login}
    kept_login.store(home, login)
    shown = {name: login[name] for name in ("subject", "access_token", "expires_at")}
    if arguments.json:
        tables.document(shown)
    else:
        tables.facts([("subject", shown["subject"]), ("expires", shown["expires_at"])])


def _as_user(client: Client, user: str) -> dict[str, Any]:
    from urllib.parse import urlencode

    from control_plane.errors import NotSignedIn
    from control_plane.settings import located

    secret = located().home / "dev-login"
    if not secret.is_file():
        raise NotSignedIn(f"{secret.parent} holds no development secret: log in where the plane runs, in profile dev")
    form = urlencode({"user": user, "client_secret": secret.read_text(encoding="ascii").strip()})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    issued = client.ask("POST", "/issuer/token", form.encode(), headers=headers, signed_in=False)
    return {name: issued[name] for name in ("subject", "access_token", "expires_at")}


def _at(client: Client, arguments: argparse.Namespace) -> dict[str, Any]:
    """At a provider: by its own device flow, else by the plane's, which any login of a browser serves; at a directory
    by name and password.
    """
    import time

    from control_plane.device_login import at_issuer, at_plane, metadata_of

    provider = _provider(client, arguments.provider)
    if provider["kind"] == "ldap":
        return _at_directory(client, provider["name"], arguments.name)
    if provider["device"] is not None:
        metadata = metadata_of(provider["device"]["issuer"])
        if metadata.device_authorization_endpoint is not None:
            return at_issuer(provider["device"], metadata, _told, time.sleep)
    return at_plane(client, _told, time.sleep)


def _at_directory(client: Client, provider: str, name: str | None) -> dict[str, Any]:
    """Name and password from the terminal, or else a line each from standard input; no argument holds a password."""
    import getpass
    import sys

    from control_plane.errors import Refused

    terminal = sys.stdin.isatty()
    if name is None:
        if terminal:
            sys.stderr.write("Name: ")
            sys.stderr.flush()
        name = sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"Password of {name} at {provider}: ") if terminal else sys.stdin.readline()
    if not (password := password.rstrip("\r\n")):
        raise Refused("usage", "no password: type it at the terminal, or give it as a line of standard input")
    asked = {"provider": provider, "user": name, "password": password}
    found = client.ask("POST", "/api/v1/auth/ldap", asked, signed_in=False)
    return {one: found[one] for one in ("subject", "access_token", "expires_at")}


def _provider(client: Client, name: str | None) -> dict[str, Any]:
    from urllib.parse import quote

    from control_plane.errors import Refused

    query = "" if name is None else f"?name={quote(name, safe='')}"
    found: list[dict[str, Any]] = client.ask("GET", f"/api/v1/auth/providers{query}", signed_in=False)
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused("usage", f"--provider NAME is needed: {', '.join(one['name'] for one in found)}")
    if name is not None:
        raise Refused("not_found", f"this plane has no identity provider {name}")
    raise Refused("usage", "login needs --provider NAME, or in profile dev --as USER; this plane lists no provider")


def _told(address: str, code: str) -> None:
    """On standard error: with --json, standard output is one document."""
    import sys

    # What a provider writes is shown, and moves no cursor.
    address, code = ("".join(sign for sign in text if sign.isprintable()) for text in (address, code))
    sys.stderr.write(f"Open {address}\nand confirm the code {code}\n")
    sys.stderr.flush()


def _logout(arguments: argparse.Namespace) -> None:
    from control_plane import kept_login, tables
    from control_plane.auth import tokens
    from control_plane.client import Answered, Client
    from control_plane.device_login import revoked
    from control_plane.errors import NotSignedIn
    from control_plane.settings import located

    home = located().home
    held = kept_login.read(home)
    if held is None:
        raise NotSignedIn("nobody is signed in here")
    client, own = Client(home, token=str(held.get("access_token"))), tokens.parse(str(held.get("access_token")))
    try:
        if arguments.everywhere:
            client.ask("DELETE", "/api/v1/account/sessions")
        elif own is not None:
            client.ask("DELETE", f"/api/v1/account/sessions/{own.id}")
    except Answered as error:
        if error.status != 401 or arguments.everywhere:  # what has ended is what was wanted
            raise
    at_provider = revoked(held)
    kept_login.forget(home)
    said = {"signed_out": True, "everywhere": arguments.everywhere, "provider_told": at_provider}
    if arguments.json:
        tables.document(said)
    else:
        tables.facts([("signed out", "everywhere" if arguments.everywhere else "here")])


def _sessions(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = plane().ask("GET", "/api/v1/account/sessions")
    if arguments.json:
        tables.document(found)
        return
    head = ("id", "kind", "provider", "since", "until", "where")
    rows = [
        (
            one["id"],
            one["kind"] + (" (this one)" if one["current"] else ""),
            one["provider"],
            one["created_at"],
            one["expires_at"],
            one["agent"],
        )
        for one in found
    ]
    tables.table(head, rows)


def _whoami(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    who = plane().ask("GET", "/api/v1/whoami")
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
