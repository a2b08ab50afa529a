"""A kubeconfig, checked before it is used.

What a library says of a wrong one may hold what is secret in it, or nothing. So what is
wrong is found here, and told by names, paths and keys alone.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
import yaml

from evstore.errors import ConfigError

from .plugin import credentials

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMES: Final = ("http", "https")
_CERTIFICATES: Final = ("client-certificate", "client-key")


class Kubeconfig(msgspec.Struct, frozen=True):
    """What a file says for one of its contexts, as kubernetes_asyncio takes it."""

    document: dict[str, Any]
    context: str


async def read_kubeconfig(path: Path, context: str) -> Kubeconfig:
    """Read a file, check what a context needs of it, and run its exec plugin.

    Without a context it is the one that the file calls current.

    Raises:
        ConfigError: something is missing or wrong; the message says what.
        UnavailableError: the plugin took too long.
    """
    document = _document(path)
    context = context or _text(document, "current-context")
    if not context:
        names = ", ".join(_names(document, "contexts")) or "none"
        message = "has no current-context: set store.kubernetes.context to one of its"
        raise ConfigError(f"{message} contexts ({names})")
    entry = _entry(document, "contexts", context)
    cluster_name = _text(entry, "cluster")
    cluster = _entry(document, "clusters", cluster_name, wanted_by=context)
    _check_cluster(cluster)
    _check_files(cluster, ("certificate-authority",), path.parent)
    user: dict[str, Any] = {}
    if user_name := _text(entry, "user"):
        user = _entry(document, "users", user_name, wanted_by=context)
        user = await _user(user, path.parent)
    # The library cannot do without a user, even where nobody is to be told who we are.
    chosen = {"cluster": cluster_name, "user": user_name or "nobody"}
    return Kubeconfig(
        {
            "contexts": [{"name": context, "context": chosen}],
            "clusters": [{"name": cluster_name, "cluster": cluster}],
            "users": [{"name": chosen["user"], "user": user}],
        },
        context,
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        message = f"is no YAML{place}"
        raise ConfigError(message) from None
    except UnicodeDecodeError:
        message = "is no YAML"
        raise ConfigError(message) from None
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    found = _mapping(document)
    if found is None:
        message = "is no kubeconfig"
        raise ConfigError(message)
    return found


def _mapping(value: object) -> dict[str, Any] | None:
    try:
        return msgspec.convert(value, dict[str, Any])
    except msgspec.ValidationError:
        return None


def _entries(document: dict[str, Any], section: str) -> list[dict[str, Any]]:
    """Return what a section has that has a name."""
    try:
        values = msgspec.convert(document.get(section) or [], list[Any])
    except msgspec.ValidationError:
        message = f"is no kubeconfig: {section} is no list"
        raise ConfigError(message) from None
    entries = [found for each in values if (found := _mapping(each)) is not None]
    return [each for each in entries if isinstance(each.get("name"), str)]


def _names(document: dict[str, Any], section: str) -> list[str]:
    return [each["name"] for each in _entries(document, section)]


def _entry(
    document: dict[str, Any], section: str, name: str, *, wanted_by: str = ""
) -> dict[str, Any]:
    singular = section.removesuffix("s")
    names = _names(document, section)
    if names.count(name) != 1:
        wanted = f", which the context {wanted_by} names" if wanted_by else ""
        count = "more than one" if name in names else "no"
        others = "" if name in names else f" (there is {', '.join(names) or 'none'})"
        message = f"has {count} {singular} {name!r}{wanted}{others}"
        raise ConfigError(message)
    (named,) = (each for each in _entries(document, section) if each["name"] == name)
    value = named.get(singular)
    if value is None and section == "users":
        return {}
    found = _mapping(value)
    if found is None:
        message = f"says nothing of the {singular} {name!r}"
        raise ConfigError(message)
    return found


def _text(entry: dict[str, Any], key: str) -> str:
    found = entry.get(key)
    if found is not None and not isinstance(found, str):
        message = f"is no kubeconfig: {key} is no text"
        raise ConfigError(message)
    return found or ""


def _check_cluster(cluster: dict[str, Any]) -> None:
    server = _text(cluster, "server")
    if not server:
        message = "names no server"
        raise ConfigError(message)
    _check_address(server, "server")
    if "@" in urlsplit(server).netloc:
        message = "has a user in the address of its server: it belongs to users"
        raise ConfigError(message)
    if _text(cluster, "proxy-url"):
        _check_address(cluster["proxy-url"], "proxy-url")


def _check_address(address: str, key: str) -> None:
    try:
        parts = urlsplit(address)
        whole = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        message = f"has a {key} that does not begin with https:// or http:// and a host"
        raise ConfigError(message)


async def _user(user: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a user's credentials, with the token of a file or a plugin among them."""
    _check_files(user, _CERTIFICATES, folder)
    if name := _text(user, "tokenFile"):
        # As kubectl has it, the file goes before a token that stands beside it.
        user = user | {"token": _token(name, folder)}
    if user.get("exec") is not None and not user.get("token"):
        user = user | await credentials(user["exec"], folder)
    for key in ("exec", "tokenFile"):
        user.pop(key, None)
    if "token" in user:
        user["token"] = _text(user, "token").strip()
        if not user["token"].isprintable() or not user["token"].isascii():
            message = "has a token with characters that cannot be sent"
            raise ConfigError(message)
    return user


def _token(name: str, folder: Path) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        message = f"names a tokenFile {name} that cannot be read: {reason}"
        raise ConfigError(message) from None


def _check_files(entry: dict[str, Any], keys: tuple[str, ...], folder: Path) -> None:
    """Check what stands in the file as base64, or else the files that are named."""
    for key in keys:
        if text := _text(entry, f"{key}-data"):
            try:
                base64.b64decode("".join(text.split()), validate=True)
            except (binascii.Error, ValueError):
                message = f"has a {key}-data that is no base64"
                raise ConfigError(message) from None
        elif name := _text(entry, key):
            try:
                (folder / name).open("rb").close()
            except OSError as error:
                message = f"names a {key} {name} that cannot be read: {error.strerror}"
                raise ConfigError(message) from error
