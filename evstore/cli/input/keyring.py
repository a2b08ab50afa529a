"""The keys that sign anchors: read from files, and one made once for the user."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evstore.cli.session import UsageError, say

if TYPE_CHECKING:
    from evstore.anchors import PrivateKey, PublicKey

_NAME: Final = "anchor.pem"
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP


def private_key(path: Path | None, passphrase_file: Path | None) -> PrivateKey:
    """Return the key to sign with: that of a file, else the user's own.

    Raises:
        UsageError: the file holds none, or everybody may read it.
    """
    from evstore import anchors
    from evstore.errors import InvalidError

    path = own_key() if path is None else path
    passphrase = None
    if passphrase_file is not None:
        passphrase = passphrase_file.read_bytes().rstrip(b"\r\n")
    try:
        return anchors.private_key(_private(path), passphrase=passphrase)
    except InvalidError as error:
        raise UsageError(f"{path}: {error}") from None


def trusted_key(path: Path | None) -> PublicKey:
    """Return the key to trust: that of a file, else the public half of the user's own.

    Raises:
        UsageError: there is none.
    """
    from evstore import anchors
    from evstore.errors import InvalidError

    if path is None:
        own = _own_path()
        if not own.exists():
            message = f"there is no key of your own at {own}; give --trust FILE"
            raise UsageError(message)
        return private_key(own, None).public_key()
    try:
        return anchors.public_key(path.read_bytes())
    except InvalidError as error:
        raise UsageError(f"{path}: {error}") from None


def own_key() -> Path:
    """Return where the user's own key is; it is made where there is none."""
    from evstore import anchors

    path = _own_path()
    if path.exists():
        return path
    text = anchors.make_key()
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A link never replaces: of two that make a key at once, both go on with one.
        with suppress(FileExistsError):
            os.link(fresh, path)
            say(f"made a key to sign anchors with: {path}")
    finally:
        fresh.unlink()
    return path


def _own_path() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # A path that is not absolute is to be ignored, says the XDG specification.
    root = Path(folder) if folder.startswith("/") else Path.home() / ".config"
    return root / "evstore" / _NAME


def _private(path: Path) -> bytes:
    """Return the bytes of a key file that not everybody may read."""
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & _OTHERS:
            message = f"{path}: others may read or change this key; chmod 600 it"
            raise UsageError(message)
        return file.read()
