# SPDX-License-Identifier: Apache-2.0
"""The `[[siem]]` tables: where administrative entries go, whom the plane believes there, and as whom it comes (G12).

A receiver is spoken to by TLS and nothing else (RFC 5425). `check` reads the files once, so that a plane doesn't start
with a certificate that it can't use.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from control_plane.errors import SettingInvalid

if TYPE_CHECKING:
    import ssl

MOST_OVERLAP = 10_000
LEAST_MESSAGE, MOST_MESSAGE = 2_048, 262_144
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TENANT = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")


class SiemFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[siem]]` table.

    `tenant` None: of every tenant and of the plane itself. `overlap` is how many of the last events are sent again
    after a connection broke, `message_bytes` the longest message that the receiver takes.
    """

    name: str
    host: str
    port: int = 6514
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    tenant: str | None = None
    overlap: int = 1_000
    message_bytes: int = 8_192


def check(tables: tuple[SiemFacts, ...]) -> None:
    """SettingInvalid, naming the table and the field."""
    names: set[str] = set()
    for number, facts in enumerate(tables):
        where = f"siem[{number}]"
        if not _NAME.fullmatch(facts.name) or facts.name in names:
            raise SettingInvalid(f"{where}.name", facts.name, "a name of its own: lower-case letters, digits, -")
        names.add(facts.name)
        if not facts.host or not facts.host.isascii() or not facts.host.isprintable() or set(facts.host) & set(" /@"):
            raise SettingInvalid(f"{where}.host", facts.host, "a host's name or address")
        if not 0 < facts.port < 65_536:
            raise SettingInvalid(f"{where}.port", facts.port, "a port, 1 to 65535")
        if facts.tenant is not None and not _TENANT.fullmatch(facts.tenant):
            raise SettingInvalid(f"{where}.tenant", facts.tenant, "a tenant, or nothing for all of them")
        if not 0 <= facts.overlap <= MOST_OVERLAP:
            raise SettingInvalid(f"{where}.overlap", facts.overlap, f"0 to {MOST_OVERLAP}")
        if not LEAST_MESSAGE <= facts.message_bytes <= MOST_MESSAGE:
            raise SettingInvalid(f"{where}.message_bytes", facts.message_bytes, f"{LEAST_MESSAGE} to {MOST_MESSAGE}")
        if (facts.certificate is None) != (facts.key is None):
            raise SettingInvalid(f"{where}.certificate", facts.certificate, "certificate and key, or neither")
        _readable(where, facts)


def _readable(where: str, facts: SiemFacts) -> None:
    for field, path in (("ca", facts.ca), ("certificate", facts.certificate), ("key", facts.key)):
        if path is not None and not Path(path).expanduser().is_file():
            raise SettingInvalid(f"{where}.{field}", path, "a PEM file that is there")
    try:
        context(facts)
    except OSError as error:  # ssl.SSLError is one
        raise SettingInvalid(f"{where}.ca", facts.ca, f"PEM files that TLS can use ({error})") from error


def context(facts: SiemFacts) -> ssl.SSLContext:
    """TLS 1.2 or newer, the receiver's name checked against `ca` alone where one is given; raises OSError."""
    import ssl  # late: settings are read at every command

    made = ssl.create_default_context(cafile=_path(facts.ca))
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if facts.certificate is not None:
        made.load_cert_chain(_path(facts.certificate) or "", _path(facts.key))
    return made


def _path(given: str | None) -> str | None:
    return None if given is None else str(Path(given).expanduser())
