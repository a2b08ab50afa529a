"""Anchors: a place in a log, signed, to be kept where nobody can change it with the log.

An anchor is one line of JSON. It names the key that signed it, by a fingerprint, so that
a wrong key can be told; it never brings a key that anybody should trust.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID  # noqa: TC003 - msgspec looks it up to decode anchors

import msgspec
import orjson

from .errors import ConfigError, InvalidError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from .model import Head

    PrivateKey: TypeAlias = Ed25519PrivateKey
    PublicKey: TypeAlias = Ed25519PublicKey

FORMAT: Final = "evstore-anchor/1"
_HASH_BYTES: Final = 32


class Anchor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place in a log: what its hash was, and when that was signed.

    Times are microseconds since 1970: `recorded` is that of the event, `signed` the
    log's clock.
    """

    format: str
    log: UUID
    position: int
    hash: str
    recorded: int
    signed: int
    key: str
    signature: str = ""

    def encode(self) -> str:
        """Return the anchor as the line that is kept."""
        return orjson.dumps(msgspec.to_builtins(self)).decode()

    @property
    def statement(self) -> bytes:
        """What is signed: all but the signature."""
        parts: dict[str, Any] = msgspec.to_builtins(self)
        del parts["signature"]
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


_decode = msgspec.json.Decoder(Anchor).decode


def sign(head: Head, *, log: UUID, signed: int, key: PrivateKey) -> Anchor:
    """Return the signed anchor of a place."""
    anchor = Anchor(
        format=FORMAT,
        log=log,
        position=head.position,
        hash=head.hash.hex(),
        recorded=head.time,
        signed=signed,
        key=fingerprint(key.public_key()),
    )
    signature = base64.b64encode(key.sign(anchor.statement)).decode()
    return msgspec.structs.replace(anchor, signature=signature)


def read(line: str | bytes, key: PublicKey) -> Anchor:
    """Return the anchor of a line, once its signature is that of `key`.

    Raises:
        InvalidError: it is no anchor, another key has signed it, or it was changed.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra

    try:
        anchor = _decode(line)
        signature = base64.b64decode(anchor.signature, validate=True)
        whole = len(bytes.fromhex(anchor.hash)) == _HASH_BYTES
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        raise InvalidError("no anchor, or a part of one") from None
    if anchor.format != FORMAT or not whole or anchor.position < 0:
        raise InvalidError("no anchor that this release knows")
    if anchor.key != fingerprint(key):
        message = f"signed by the key {anchor.key}, and {fingerprint(key)} is trusted"
        raise InvalidError(message)
    try:
        key.verify(signature, anchor.statement)
    except InvalidSignature:
        raise InvalidError("the signature is wrong: the anchor was changed") from None
    return anchor


def fingerprint(key: PublicKey) -> str:
    """Return a short text that differs for different keys."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def make_key() -> bytes:
    """Return a new private key, as PEM."""
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def private_key(pem: bytes, *, passphrase: bytes | None = None) -> PrivateKey:
    """Return the private key of a PEM text (PKCS #8).

    Raises:
        InvalidError: it is none, not one for Ed25519, or the passphrase is wrong.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(pem, password=passphrase)
    except TypeError:
        wanted = "it is encrypted: give its passphrase"
        if passphrase is not None:
            wanted = "it is not encrypted: give no passphrase"
        raise InvalidError(wanted) from None
    except (ValueError, UnsupportedAlgorithm):
        # The cause may quote what it could not read.
        message = "no private key in PEM (PKCS #8), or another passphrase"
        raise InvalidError(message) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InvalidError("no key for Ed25519")
    return key


def public_key(pem: bytes) -> PublicKey:
    """Return the public key of a PEM text.

    Raises:
        InvalidError: it is none, or not one for Ed25519.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidError("no public key in PEM") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InvalidError("no key for Ed25519")
    return key


def public_pem(key: PublicKey) -> str:
    """Return a public key as PEM."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _need_cryptography() -> None:
    """Check that the extra is there; it loads slowly, and most of us never sign.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("cryptography") is None:
        message = 'anchors need the extra: pip install "evstore[proof]"'
        raise ConfigError(message)
