"""The exec plugin of a kubeconfig: a program that prints who we are.

What it prints stays here, the part for people as well: it may hold what is secret.
"""

from __future__ import annotations

import base64
import os
import subprocess
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from evstore.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN_SECONDS_MAX: Final = 30
_ALWAYS: Final = "Always"


class _Variable(msgspec.Struct):
    name: str
    value: str


class _Plugin(msgspec.Struct, rename="camel"):
    command: str
    api_version: str
    args: list[str] | None = None
    env: list[_Variable] | None = None
    interactive_mode: str | None = None


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None


class _Credential(msgspec.Struct, rename="camel"):
    api_version: str
    status: _Status


_decode: Final = msgspec.json.Decoder(_Credential).decode


async def credentials(
    settings: object, folder: Path, *, seconds: float = PLUGIN_SECONDS_MAX
) -> dict[str, str]:
    """Run a plugin; return what stands for it in the kubeconfig's user.

    A command with a slash is looked for from `folder` on. There is no terminal for it,
    and what it says to people is dropped.

    Raises:
        ConfigError: it cannot be run, failed, or printed no credentials.
        UnavailableError: it took longer than `seconds`, and was ended.
    """
    plugin = _checked(settings)
    command = plugin.command
    if "/" in command:
        command = str(folder / command)
    try:
        with anyio.fail_after(seconds):
            done = await anyio.run_process(
                [command, *(plugin.args or [])],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                env=_environment(plugin),
            )
    except TimeoutError:
        message = f"{_told(plugin)} took longer than {seconds:g} s"
        raise UnavailableError(message) from None
    except (OSError, ValueError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) else "an argument is wrong"
        )
        message = f"{_told(plugin)} cannot be run: {reason}"
        raise ConfigError(message) from None
    if done.returncode:
        raise ConfigError(
            f"{_told(plugin)} ended with status {done.returncode}: run it by itself, or "
            "any kubectl command, to see why"
        )
    return _taken(plugin, done.stdout)


def _checked(settings: object) -> _Plugin:
    try:
        plugin = msgspec.convert(settings, _Plugin, strict=False)
    except msgspec.ValidationError:
        message = "has an exec plugin without command or apiVersion, or with wrong ones"
        raise ConfigError(message) from None
    if plugin.interactive_mode == _ALWAYS:
        raise ConfigError(
            f"{_told(plugin)} wants a terminal (interactiveMode: Always), and gets none "
            "from evstore"
        )
    return plugin


def _environment(plugin: _Plugin) -> dict[str, str]:
    request: dict[str, Any] = {
        "apiVersion": plugin.api_version,
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    return (
        dict(os.environ)
        | {each.name: each.value for each in plugin.env or []}
        | {"KUBERNETES_EXEC_INFO": msgspec.json.encode(request).decode()}
    )


def _taken(plugin: _Plugin, printed: bytes) -> dict[str, str]:
    try:
        found = _decode(printed)
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = f"{_told(plugin)} prints no ExecCredential"
        raise ConfigError(message) from None
    if found.api_version != plugin.api_version:
        raise ConfigError(
            f"{_told(plugin)} does not answer in the apiVersion that stands beside it, "
            f"{plugin.api_version}"
        )
    status = found.status
    taken = {"token": status.token} if status.token else {}
    if status.client_certificate_data and status.client_key_data:
        taken["client-certificate-data"] = _encoded(status.client_certificate_data)
        taken["client-key-data"] = _encoded(status.client_key_data)
    if not taken:
        raise ConfigError(
            f"{_told(plugin)} gives neither a token nor a certificate with its key"
        )
    return taken


def _told(plugin: _Plugin) -> str:
    return f"names the exec plugin {plugin.command}, which"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
