"""The kinds in the cluster: installed, brought up to date, and checked at start.

Each definition carries the version of the schema in an annotation. A cluster that is
newer than this program is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio
import msgspec

from evstore.errors import SchemaError

from . import objects
from .answers import CONFLICT, NOT_FOUND
from .client import Client
from .manifests import SCHEMA_VERSION, VERSION_ANNOTATION, definitions

if TYPE_CHECKING:
    from evstore.config import Config

_PATH: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ADVICE: Final = 'Run "evstore migrate up"'
_SERVED_SECONDS_MAX: Final = 30
_PAUSE: Final = 0.05
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A definition by its name, with the version that the cluster has; 0 for none."""

    name: str
    version: int


async def status(config: Config) -> list[Kind]:
    """Return the version of each kind in the cluster.

    Raises:
        ConfigError: we may not look, or do not know how the cluster is reached.
        UnavailableError: the cluster does not answer.
    """
    client = _client(config)
    try:
        return [kind_of(each, await installed(client, each)) for each in definitions()]
    finally:
        await client.aclose()


async def pending(config: Config) -> list[Kind]:
    """Return the kinds that `migrate` would install or update, as they are now.

    Raises:
        ConfigError: we may not look, or do not know how the cluster is reached.
        SchemaError: the cluster is newer than this program.
        UnavailableError: the cluster does not answer.
    """
    found = await status(config)
    for each in found:
        if each.version > SCHEMA_VERSION:
            raise _newer(each)
    return [each for each in found if each.version < SCHEMA_VERSION]


async def has_log(config: Config) -> bool:
    """Whether there is a log in the namespace; nothing is created.

    Raises:
        ConfigError: we may not look.
        UnavailableError: the cluster does not answer.
    """
    client = _client(config)
    try:
        path = objects.collection(client.namespace, objects.LOGS)
        answer = await client.request("GET", f"{path}/{objects.IDENTITY}")
        if answer.status != NOT_FOUND and not answer.ok:
            raise client.refusal(answer)
        return answer.ok
    finally:
        await client.aclose()


async def migrate(config: Config) -> list[Kind]:
    """Install or update what is not at our version; return those, as they are now.

    Any number of these may run at the same time. Ends when the kinds can be used.

    Raises:
        ConfigError: we may not.
        SchemaError: the cluster is newer than this program.
        UnavailableError: the cluster does not answer.
    """
    client = _client(config)
    try:
        done = [
            kind_of(each, each) for each in definitions() if await _apply(client, each)
        ]
        for each in definitions():
            await _await_served(client, each)
        return done
    finally:
        await client.aclose()


async def check_version(client: Client) -> None:
    """Check at start that this program may use the cluster.

    Raises:
        SchemaError: it may not; the message names both versions and what to run.
        ConfigError: we may not look.
    """
    for each in definitions():
        found = kind_of(each, await installed(client, each))
        if found.version > SCHEMA_VERSION:
            raise _newer(found)
        if found.version < SCHEMA_VERSION:
            message = f"{found.name} is at version {found.version}, this evstore needs"
            raise SchemaError(f"{message} version {SCHEMA_VERSION}. {_ADVICE}")


def _client(config: Config) -> Client:
    return Client(config.kubernetes, seconds=config.evstore.limits.read_timeout)


def kind_of(wanted: dict[str, Any], found: dict[str, Any] | None) -> Kind:
    """Return the version that a definition says, as it was found."""
    name = wanted["metadata"]["name"]
    if found is None:
        return Kind(name=name, version=0)
    text = found["metadata"].get("annotations", {}).get(VERSION_ANNOTATION, "0")
    return Kind(name=name, version=int(text) if text.isdecimal() else 0)


def _newer(found: Kind) -> SchemaError:
    return SchemaError(
        f"{found.name} is at version {found.version}, newer than version "
        f"{SCHEMA_VERSION} of this evstore. Install the newer evstore, whose "
        '"evstore migrate up" made it'
    )


async def installed(client: Client, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Return a definition as the cluster has it; None where it has none."""
    name = quote(wanted["metadata"]["name"])
    answer = await client.request("GET", f"{_PATH}/{name}")
    if answer.status == NOT_FOUND:
        return None
    return client.content(answer, _decode)


async def _apply(client: Client, wanted: dict[str, Any]) -> bool:
    """Create or update a definition; return whether there was anything to do."""
    while True:
        found = await installed(client, wanted)
        kind = kind_of(wanted, found)
        if kind.version > SCHEMA_VERSION:
            raise _newer(kind)
        if kind.version == SCHEMA_VERSION:
            return False
        if found is None:
            body = msgspec.json.encode(wanted)
            answer = await client.request("POST", _PATH, body=body)
        else:
            version = found["metadata"]["resourceVersion"]
            metadata = wanted["metadata"] | {"resourceVersion": version}
            body = msgspec.json.encode(wanted | {"metadata": metadata})
            path = f"{_PATH}/{quote(kind.name)}"
            answer = await client.request("PUT", path, body=body)
        if answer.ok:
            return True
        if answer.status != CONFLICT:
            raise client.refusal(answer)


def is_served(found: dict[str, Any] | None) -> bool:
    """Whether the API server answers for a kind, as its definition says."""
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return any(
        each["type"] == "Established" and each["status"] == "True"
        for each in conditions
    )


async def _await_served(client: Client, wanted: dict[str, Any]) -> None:
    """Return when the API server answers for a kind."""
    with anyio.move_on_after(_SERVED_SECONDS_MAX):
        while True:
            if is_served(await installed(client, wanted)):
                return
            await anyio.sleep(_PAUSE)
    message = f"the cluster does not serve {wanted['metadata']['name']} yet"
    raise SchemaError(message)
