"""What libpq is told about TLS.

libpq goes on without a certificate where its file is missing, checks against a file that
it was given for nothing, and asks at the terminal for the passphrase of a key. None of
that happens with these parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from evstore.config import TlsMode
from evstore.errors import ConfigError

if TYPE_CHECKING:
    from evstore.config import TlsConfig

# No file can be below a device: libpq finds nothing there and looks nowhere else.
NO_FILE: Final = "/dev/null/none"

_MODES: Final = {
    TlsMode.DISABLE: "disable",
    TlsMode.VERIFY_NONE: "require",
    TlsMode.VERIFY_CA: "verify-ca",
    TlsMode.VERIFY_FULL: "verify-full",
}
_CHECKED: Final = (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)


def tls_parameters(tls: TlsConfig) -> dict[str, str]:
    """Return libpq's parameters for TLS; the files that they name exist.

    Files of which this mode has no use are not looked at.

    Raises:
        ConfigError: a file is missing; the message names its setting.
    """
    encrypted = tls.mode is not TlsMode.DISABLE
    # Where there is a file, libpq checks against it even in the mode `require`.
    authorities = tls.ca_path if tls.mode in _CHECKED else ""
    return {
        "sslmode": _MODES[tls.mode],
        "sslrootcert": _file("caPath", authorities),
        "sslcert": _file("certPath", tls.cert_path if encrypted else ""),
        "sslkey": _file("keyPath", tls.key_path if encrypted else ""),
        # Without one, OpenSSL would stop and ask for it at the terminal.
        "sslpassword": "not given",
        "sslcrl": NO_FILE,
        "sslsni": "0" if tls.disable_sslsni else "1",
        "gssencmode": "disable",
    }


def _file(key: str, path: str) -> str:
    """Return the path to give to libpq, to which some words are no path at all."""
    if not path:
        return NO_FILE
    # The word `system` alone would mean all authorities that this machine trusts.
    whole = Path(path).absolute()
    try:
        whole.stat()
    except OSError as error:
        raise ConfigError(
            f"store.postgres.tls.{key}: {path!r} cannot be read: {error.strerror}"
        ) from error
    return str(whole)
