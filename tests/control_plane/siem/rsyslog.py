# SPDX-License-Identifier: Apache-2.0
"""A real receiver: Debian's rsyslogd over mutual TLS on loopback, with a certificate authority of the test's own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RSYSLOGD = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin:/sbin")
STREAM_DRIVER = "lmnsd_gtls.so"
LIMIT_S = 20.0


def demand() -> None:
    """Skip, naming what is missing."""
    if RSYSLOGD is None or not any(Path("/usr/lib").glob(f"**/rsyslog/{STREAM_DRIVER}")):
        pytest.skip("rsyslogd with rsyslog-gnutls is not installed")


class Authority:
    """Certificates in a folder: `ca.pem`, and NAME.pem with NAME.key for each that is issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA of {folder.name}")])
        self.ca = folder / "ca.pem"
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(signs, True)
        self.ca.write_bytes(self._signed(made))

    def issue(self, name: str) -> tuple[Path, Path]:
        """(certificate, key) of `name`, good for 127.0.0.1 and for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = self._builder(subject, key).add_extension(san, False)
        certificate, secret = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(self._signed(made))
        pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
        return certificate, secret

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return made.add_extension(issuer, False)

    def _signed(self, made: x509.CertificateBuilder) -> bytes:
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Rsyslog:
    """One receiver, which writes each message as it came to a file of its own."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder, self.received = folder, folder / "received"
        certificate, key = authority.issue("receiver")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder.mkdir(exist_ok=True)
        (folder / "rsyslog.conf").write_text(
            f'global(workDirectory="{folder}" maxMessageSize="64k" DefaultNetstreamDriver="gtls"\n'
            f' DefaultNetstreamDriverCAFile="{authority.ca}"\n'
            f' DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}")\n'
            'module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1"\n'
            ' StreamDriver.AuthMode="x509/certvalid")\n'
            'template(name="whole" type="string" string="%rawmsg%\\n")\n'
            f'input(type="imtcp" port="{self.port}" address="127.0.0.1" ruleset="kept")\n'
            f'ruleset(name="kept") {{ action(type="omfile" file="{self.received}" template="whole") }}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it takes connections."""
        assert RSYSLOGD is not None
        command = [RSYSLOGD, "-n", "-f", str(self.folder / "rsyslog.conf"), "-i", str(self.folder / "pid")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + LIMIT_S
        while True:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def kill(self, how: int = signal.SIGKILL) -> None:
        """As a machine dies that loses what it had not written."""
        if self._process is not None:
            os.kill(self._process.pid, how)
            self._process.wait()
            self._process = None
            (self.folder / "pid").unlink(missing_ok=True)

    def lines(self) -> list[str]:
        """What it has written."""
        return self.received.read_text().splitlines() if self.received.exists() else []

    def events(self) -> list[dict[str, Any]]:
        """The events of those messages, in order, repeated ones too."""
        return [json.loads(line[line.index("{") :]) for line in self.lines() if line.endswith("}")]
