# SPDX-License-Identifier: Apache-2.0
"""Notices by e-mail: over verified TLS or not at all, once a notice, and told where nobody took it (G7)."""

from __future__ import annotations

import asyncio
import datetime as dt
import email
import email.policy
import ssl
import stat
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from control_plane.errors import SettingInvalid
from control_plane.notices import alerts, letter, mail
from control_plane.notices.courier import Courier
from control_plane.notices.mail import Failed, MailFacts
from tests.control_plane.jobs.conftest import desk, driver, pdp
from tests.control_plane.jobs.desk import Desk
from tests.control_plane.test_alerts import limit
from tests.control_plane.test_notices import soon

__all__ = ["desk", "driver", "pdp"]

BODY: dict[str, Any] = {
    "event": "budget:alert",
    "tenant": "demo",
    "alert_id": "a",
    "kind": "spent",
    "threshold": 80,
    "scope": "project:demo",
    "period": "monthly",
    "window": "2026-11",
    "mode": "hard",
    "limit": "1000",
    "held": "20.5",
    "captured": "812.25",
    "currency": "USD",
    "at": "2026-11-22T04:00:00.000Z",
}


class Bound(Controller):
    """On whichever port was free."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd's own


class Office:
    """A real SMTP server on loopback that keeps what it is sent, and answers with the next of `answers` first."""

    def __init__(self, folder: Path, *, starttls: bool = True, login: bool = False) -> None:
        self.got: list[Envelope] = []
        self.answers: list[str] = []
        self.farewell = "221 good bye"
        self.logins: list[tuple[bytes, bytes]] = []
        context = None
        if starttls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.controller = Bound(
            self,
            hostname="127.0.0.1",
            port=0,
            tls_context=context,
            auth_required=login,
            authenticator=self._login,
            ready_timeout=20,
        )

    def _login(self, _server: object, _session: object, _envelope: object, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword), mechanism
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"open sesame", handled=False)

    async def handle_DATA(self, _server: object, _session: Session, envelope: Envelope) -> str:
        if self.answers:
            return self.answers.pop(0)
        self.got.append(envelope)
        return "250 taken"

    async def handle_QUIT(self, _server: object, _session: Session, _envelope: Envelope) -> str:
        return self.farewell

    @property
    def port(self) -> int:
        return int(self.controller.port)

    def message(self) -> EmailMessage:
        (envelope,) = self.got
        assert isinstance(envelope.content, bytes)
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a server's certificate for localhost."""
    folder, now = tmp_path_factory.mktemp("papers"), dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, said)]) for said in ("a CA", "a post office")]
    for name, whose, key in (("ca", 0, keys[0]), ("server", 1, keys[1])):
        made = (
            x509.CertificateBuilder()
            .subject_name(names[whose])
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=not whose, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(keys[0], hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*formats))
    (folder / "password").write_text("open sesame\n")
    (folder / "password").chmod(0o600)
    return folder


@pytest.fixture
def office(papers: Path) -> Iterator[Office]:
    made = Office(papers)
    made.controller.start()
    yield made
    made.controller.stop()


def facts(office: Office, papers: Path, **more: Any) -> MailFacts:
    """A table for that server."""
    table = MailFacts("finance", "localhost", "qcos@example.org", ("a@example.org", "b@example.org"), budgets=True)
    return replace(table, **{"port": office.port, "ca": str(papers / "ca.pem"), "tries": 3} | more)


def test_what_is_mailed_says_budget_amounts_window_and_next_step(office: Office, papers: Path) -> None:
    """Over STARTTLS, verified; one message to all, known by the notice's id."""
    table = facts(office, papers)
    assert mail.send(table, mail.message(table, "0d1e-22", BODY)) is None
    found = office.message()
    assert found["Subject"] == "QCOS: project:demo: 80 % of the budget is spent"
    assert found["Message-ID"] == "<0d1e-22@example.org>"
    assert (found["From"], found["To"]) == ("qcos@example.org", "a@example.org, b@example.org")
    text = found.get_content()
    for said in ("project:demo (monthly, hard)", "1000 USD", "812.25 USD", "20.5 USD", "2026-11", "qcos budget set"):
        assert said in text
    assert office.got[0].rcpt_tos == ["a@example.org", "b@example.org"]


def test_a_login_is_sent_behind_tls_alone(papers: Path) -> None:
    office = Office(papers, login=True)
    office.controller.start()
    try:
        table = facts(office, papers, user="qcos", password=str(papers / "password"))
        assert mail.send(table, mail.message(table, "a", BODY)) is None
        assert office.logins == [(b"qcos", b"open sesame")]
        (papers / "wrong").write_text("wrong")
        failed = mail.send(replace(table, password=str(papers / "wrong")), mail.message(table, "b", BODY))
        assert failed == Failed("SMTP 535: the login was refused")  # tried again: somebody may mend the file
    finally:
        office.controller.stop()


def test_nothing_goes_to_whom_the_plane_does_not_know(papers: Path) -> None:
    """A server without STARTTLS, one that another CA signed, one of another name: not a byte of the message."""
    office = Office(papers, starttls=False)
    office.controller.start()
    try:
        table = facts(office, papers)
        failed = mail.send(table, mail.message(table, "a", BODY))
        assert failed is not None
        assert (failed.because, failed.final) == ("the server offers no STARTTLS or no login", False)
        assert office.got == []
    finally:
        office.controller.stop()


