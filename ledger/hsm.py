# SPDX-License-Identifier: Apache-2.0
"""Keys in an HSM, by PKCS#11 (G12): made there, used there, never out of it.

A key's file holds no secret of it: the token, the object's id, the algorithm and the public half. P-256 and, where
the token has EdDSA, Ed25519 are the HSM's own keys, sensitive and not extractable. An algorithm that the token
doesn't have, ML-DSA today, is made here and its 32-byte seed wrapped by an AES-256 key of the HSM (AES-GCM, bound to
algorithm and public half): the file is of no use without the token, but whoever reads this process's memory has that
key. A loaded key is tried before it is believed. One session a process and token, used by one thread at a time, and
opened again once when it is lost. `pkcs11` is imported here, late: the extra `hsm`.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from msgspec import Struct

from ledger.custody import Custody
from ledger.errors import KeyInvalid
from ledger.keys import ECDSA_P256, ED25519, PublicKey, parse_spki, read_secret, spki
from ledger.signer import Held, PrivateKey, Signer, generate
from ledger.timestamp import low_s

if TYPE_CHECKING:
    import pkcs11

WRAPPING = "qcos wrapping key"  # label of the AES key
_NONCE = 12
_TRIED = b"qcos: is this the key of its public half?"
_Found = TypeVar("_Found")


class Reference(Struct, frozen=True, forbid_unknown_fields=True):
    """A key's file: `object` is its id in the token, or `wrapped` its seed under the AES key `object`."""

    v: int
    token: str
    object: str
    alg: str
    public: bytes
    wrapped: bytes | None = None


class Token:
    """One logged-in session of a token; each use holds its lock."""

    def __init__(self, module: Path, label: str, pin_file: Path) -> None:
        self._module, self._label, self._pin_file = module, label, pin_file
        self._lock = threading.RLock()
        self._session: pkcs11.Session | None = None

    def use(self, act: Callable[[Any], _Found]) -> _Found:
        """What `act` makes of the session; a session that was lost is opened once more. KeyInvalid says what failed."""
        with self._lock, _said():
            from pkcs11.exceptions import (
                DeviceError,
                DeviceRemoved,
                SessionClosed,
                SessionHandleInvalid,
                TokenNotPresent,
            )

            lost = (DeviceError, DeviceRemoved, SessionClosed, SessionHandleInvalid, TokenNotPresent)
            for last in (False, True):
                if self._session is None:
                    self._session = self._open()
                try:
                    return act(self._session)
                except lost:
                    self._session = None
                    if last:
                        raise
        raise AssertionError

    def _open(self) -> pkcs11.Session:
        import pkcs11

        pin = read_secret(self._pin_file).removesuffix(b"\n").decode()
        found = pkcs11.lib(str(self._module)).get_token(token_label=self._label)
        return found.open(rw=True, user_pin=pin)


class HsmSigner:
    """A signer whose private key is an object of a token."""

    def __init__(self, token: Token, reference: Reference) -> None:
        self.alg = reference.alg
        self.public: PublicKey = parse_spki(reference.public)
        self._token, self._id = token, bytes.fromhex(reference.object)

    def sign(self, message: bytes) -> bytes:
        """The signature over the message."""
        return self._token.use(lambda session: self._made(session, message))

    def _made(self, session: Any, message: bytes) -> bytes:
        from pkcs11 import Mechanism, ObjectClass

        key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=self._id)
        if self.alg == ED25519:
            return bytes(key.sign(message, mechanism=Mechanism.EDDSA))
        raw = key.sign(hashlib.sha256(message).digest(), mechanism=Mechanism.ECDSA)
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        return low_s(encode_dss_signature(r, s))


def create(custody: Custody, label: str, alg: str) -> bytes:
    """Make a key; the content of its file."""
    token = token_of(custody)
    reference = token.use(lambda session: _create(session, str(custody.token), label, alg))
    return msgspec.json.encode(reference)


def load(custody: Custody, name: str, data: bytes) -> Signer:
    """The signer that a key's file names; KeyInvalid where it isn't there, or isn't the key of that public half."""
    reference = _reference(name, data)
    token = token_of(custody, reference)
    signer: Signer
    if reference.wrapped is None:
        signer = HsmSigner(token, reference)
    else:
        signer = Held(_seeded(reference.alg, token.use(lambda session: _unwrap(session, reference))))
    _try(name, signer, reference.public)
    return signer


def destroy(custody: Custody, data: bytes) -> None:
    """Destroy the key's object in the token; one that is gone already is well. A wrapped seed ends with its file."""
    reference = _reference("key", data)
    if reference.wrapped is None:
        token_of(custody, reference).use(lambda session: _destroy(session, bytes.fromhex(reference.object)))


def token_of(custody: Custody, reference: Reference | None = None) -> Token:
    """The token of a custody, which must be that of the reference."""
    if custody.module is None or custody.token is None or custody.pin_file is None:
        raise KeyInvalid("a key lies in an HSM: say module, token and pin_file under [keys]")
    if reference is not None and reference.token != custody.token:
        raise KeyInvalid(f"a key lies in the token {reference.token}, and [keys] names {custody.token}")
    return _token(custody.module, custody.token, custody.pin_file)


@lru_cache(maxsize=8)
def _token(module: Path, label: str, pin_file: Path) -> Token:
    return Token(module, label, pin_file)


