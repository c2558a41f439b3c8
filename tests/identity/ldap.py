# SPDX-License-Identifier: Apache-2.0
"""Debian's `slapd`, unmodified, as a process of the test (G13): people, nested groups, StartTLS and LDAPS.

Enters entries as LDIF. Leaves a directory on free ports of loopback, with a certificate of a CA of the test's own. The
test that asks is skipped by name where slapd isn't installed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.own_plane import until

BASE = "dc=example,dc=org"
READER, READERS_PASSWORD = f"cn=reader,{BASE}", "it reads, and nothing more"
SCHEMA = Path("/etc/ldap/schema")
PEOPLE = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: cn=reader,{BASE}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: {READERS_PASSWORD}

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{BASE}
objectClass: organizationalUnit
ou: groups
"""


def person(name: str, password: str, **more: str) -> str:
    """An entry of somebody."""
    said = "".join(f"{key}: {value}\n" for key, value in more.items())
    return f"""
dn: uid={name},ou=people,{BASE}
objectClass: inetOrgPerson
uid: {name}
cn: {name}
sn: {name}
{said}userPassword: {password}
"""


def person_dn(name: str) -> str:
    """Where `person` puts somebody."""
    return f"uid={name},ou=people,{BASE}"


def group_dn(name: str) -> str:
    """Where `group` puts one."""
    return f"cn={name},ou=groups,{BASE}"


def group(name: str, *members: str) -> str:
    """An entry of a group of people and groups, by DN."""
    held = "".join(f"member: {one}\n" for one in members)
    return f"\ndn: {group_dn(name)}\nobjectClass: groupOfNames\ncn: {name}\n{held}"


class Directory:
    """A running slapd."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, port: int, tls_port: int) -> None:
        self.process, self.folder = process, folder
        self.ca = folder / "ca.pem"
        self.url, self.tls_url = f"ldap://localhost:{port}", f"ldaps://localhost:{tls_port}"

    @property
    def password_file(self) -> str:
        """Where the reader's password is kept."""
        return str(self.folder / "password")

    def stop(self) -> None:
        """It is down."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)

    def hang(self) -> None:
        """It takes connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self.process.send_signal(signal.SIGCONT)

    def table(self, **more: object) -> dict[str, object]:
        """Its `[[ldap]]` table for tenant `demo`, unless `more` says otherwise; None leaves a field out."""
        said: dict[str, object] = {
            "name": "directory",
            "url": self.tls_url,
            "tenant": "demo",
            "base": BASE,
            "ca": str(self.ca),
            "bind_dn": READER,
            "bind_password_file": self.password_file,
            "group_base": f"ou=groups,{BASE}",
            "limit_s": 10.0,
            **more,
        }
        return {name: value for name, value in said.items() if value is not None}


def lacking() -> str:
    """What this machine lacks to run the directory, by name; empty where it can."""
    return "" if slapd() and (SCHEMA / "inetorgperson.schema").is_file() else "slapd is not installed"


def slapd() -> str | None:
    """Its programme, which lies where only root looks."""
    return shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin:/usr/lib/openldap")


@contextlib.contextmanager
def running(*entries: str) -> Iterator[Directory]:
    """The directory with these entries while the block lasts."""
    if why := lacking():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="qcos-ldap-"))
    try:
        _written(folder, "".join((PEOPLE, *entries)))
        programme = slapd()
        assert programme is not None
        load = [programme, "-T", "add", "-q", "-f", str(folder / "slapd.conf"), "-l", str(folder / "people.ldif")]
        subprocess.run(load, check=True, capture_output=True, timeout=60)
        port, tls_port = _free(), _free()
        urls = f"ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port}"
        process = subprocess.Popen(
            [programme, "-d", "0", "-h", urls, "-f", str(folder / "slapd.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        made = Directory(process, folder, port, tls_port)
        try:
            until(lambda: _listens(port) and _listens(tls_port), "slapd answers")
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(folder: Path, people: str) -> None:
    (folder / "data").mkdir()
    (folder / "people.ldif").write_text(people)
    (folder / "password").write_text(READERS_PASSWORD + "\n")
    _certificates(folder)
    modules = next((one for one in ("/usr/lib/ldap", "/usr/lib/openldap") if Path(one).is_dir()), "/usr/lib/ldap")
    schemas = "".join(f"include {SCHEMA}/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
    (folder / "slapd.conf").write_text(
        f"{schemas}modulepath {modules}\nmoduleload back_mdb\npidfile {folder}/pid\n"
        f"TLSCACertificateFile {folder}/ca.pem\nTLSCertificateFile {folder}/server.pem\n"
        f"TLSCertificateKeyFile {folder}/server.key\nsizelimit unlimited\n"
        f"database mdb\nsuffix {BASE}\ndirectory {folder}/data\nmaxsize 67108864\ndbnosync\n"
        "index objectClass,uid,member eq\n"
        # A password is for binding alone, and nobody who hasn't bound sees anything.
        "access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
    )


def _certificates(folder: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, said)]) for said in ("a CA", "a directory"))

    def certificate(whose: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(whose)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = [x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(certificate(ca_name, ca_key.public_key(), ca=True).public_bytes(pem))
    (folder / "server.pem").write_bytes(certificate(name, key.public_key(), ca=False).public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