@pytest.mark.parametrize("changed", [{"ca": None}, {"host": "127.0.0.1"}])
def test_a_certificate_that_does_not_verify_gets_nothing(office: Office, papers: Path, changed: dict[str, Any]) -> None:
    table = facts(office, papers, **changed)
    failed = mail.send(table, mail.message(table, "a", BODY))
    assert failed == Failed("SSLCertVerificationError")
    assert office.got == []


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        ("451 later", Failed("SMTP 451", final=False)),
        ("552 never", Failed("SMTP 552", final=True)),
    ],
)
def test_4xx_is_for_now_and_5xx_for_good(office: Office, papers: Path, answer: str, failed: Failed) -> None:
    office.answers = [answer]
    table = facts(office, papers)
    assert mail.send(table, mail.message(table, "a", BODY)) == failed


def test_what_was_taken_is_not_sent_again_for_a_rude_farewell(office: Office, papers: Path) -> None:
    """RFC 5321 section 4.1.1.10: QUIT is answered by 221; whoever answers otherwise has the message all the same."""
    office.farewell = "554 go away"
    table = facts(office, papers)
    assert mail.send(table, mail.message(table, "a", BODY)) is None
    assert len(office.got) == 1


def test_a_server_that_is_away_or_silent_is_a_failure_for_now(
    office: Office, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs a turn of the courier its limit, and no more."""
    table = facts(office, papers)
    monkeypatch.setattr(mail, "LIMIT_S", 0.2)
    with_nobody = replace(table, host="127.0.0.1", port=1)
    failed = mail.send(with_nobody, mail.message(table, "a", BODY))
    assert failed == Failed("ConnectionRefusedError")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = replace(table, host="127.0.0.1", port=silent.getsockname()[1])
        failed = mail.send(slow, mail.message(table, "a", BODY))
    assert failed is not None
    assert not failed.final


@given(st.text(), st.text(), st.text())
def test_no_text_makes_a_header_of_its_own(scope: str, window: str, job: str) -> None:
    """Header injection: whatever a name holds, the message has the headers that it should, each once."""
    table = MailFacts("finance", "localhost", "qcos@example.org", ("a@example.org",))
    made = mail.message(table, "a", BODY | {"scope": scope, "window": window, "job_id": job})
    found = email.message_from_bytes(made.as_bytes(policy=email.policy.SMTP), policy=email.policy.default)
    assert sorted(found.keys()) == sorted(made.keys())
    assert found["To"] == "a@example.org"
    assert "\n" not in str(found["Subject"])
    other = letter.written({"event": scope, "tenant": window, "job_id": job})
    assert "\n" not in other[0]


async def test_an_alert_is_mailed_over_starttls(desk: Desk, office: Office, papers: Path) -> None:
    """From the crossing to the post office: tried again after a 4xx, given up after a 5xx; entries tell of each."""
    import dataclasses

    desk.plane = dataclasses.replace(desk.plane, settings=replace(desk.plane.settings, mail=(facts(office, papers),)))
    courier = Courier(desk.plane)
    await limit(desk, "1", thresholds=(40,))
    await desk.admitted()
    office.answers = ["451 later"]
    await courier.step()
    assert office.got == []
    soon(desk)
    await courier.step()
    assert "40 % of the budget is spent or held" in office.message()["Subject"]
    assert desk.kinds()[-1] == alerts.DELIVERED
    office.answers = ["550 never"]
    await limit(desk, "0.6", thresholds=(80,))
    await courier.step()
    assert desk.kinds()[-1] == alerts.GIVEN_UP
    assert (await desk.replayed()).differences == []
    await courier.close()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": "Finance"}, "name"),
        ({"name": "taken"}, "name"),
        ({"host": "a b"}, "host"),
        ({"host": "smtp.example.org\r\nX: y"}, "host"),
        ({"port": 0}, "port"),
        ({"security": "none", "host": "smtp.example.org"}, "security"),
        ({"sender": "qcos"}, "sender"),
        ({"sender": "a@b\r\nBcc: c@d"}, "sender"),
        ({"to": ()}, "to"),
        ({"to": ("a@b, c@d",)}, "to"),
        ({"to": ("a@b\nBcc: c@d",)}, "to"),
        ({"tries": 21}, "tries"),
        ({"user": "qcos"}, "password"),
        ({"user": "qcos", "password": "/nowhere"}, "password"),
        ({"ca": "/nowhere"}, "ca"),
    ],
)
def test_a_table_that_could_not_work_stops_the_start(changed: dict[str, Any], field: str) -> None:
    """It names the table and the field."""
    table = replace(MailFacts("finance", "smtp.example.org", "qcos@example.org", ("a@example.org",)), **changed)
    with pytest.raises(SettingInvalid) as refused:
        mail.check((table,), frozenset({"taken"}), "onprem")
    assert f"mail[0].{field}" in str(refused.value)


def test_a_password_that_others_can_read_stops_the_start(papers: Path, tmp_path: Path) -> None:
    table = MailFacts("finance", "smtp.example.org", "qcos@example.org", ("a@example.org",), user="qcos")
    mail.check((replace(table, password=str(papers / "password")),), frozenset(), "onprem")
    (tmp_path / "open").write_text("secret")
    (tmp_path / "open").chmod(0o644)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o644
    with pytest.raises(SettingInvalid, match="0600"):
        mail.check((replace(table, password=str(tmp_path / "open")),), frozenset(), "onprem")


def test_mail_in_the_clear_is_for_loopback_in_dev(papers: Path) -> None:
    table = MailFacts("finance", "localhost", "qcos@example.org", ("a@example.org",), security="none")
    mail.check((table,), frozenset(), "dev")
    with pytest.raises(SettingInvalid, match="security"):
        mail.check((table,), frozenset(), "onprem")
    with pytest.raises(SettingInvalid, match="password"):
        mail.check((replace(table, user="a", password=str(papers / "password")),), frozenset(), "dev")
