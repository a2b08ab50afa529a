"""What to change where a server refuses us, or where we refuse a server.

A connection that fails has one text and no SQLSTATE, whether libpq, OpenSSL or the server
says no. So here, and nowhere else, texts are matched; what fits none of them is taken for
a server that cannot be reached now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from evstore.config import TlsMode

if TYPE_CHECKING:
    from evstore.config import TlsConfig

_TLS: Final = "store.postgres.tls"


class _Refusal(NamedTuple):
    """Words that are all in a text, and what to do then."""

    words: tuple[str, ...]
    advice: str


_CERT_REFUSED: Final = (
    f"The server does not accept the certificate in {_TLS}.certPath:"
    " it needs one that is valid and that an authority in the server's ssl_ca_file has"
    " signed, with the whole chain"
)

# The first one that fits counts: the more special ones come first.
_REFUSALS: Final = (
    _Refusal(
        ("does not match host name",),
        "Set store.postgres.host to a name that stands in the server's certificate,"
        f" or {_TLS}.mode to verifyCa",
    ),
    _Refusal(
        ("certificate verify failed",),
        "The server's certificate has expired, or no authority in"
        f" {_TLS}.caPath has signed it",
    ),
    _Refusal(("alert unknown ca",), _CERT_REFUSED),
    _Refusal(("alert bad certificate",), _CERT_REFUSED),
    _Refusal(("alert certificate",), _CERT_REFUSED),
    _Refusal(("alert unsupported certificate",), _CERT_REFUSED),
    _Refusal(("alert decrypt error",), _CERT_REFUSED),
    _Refusal(
        ("requires a valid client certificate",),
        f"Give {_TLS}.certPath and {_TLS}.keyPath",
    ),
    _Refusal(
        ("certificate authentication failed",),
        f"The certificate in {_TLS}.certPath must be in the name of"
        " store.postgres.user",
    ),
    _Refusal(
        ("server does not support SSL",),
        f"Set ssl = on in the server's postgresql.conf, or {_TLS}.mode to disable",
    ),
    _Refusal(
        ("pg_hba.conf", "no encryption"),
        f"Set {_TLS}.mode to verifyFull if the server's pg_hba.conf asks for TLS"
        " (hostssl); else let store.postgres.user from this host into"
        " store.postgres.dbName there",
    ),
    _Refusal(
        ("pg_hba.conf",),
        "Let store.postgres.user from this host into store.postgres.dbName in the"
        f" server's pg_hba.conf; where it takes plain connections only, set {_TLS}.mode"
        " to disable",
    ),
    _Refusal(("no password supplied",), "Give store.postgres.password"),
    _Refusal(
        ("private key file",),
        f"{_TLS}.keyPath must be the key of {_TLS}.certPath, without a passphrase,"
        " and readable for this user alone (mode 0600; 0640 where root owns it)",
    ),
    _Refusal(
        ("root certificate file",),
        f"{_TLS}.caPath must hold certificates in PEM, and be readable",
    ),
    _Refusal(
        ("certificate file",),
        f"{_TLS}.certPath must hold certificates in PEM, and be readable",
    ),
    _Refusal(
        ("channel binding",),
        "Something on the way ends the encryption and shows another certificate than"
        " the server's: connect past it, with store.postgres.host and store.postgres.port",
    ),
    _Refusal(
        ("protocol version",),
        "The server must offer TLS 1.2 or newer: see ssl_max_protocol_version there",
    ),
    _Refusal(
        ("invalid response to SSL negotiation",),
        "No PostgreSQL server answers there: check store.postgres.host and"
        " store.postgres.port",
    ),
    *(
        _Refusal(
            (f"{method} authentication failed",),
            "The server asks the operating system who store.postgres.user is: run as"
            " that user, or say scram-sha-256 in place of"
            f" {method.lower()} in the server's pg_hba.conf",
        )
        for method in ("Peer", "Ident")
    ),
    _Refusal(
        ("authentication failed for user",),
        "Check store.postgres.user and store.postgres.password, and the method in the"
        " server's pg_hba.conf",
    ),
    _Refusal(
        ("not permitted to log in",),
        "Give store.postgres.user the right with ALTER ROLE ... LOGIN, or name another"
        " role",
    ),
    _Refusal(
        ("permission denied for database",),
        "Let store.postgres.user in with GRANT CONNECT ON DATABASE, or check"
        " store.postgres.dbName",
    ),
    _Refusal(("database", "does not exist"), "Check store.postgres.dbName"),
    _Refusal(("no such database",), "Check store.postgres.dbName"),
    _Refusal(("no such user",), "Check store.postgres.user"),
    _Refusal(("role", "does not exist"), "Check store.postgres.user"),
    _Refusal(("certificate",), f"Check the files of {_TLS}"),
)
# In the words of PostgreSQL, and in those of PgBouncer.
_PASSWORD: Final = ("password authentication failed", "SASL authentication failed")


def advice(text: str, tls: TlsConfig) -> str | None:
    """Return what to change after this failure, None if that is not known.

    The advice names settings by their keys in the file.
    """
    if any(words in text for words in _PASSWORD):
        return _password_advice(tls)
    for refusal in _REFUSALS:
        if all(word in text for word in refusal.words):
            return refusal.advice
    return None


def _password_advice(tls: TlsConfig) -> str:
    check = "Check store.postgres.user and store.postgres.password"
    if tls.mode is TlsMode.DISABLE or not tls.cert_path:
        return check
    # The server says the same of a certificate in somebody else's name.
    return (
        f"{check}; if the server's pg_hba.conf has clientcert=verify-full, the"
        f" certificate in {_TLS}.certPath must be in the name of that user"
    )
