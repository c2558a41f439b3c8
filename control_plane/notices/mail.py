# SPDX-License-Identifier: Apache-2.0
"""The `[[mail]]` tables: notices by e-mail over SMTP (RFC 5321), encrypted, one message a notice (G7).

The server is spoken to by TLS from the start or by STARTTLS, with its certificate verified against the table's CA or
the machine's; in the clear on loopback in profile dev alone. A server that offers no STARTTLS gets nothing. The
password is read anew for each message from a file that nobody else may read. What is said stands in the body and the
subject; no header has a line of its own that somebody else chose (RFC 5322 section 2.2). A refusal with 4xx is tried
again, one with 5xx isn't (RFC 5321 section 4.2.1).
"""

from __future__ import annotations

import contextlib
import re
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from control_plane.errors import SettingInvalid
from control_plane.fields import LOOPBACK
from control_plane.notices import letter

if TYPE_CHECKING:
    import ssl
    from smtplib import SMTP

PORTS = {"tls": 465, "starttls": 587, "none": 25}
LIMIT_S = 10.0
MOST_TRIES = 20
MOST_RECIPIENTS = 50
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]|::1")
# What RFC 5321 calls a dot-string at a domain: no quotes, no route, no comment, nothing that could end a header.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,20}")


class MailFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[mail]]` table; `password` is a file, `budgets` whether budgets that name nobody alert it."""

    name: str
    host: str
    sender: str
    to: tuple[str, ...]
    security: Literal["starttls", "tls", "none"] = "starttls"
    port: int | None = None
    ca: str | None = None
    user: str | None = None
    password: str | None = None
    tries: int = 12
    budgets: bool = False


class Failed(Struct, frozen=True):
    """The message wasn't taken; `final`: the server said that it never will be."""

    because: str
    final: bool = False


def check(tables: tuple[MailFacts, ...], taken: frozenset[str], profile: str) -> None:
    """SettingInvalid, naming the table and the field; names that `[[notify]]` tables have are `taken`."""
    names = set(taken)
    for number, facts in enumerate(tables):
        where = f"mail[{number}]"
        if not _NAME.fullmatch(facts.name) or facts.name in names:
            wanted = "a name that no other [[mail]] or [[notify]] has: lower-case letters, digits, -"
            raise SettingInvalid(f"{where}.name", facts.name, wanted)
        names.add(facts.name)
        if not _HOST.fullmatch(facts.host):
            raise SettingInvalid(f"{where}.host", facts.host, "a host's name or address")
        if facts.port is not None and not 0 < facts.port < 65_536:
            raise SettingInvalid(f"{where}.port", facts.port, "a port, 1 to 65535")
        if facts.security == "none" and (facts.host not in LOOPBACK or profile != "dev"):
            wanted = "starttls or tls: mail in the clear is for loopback in profile dev"
            raise SettingInvalid(f"{where}.security", facts.security, wanted)
        if not _ADDRESS.fullmatch(facts.sender):
            raise SettingInvalid(f"{where}.sender", facts.sender, "a plain address, such as qcos@example.org")
        if not 1 <= len(facts.to) <= MOST_RECIPIENTS:
            raise SettingInvalid(f"{where}.to", facts.to, f"1 to {MOST_RECIPIENTS} addresses")
        for address in facts.to:
            if not _ADDRESS.fullmatch(address):
                raise SettingInvalid(f"{where}.to", address, "plain addresses, such as finance@example.org")
        if not 1 <= facts.tries <= MOST_TRIES:
            raise SettingInvalid(f"{where}.tries", facts.tries, f"1 to {MOST_TRIES}")
        _check_login(where, facts)
        if facts.security != "none":
            try:
                context(facts)
            except OSError as error:  # ssl.SSLError is one
                raise SettingInvalid(f"{where}.ca", facts.ca, f"a file of certificates ({error.strerror})") from error


def _check_login(where: str, facts: MailFacts) -> None:
    if (facts.user is None) != (facts.password is None):
        raise SettingInvalid(f"{where}.password", facts.password, "a file, where there is a user, and only there")
    if facts.password is None:
        return
    if facts.user is not None and (not facts.user.isprintable() or not facts.user.isascii()):
        raise SettingInvalid(f"{where}.user", facts.user, "printable ASCII")
    if facts.security == "none":
        raise SettingInvalid(f"{where}.password", facts.password, "nothing: no password goes over in the clear")
    try:
        readable = Path(facts.password).stat().st_mode & 0o077
        secret = _secret(facts.password)
    except OSError as error:
        wanted = f"a file that can be read ({error.strerror})"
        raise SettingInvalid(f"{where}.password", facts.password, wanted) from error
    if readable or not secret:
        raise SettingInvalid(f"{where}.password", facts.password, "a file of mode 0600 with a password in it")


def context(facts: MailFacts) -> ssl.SSLContext:
    """Whom the plane believes: the table's CA alone where it names one, and the name that it dialled."""
    import ssl  # late: settings are read at every command

    made = ssl.create_default_context(cafile=str(Path(facts.ca).expanduser()) if facts.ca is not None else None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def message(facts: MailFacts, notice: str, body: dict[str, Any]) -> EmailMessage:
    """The message that says this notice; the same notice has the same Message-ID, so that a repeated one is known."""
    made = EmailMessage()
    made["From"] = Address(addr_spec=facts.sender)
    made["To"] = ", ".join(facts.to)
    subject, text = letter.written(body)
    made["Subject"] = subject
    made["Message-ID"] = f"<{notice}@{facts.sender.rpartition('@')[2]}>"
    made["Date"] = letter.date(body)
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation answers
    made.set_content(f"{text}\n-- \nQCOS, notice {notice}\n")
    return made


def send(facts: MailFacts, made: EmailMessage) -> Failed | None:
    """Hand the message to the server; None where it took it for one recipient at least. Blocks: call it aside."""
    import smtplib

    try:
        with contextlib.closing(_connected(facts)) as server:
            if facts.user is not None and facts.password is not None:
                server.login(facts.user, _secret(facts.password))
            server.send_message(made)
            with contextlib.suppress(smtplib.SMTPException):  # it has been taken, whatever becomes of the farewell
                server.quit()
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        return Failed(f"SMTP {codes[0]} for every recipient", all(code >= 500 for code in codes))
    except smtplib.SMTPAuthenticationError as error:
        return Failed(f"SMTP {error.smtp_code}: the login was refused")  # a new password needs no new message
    except smtplib.SMTPResponseException as error:
        return Failed(f"SMTP {error.smtp_code}", error.smtp_code >= 500)
    except smtplib.SMTPNotSupportedError:
        return Failed("the server offers no STARTTLS or no login")
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return Failed(type(error).__name__)
    return None


def _connected(facts: MailFacts) -> SMTP:
    import smtplib

    port = facts.port or PORTS[facts.security]
    if facts.security == "tls":
        return smtplib.SMTP_SSL(facts.host, port, timeout=LIMIT_S, context=context(facts))
    made = smtplib.SMTP(facts.host, port, timeout=LIMIT_S)
    try:
        if facts.security == "starttls":
            made.starttls(context=context(facts))  # raises where it isn't offered: nothing goes over in the clear
            made.ehlo()
    except BaseException:
        made.close()
        raise
    return made


def _secret(path: str) -> str:
    return Path(path).read_text("utf-8").strip()
