# SPDX-License-Identifier: Apache-2.0
"""`qcos service login`: inside a CI job, the CI system's token becomes a short-lived one of the plane (RFC 8693).

Where the token comes from: a file, an environment variable (GitLab's `id_tokens`), or GitHub Actions' own address,
which a job with `permissions: id-token: write` finds in its environment.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from typing import Any

from control_plane.commands._lasting import seconds

_JWT = "urn:ietf:params:oauth:token-type:jwt"
_GITHUB_URL, _GITHUB_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
_LONGEST = 16_384


def register(service: Any) -> None:
    """Add the command."""
    from control_plane.commands.service import documented, scoped

    login = service.add_parser("login", help="in a CI job: exchange its token, and keep the plane's for later commands")
    source = login.add_mutually_exclusive_group(required=True)
    source.add_argument("--token-file", metavar="FILE", help="a file with the token; - is standard input")
    source.add_argument("--token-env", metavar="NAME", help="the environment variable with the token (GitLab)")
    source.add_argument("--github", metavar="AUDIENCE", help="ask GitHub Actions for one with this audience")
    login.add_argument("--account", metavar="NAME", help="which account, where the token stands for several")
    login.add_argument("--lasts", metavar="TIME", help="for how long at most: 90s, 30m")
    scoped(login)
    documented([login])
    login.set_defaults(run=_login)


def _login(arguments: argparse.Namespace) -> None:
    from urllib.parse import urlencode

    from control_plane import kept_login, tables
    from control_plane.client import Client
    from control_plane.services.grant import EXCHANGE, FORM
    from control_plane.settings import located

    home = located().home
    form = {"grant_type": EXCHANGE, "subject_token": _token(arguments), "subject_token_type": _JWT}
    words = [*(arguments.actions or ()), *(f"project={one}" for one in arguments.project or ())]
    if words:
        form["scope"] = " ".join(words)
    if arguments.account:
        form["service_account"] = arguments.account
    if arguments.lasts:
        form["expires_in"] = str(seconds("--lasts", arguments.lasts))
    asked = dt.datetime.now(dt.UTC)
    headers = {"Content-Type": FORM}
    body = urlencode(form).encode()
    given = Client(home).ask("POST", "/api/v1/auth/token", body, headers=headers, signed_in=False)
    who = Client(home, token=given["access_token"]).ask("GET", "/api/v1/whoami")
    until = (asked + dt.timedelta(seconds=given["expires_in"])).isoformat(timespec="seconds")
    login = {
        "subject": who["actor"],
        "access_token": given["access_token"],
        "expires_at": until.replace("+00:00", "Z"),
    }
    kept_login.store(home, login)
    if arguments.json:
        tables.document(login)
    else:
        tables.facts([("subject", login["subject"]), ("expires", login["expires_at"]), ("scope", given.get("scope"))])


def _token(arguments: argparse.Namespace) -> str:
    from control_plane.errors import Refused

    if arguments.token_env is not None:
        text = os.environ.get(arguments.token_env, "")
        where = f"the environment variable {arguments.token_env}"
    elif arguments.github is not None:
        text, where = _of_github(arguments.github), "GitHub's answer"
    else:
        text, where = _read(arguments.token_file), arguments.token_file
    text = text.strip()
    if not text or len(text) > _LONGEST or not text.isascii() or not text.isprintable():
        raise Refused("unusable_input", f"{where} holds no token")
    return text


def _read(name: str) -> str:
    from control_plane.errors import Refused

    try:
        if name == "-":
            return sys.stdin.read(_LONGEST + 2)
        with open(name, encoding="utf-8") as file:  # noqa: PTH123 - a pipe (`<(…)`) is a file here, too
            return file.read(_LONGEST + 2)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("unusable_input", f"{name}: {getattr(error, 'strerror', None) or 'no text'}") from error


def _of_github(audience: str) -> str:
    """A token of this job's own, from where GitHub's runner says."""
    import json
    import urllib.error
    import urllib.request
    from urllib.parse import quote, urlsplit

    from control_plane.errors import Refused

    url, bearer = os.environ.get(_GITHUB_URL, ""), os.environ.get(_GITHUB_TOKEN, "")
    if not bearer or urlsplit(url).scheme not in ("https", "http"):
        raise Refused("unusable_input", f"{_GITHUB_URL} isn't set: the job needs permissions: id-token: write")
    asked = f"{url}{'&' if '?' in url else '?'}audience={quote(audience, safe='')}"
    request = urllib.request.Request(asked, headers={"Authorization": f"Bearer {bearer}"})  # noqa: S310 - as checked
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as checked
            value = json.loads(answer.read(4 * _LONGEST)).get("value")
    except (OSError, urllib.error.URLError, ValueError, AttributeError) as error:
        raise Refused("unusable_input", f"GitHub gives no token: {type(error).__name__}") from None
    return value if isinstance(value, str) else ""
