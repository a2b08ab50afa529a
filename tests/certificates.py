"""Certificates for tests: authorities, servers, clients, and the wrong ones of each."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from evstore.clock import to_datetime, wall_microseconds


class Certificate(NamedTuple):
    """A certificate with its chain, and its private key, in PEM files."""

    cert_path: Path
    key_path: Path


class CertificateAuthority:
    """Signs certificates of one day, in a folder of its own.

    With a `parent` it is an intermediate authority, whose certificates bring the chain
    along, all but the root.
    """

    def __init__(self, folder: Path, name: str, *, parent: Self | None = None) -> None:
        # Each authority has its own names for files: the serial numbers are its own too.
        self._stem = folder / name.replace(" ", "-")
        self._name = _common_name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._serial = 0
        issuer = self if parent is None else parent
        own = issuer._sign(self._name, self._key.public_key(), authority=True)
        self.ca_path: Final = self._stem.with_suffix(".crt")
        self.ca_path.write_bytes(own)
        self._chain: bytes = b"" if parent is None else own + parent._chain

    def issue(
        self,
        name: str,
        *,
        hosts: tuple[str, ...] = (),
        expired: bool = False,
        chain: bool = True,
    ) -> Certificate:
        """Issue a certificate: for a server with `hosts`, for a client without."""
        key = ec.generate_private_key(ec.SECP256R1())
        own = self._sign(
            _common_name(name), key.public_key(), hosts=hosts, expired=expired
        )
        pair = self._pair(name)
        pair.cert_path.write_bytes(own + self._chain if chain else own)
        write_key(pair.key_path, key)
        return pair

    def own(self, *, hosts: tuple[str, ...]) -> Certificate:
        """Return a self-signed certificate for a server, with the authority's key."""
        pair = self._pair("self-signed")
        pair.cert_path.write_bytes(
            self._sign(self._name, self._key.public_key(), hosts=hosts)
        )
        write_key(pair.key_path, self._key)
        return pair

    def _pair(self, name: str) -> Certificate:
        stem = f"{self._stem}-{self._serial}-{name}"
        return Certificate(Path(f"{stem}.crt"), Path(f"{stem}.key"))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        hosts: tuple[str, ...] = (),
        expired: bool = False,
        authority: bool = False,
    ) -> bytes:
        now = to_datetime(wall_microseconds())
        self._serial += 1
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(self._serial)
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=-1 if expired else 1))
            .add_extension(
                x509.BasicConstraints(ca=authority, path_length=None), critical=True
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


def write_key(
    path: Path, key: ec.EllipticCurvePrivateKey, *, passphrase: bytes | None = None
) -> None:
    """Write a private key into a file for its owner alone."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host_name(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ip_address(host))
    return x509.DNSName(host)
