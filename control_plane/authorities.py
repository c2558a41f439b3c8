# SPDX-License-Identifier: Apache-2.0
"""Outside time-stamping authorities: the certificates that a setting names, and when the plane used which.

The own authority stamps everything, always. An outside one stamps everything beside it from the start at which it was
configured to the start at which it no longer was: a verifier demands its token on what was stamped in between (trust
file, docs/evidence-format.md section 9). That window can't be read off the log, so `up` keeps it here, in
`keys/tsa/outside.json`: public, written whole, and never shortened. Enters: a PEM file, the home folder, a time.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from control_plane.errors import SettingInvalid
from control_plane.settings import Settings

SETTING = "tsa_certificates"
_FILE = Path("keys") / "tsa" / "outside.json"


class Outside(Struct, frozen=True, forbid_unknown_fields=True):
    """An outside authority: certificates as DER, its own first, and its time of use as the trust file writes it."""

    name: str
    certificates: tuple[bytes, ...]
    valid_from: str
    valid_until: str | None = None


def read_chain(path: Path) -> tuple[bytes, ...]:
    """The certificates of a PEM file, DER, in its order; SettingInvalid unless they are a chain that may stamp time."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from ledger.errors import TokenInvalid
    from ledger.timestamp import Authority

    wanted = "a PEM file with the outside authority's certificate and then its chain to the root"
    try:
        chain = tuple(part.public_bytes(Encoding.DER) for part in x509.load_pem_x509_certificates(path.read_bytes()))
        Authority("external", path.name, chain)
        above = [x509.load_der_x509_certificate(part) for part in chain]
        for issued, issuer in zip(above, [*above[1:], above[-1]], strict=True):
            issued.verify_directly_issued_by(issuer)
        purpose = above[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)  # RFC 3161 section 2.3
        if not purpose.critical or list(purpose.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
            raise TokenInvalid("its own certificate isn't for time-stamping alone")
    except OSError as error:
        raise SettingInvalid(SETTING, str(path), f"{wanted} ({error.strerror})") from error
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound, TokenInvalid) as error:
        said = str(error) if isinstance(error, TokenInvalid) else "not a chain, leaf first and root last"
        raise SettingInvalid(SETTING, str(path), f"{wanted} ({said})") from error
    return chain


def used(home: Path) -> tuple[Outside, ...]:
    """Every outside authority that this plane used, in order; the last may be in use now."""
    try:
        return msgspec.json.decode((home / _FILE).read_bytes(), type=tuple[Outside, ...])
    except FileNotFoundError:
        return ()


def change(settings: Settings, now: datetime, awaited: int) -> tuple[Outside, ...]:
    """Note which outside authority is used from now on. Call before the sealer starts.

    `awaited` is how many tokens of the one used until now are still missing: with any, it can't be given up, because
    what waits for them would never have its evidence. SettingInvalid then, and where one comes back that had ended.
    """
    from ledger.canonical import timestamp

    known = used(settings.home)
    chain = read_chain(Path(settings.tsa_certificates)) if settings.tsa_url and settings.tsa_certificates else None
    current = known[-1] if known and known[-1].valid_until is None else None
    if (current.certificates if current else None) == chain:
        return known
    if current is not None:
        if awaited:
            raise SettingInvalid(
                SETTING,
                settings.tsa_certificates,
                f"that of {current.name}, until its {awaited} awaited tokens are there",
            )
        # Tokens have whole seconds: one second less, so that nothing stamped from now on falls into the window.
        ended = timestamp(now.replace(microsecond=0) - timedelta(seconds=1))
        known = (*known[:-1], msgspec.structs.replace(current, valid_until=max(ended, current.valid_from)))
    if chain is not None:
        if any(chain[0] == old.certificates[0] for old in known):
            raise SettingInvalid(SETTING, settings.tsa_certificates, "a certificate whose use has not ended before")
        known = (*known, Outside(_name(chain[0]), chain, timestamp(now)))
    write_whole(settings.home / _FILE, msgspec.json.encode(known))
    return known


def _name(certificate: bytes) -> str:
    import hashlib

    from cryptography import x509

    subject = x509.load_der_x509_certificate(certificate).subject.rfc4514_string()
    return f"{subject[:200] or 'unnamed'} ({hashlib.sha256(certificate).hexdigest()[:12]})"


def write_whole(path: Path, data: bytes) -> None:
    """Put a file there whole, or leave the old one."""
    part = path.with_suffix(".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