@contextmanager
def _said() -> Iterator[None]:
    """Errors of the library as ours: they quote no PIN."""
    try:
        from pkcs11.exceptions import PKCS11Error
    except ImportError as error:
        raise KeyInvalid("the extra hsm isn't installed: pip install 'qcos-plane[hsm]'") from error
    try:
        yield
    except PKCS11Error as error:
        raise KeyInvalid(f"HSM: {type(error).__name__}{f': {error}' if str(error) else ''}"[:300]) from error
    except (OSError, RuntimeError) as error:
        raise KeyInvalid(f"HSM: {error}"[:300]) from error


def _create(session: Any, token: str, label: str, alg: str) -> Reference:
    from pkcs11 import Mechanism

    able = session.token.slot.get_mechanisms()
    if alg == ECDSA_P256:
        return _pair(session, token, label, alg)
    if alg == ED25519 and {Mechanism.EDDSA, Mechanism.EC_EDWARDS_KEY_PAIR_GEN} <= set(able):
        return _pair(session, token, label, alg)
    return _wrap(session, token, alg, generate(alg))


def _pair(session: Any, token: str, label: str, alg: str) -> Reference:
    from pkcs11 import Attribute, KeyType
    from pkcs11.util.ec import encode_named_curve_parameters

    curve, kind = ("secp256r1", KeyType.EC) if alg == ECDSA_P256 else ("1.3.101.112", KeyType.EC_EDWARDS)
    named = {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
    parameters = session.create_domain_parameters(kind, named, local=True)
    own = secrets.token_bytes(16)
    made, _ = parameters.generate_keypair(
        id=own,
        label=label,
        store=True,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    return Reference(1, token, own.hex(), alg, spki(_public(alg, made[Attribute.EC_POINT])))


def _public(alg: str, point: bytes) -> PublicKey:
    """A public key from CKA_EC_POINT: an OCTET STRING around the point, which some tokens leave away."""
    for raw in (point[2:], point):
        try:
            if alg == ED25519:
                return Ed25519PublicKey.from_public_bytes(raw)
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
        except ValueError:
            continue
    raise KeyInvalid("HSM: a public key that can't be read")


def _wrapping_key(session: Any, own: bytes | None = None) -> tuple[Any, bytes]:
    """(the AES key that wraps seeds, its id), made where no id is asked for and there is none."""
    from pkcs11 import Attribute, KeyType, NoSuchKey, ObjectClass

    if own is not None:
        return session.get_key(object_class=ObjectClass.SECRET_KEY, id=own), own
    try:
        key = session.get_key(object_class=ObjectClass.SECRET_KEY, label=WRAPPING)
    except NoSuchKey:
        template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        own = secrets.token_bytes(16)
        key = session.generate_key(KeyType.AES, 256, id=own, label=WRAPPING, store=True, template=template)
    return key, bytes(key[Attribute.ID])


def _wrap(session: Any, token: str, alg: str, private: PrivateKey) -> Reference:
    from pkcs11 import GCMParams, Mechanism

    if isinstance(private, ec.EllipticCurvePrivateKey):
        raise KeyInvalid(f"HSM: the token {token} has no ECDSA")
    seed = private.private_bytes_raw()
    public = spki(private.public_key())
    key, own = _wrapping_key(session)
    nonce = secrets.token_bytes(_NONCE)
    bound = GCMParams(nonce, _bound(alg, public), 128)
    sealed = key.encrypt(seed, mechanism=Mechanism.AES_GCM, mechanism_param=bound)
    return Reference(1, token, own.hex(), alg, public, nonce + bytes(sealed))


def _unwrap(session: Any, reference: Reference) -> bytes:
    from pkcs11 import GCMParams, Mechanism

    key, _ = _wrapping_key(session, bytes.fromhex(reference.object))
    wrapped = reference.wrapped or b""
    bound = GCMParams(wrapped[:_NONCE], _bound(reference.alg, reference.public), 128)
    return bytes(key.decrypt(wrapped[_NONCE:], mechanism=Mechanism.AES_GCM, mechanism_param=bound))


def _bound(alg: str, public: bytes) -> bytes:
    return b"qcos-wrapped-v1\n" + alg.encode() + b"\n" + public


def _destroy(session: Any, own: bytes) -> None:
    from pkcs11 import Attribute

    for found in list(session.get_objects({Attribute.ID: own})):
        found.destroy()


def _seeded(alg: str, seed: bytes) -> PrivateKey:
    try:
        match alg:
            case "ed25519":
                return Ed25519PrivateKey.from_private_bytes(seed)
            case "ml-dsa-44":
                return MLDSA44PrivateKey.from_seed_bytes(seed)
            case "ml-dsa-65":
                return MLDSA65PrivateKey.from_seed_bytes(seed)
    except ValueError as error:
        raise KeyInvalid("HSM: a wrapped seed of another length") from error
    raise KeyInvalid(f"HSM: no wrapped key is {alg}")


def _reference(name: str, data: bytes) -> Reference:
    try:
        found = msgspec.json.decode(data, type=Reference)
        bytes.fromhex(found.object)
        parse_spki(found.public)
    except (msgspec.MsgspecError, ValueError) as error:
        raise KeyInvalid(f"{name}: not a key's reference") from error
    return found


def _try(name: str, signer: Signer, public: bytes) -> None:
    """Sign once and hold it against the public half: a token that was restored or mixed up is found at start."""
    made, key = signer.sign(_TRIED), parse_spki(public)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(made, _TRIED, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(made, _TRIED)
    except InvalidSignature as error:
        raise KeyInvalid(f"{name}: the token's key is not that of its public half") from error
