# SPDX-License-Identifier: Apache-2.0
"""The plane's few pages for signing in, as text (G13, S1). Pure; no script, nothing loaded, everything escaped.

`HEADERS` go with each: nothing may run, load, frame or be framed, and forms go to this plane alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final
from urllib.parse import quote

from control_plane.auth.browser import CSRF_FIELD
from control_plane.auth.credentials import Credential
from control_plane.auth.principal import Principal
from control_plane.auth.providers import Provider

__all__ = ["HEADERS", "account", "device", "login", "login_at", "message", "page", "password"]

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #16202c; --dim: #5b6876; --line: #d7dde4; --paper: #fff; --act: #1d4ed8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --dim: #9aa7b4; --line: #32404d; --paper: #11181f;
  --act: #7aa2f7 } }
body { margin: 0 auto; max-width: 44rem; padding: 3rem 1.25rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } .dim { color: var(--dim) }
a { color: var(--act) } a:focus-visible, button:focus-visible, input:focus-visible { outline: 3px solid var(--act) }
button, .button { display: inline-block; font: inherit; padding: .5rem 1rem; border: 1px solid var(--act);
  border-radius: 4px; background: none; color: var(--act); cursor: pointer; text-decoration: none; margin: .25rem 0 }
input { font: inherit; padding: .45rem; border: 1px solid var(--dim); border-radius: 4px; background: none;
  color: inherit } label { display: block; margin: .75rem 0 }
ul { list-style: none; padding: 0 } code { font: 1em ui-monospace, monospace; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% } th { font-weight: 600; color: var(--dim) }
th, td { text-align: left; padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    # With no-referrer browsers say `Origin: null` of a form, which nobody could tell from a stranger's.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def page(title: str, *body: str) -> str:
    """A whole page; `body` is HTML already."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · QCOS</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def message(title: str, *sentences: str, link: tuple[str, str] | None = None, id: str = "") -> str:  # noqa: A002
    """A page that says something, with one way on, and the id by which its request is found in logs."""
    rest = [f"<p>{escape(sentence)}</p>" for sentence in sentences if sentence]
    rest += [f'<p class="dim">Request <code>{escape(id)}</code></p>'] if id else []
    if link is not None:
        rest.append(f'<p><a class="button" href="{escape(link[0])}">{escape(link[1])}</a></p>')
    return page(title, *rest)


def login(providers: Sequence[Provider], next: str) -> str:  # noqa: A002 - it is called that in addresses
    """Where to sign in."""
    if not providers:
        return message(
            "Sign in", "This plane lists no identity provider; the link of yours is with your administrator."
        )
    return page("Sign in", "<ul>", *(f"<li>{_choice(one, next)}</li>" for one in providers), "</ul>")


def password(provider: str, next: str, user: str, *, wrong: bool = False) -> str:  # noqa: A002 - as above
    """The form of a directory."""
    said = '<p role="alert">Name or password is wrong.</p>' if wrong else ""
    return page(
        f"Sign in with {provider}",
        said,
        f'<form method="post" action="/auth/ldap/{quote(provider)}">'
        f'<input type="hidden" name="next" value="{escape(next)}">'
        f'<label>Name <input name="user" value="{escape(user)}" autocomplete="username" required '
        'maxlength="256"></label>'
        '<label>Password <input name="password" type="password" autocomplete="current-password" required '
        'maxlength="1024"></label><button>Sign in</button></form>',
    )


def _choice(one: Provider, next: str) -> str:  # noqa: A002 - as above
    return f'<a class="button" href="{escape(login_at(one, next))}">Sign in with {escape(one.name)}</a>'


def login_at(one: Provider, next: str) -> str:  # noqa: A002 - as above
    """Where signing in with a provider begins, of whatever kind it is."""
    after = quote(next, safe="")
    return {
        "oidc": f"/auth/login?provider={quote(one.name)}&next={after}",
        "saml": f"/auth/saml/{quote(one.name)}/login?next={after}",
        "ldap": f"/auth/ldap/{quote(one.name)}?next={after}",
    }[one.kind]


def account(principal: Principal, sessions: Iterable[Credential], csrf: str) -> str:
    """Who one is here, and one's own sessions, each with the button that ends it."""
    local = [f"{role} in {project}" for project, held in principal.project_roles.items() for role in held]
    facts = {
        "Name": principal.actor,
        "Tenant": principal.tenant,
        "Roles": ", ".join((*principal.roles, *local)) or "none",
        "Groups": ", ".join(principal.groups) or "none",
    }
    rows = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return page(
        "Your account",
        "<table>",
        *rows,
        "</table>",
        form("/auth/logout", csrf, "Sign out"),
        "<h2>Your sessions</h2>",
        "<table><tr><th>Since</th><th>Where</th><th></th></tr>",
        *(_session(one, current=one.id == principal.credential, csrf=csrf) for one in sessions),
        "</table>",
        form("/auth/logout", csrf, "Sign out everywhere", everywhere="yes"),
    )


def _session(one: Credential, *, current: bool, csrf: str) -> str:
    since = f"{one.created_at:%Y-%m-%d %H:%M} UTC"
    provider, agent = (escape(str(one.about.get(name, ""))) for name in ("provider", "agent"))
    where = f'{provider}<br><span class="dim">{agent}</span>'
    act = "this one" if current else form("/auth/logout", csrf, "End", session=one.id)
    return f"<tr><td>{since}</td><td>{where}</td><td>{act}</td></tr>"


def form(action: str, csrf: str, label: str, **fields: str) -> str:
    """One button that changes something."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in {CSRF_FIELD: csrf, **fields}.items()
    )
    return f'<form method="post" action="{escape(action)}">{hidden}<button>{escape(label)}</button></form>'


def device(principal: Principal, csrf: str, code: str, told: str | None) -> str:
    """Confirm a sign-in of the command line: first its code, then what is about to be handed out to whom."""
    if told is None:
        return page(
            "Sign in on another device",
            "<p>Enter the code that the command shows.</p>",
            f'<form method="get" action="/auth/device"><label>Code <input name="user_code" value="{escape(code)}" '
            'autocomplete="off" autofocus required maxlength="16"></label><button>Go on</button></form>',
        )
    return page(
        "Sign in on another device",
        f"<p>A command asks to act as <b>{escape(principal.actor)}</b> with all your rights. It shows the code "
        f"<code>{escape(code)}</code> and was started from {escape(told)}.</p>",
        "<p>Allow it only if you started it yourself, just now. Nobody will ever ask you to do this for them.</p>",
        form("/auth/device", csrf, "Allow", user_code=code, answer="allow"),
        form("/auth/device", csrf, "Refuse", user_code=code, answer="refuse"),
    )
