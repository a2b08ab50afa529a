"""Who we are to the cluster, what it knows, and what we may do there."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from evstore.doctor.facts import Unknown
from evstore.doctor.kubernetes.facts import (
    Account,
    Kind,
    Namespace,
    Rights,
    Token,
    Way,
)
from evstore.errors import StoreError
from evstore.log.kubernetes import manifests, migrations, objects
from evstore.log.kubernetes.access import bare, token_of
from evstore.log.kubernetes.answers import (
    FORBIDDEN,
    NOT_FOUND,
    Answer,
    LostError,
)
from evstore.log.kubernetes.rights import Right, allowed, rights_of
from evstore.log.kubernetes.shelf import together

from .known import briefly
from .token import claims_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evstore.log.kubernetes.client import Client
    from evstore.log.kubernetes.dates import DatedClock

    from .token import Claims

_CORE: Final = "/api/v1/namespaces"
_REVIEW: Final = "authentication.k8s.io/v1"
_DRY: Final = {"dryRun": "All"}
_SECOND: Final = 1_000_000
_NO_KIND: Final = "whoami"
_USER: Final = re.compile(r'User "([^"]+)"')
# How the server lists what of it is not well.
_FAILED: Final = re.compile(r"\[-\](\S+)")
_TERMINATING: Final = "because it is being terminated"
# What nobody needs who runs a control plane: each changes or removes what was appended.
_BEYOND: Final = (
    *(
        Right(verb, plural)
        for plural in (objects.CHANGES, objects.CHUNKS, objects.LOGS)
        for verb in ("update", "patch", "delete", "deletecollection")
    ),
    Right("delete", "customresourcedefinitions", "apiextensions.k8s.io", whole=True),
)
_EVERYTHING: Final = Right("*", "*", "*", whole=True)


class _Version(msgspec.Struct, rename="camel"):
    git_version: str


class _Phase(msgspec.Struct):
    phase: str = ""


class _Namespace(msgspec.Struct):
    status: _Phase = msgspec.field(default_factory=_Phase)


class _User(msgspec.Struct):
    username: str = ""


class _Self(msgspec.Struct, rename="camel"):
    user_info: _User


class _Review(msgspec.Struct):
    status: _Self


_decode_version: Final = msgspec.json.Decoder(_Version).decode
_decode_namespace: Final = msgspec.json.Decoder(_Namespace).decode
_decode_review: Final = msgspec.json.Decoder(_Review).decode


class Access:
    """The way into one cluster, whose client is open."""

    def __init__(self, client: Client, clock: DatedClock, *, mirror: bool) -> None:
        self._client = client
        self._clock = clock
        self._mirror = mirror

    async def version(self) -> str | Unknown:
        """Return the version of the server.

        Raises:
            ConfigError: it does not accept who we are.
            UnavailableError: it cannot be reached.
        """
        answer = await self._client.request("GET", "/version")
        if answer.status == FORBIDDEN:
            return Unknown(briefly(answer.explanation().message))
        return self._client.content(answer, _decode_version).git_version

    async def ready(self) -> str | Unknown:
        """Return what the server lacks to work, or ""."""
        try:
            answer = await self._client.request("GET", "/readyz", accept="*/*")
        except LostError as error:
            return ", ".join(_FAILED.findall(str(error))) or str(error)
        if answer.ok:
            return ""
        return Unknown(briefly(answer.explanation().message))

    def way(self) -> Way:
        """Return how the server is reached."""
        access = self._client.access
        encrypted = _scheme(access.host) == "https"
        return Way(
            address=bare(access.host),
            verified=bool(access.verify_ssl) if encrypted else None,
            proxy=bare(self._client.proxy or ""),
        )

    async def account(self) -> Account | None:
        """Return who we are; older servers tell only whom they refuse something."""
        body = {"apiVersion": _REVIEW, "kind": "SelfSubjectReview"}
        path = f"/apis/{_REVIEW}/selfsubjectreviews"
        try:
            answer = await self._client.request(
                "POST", path, body=msgspec.json.encode(body)
            )
            if answer.ok:
                review = self._client.content(answer, _decode_review)
                return Account(
                    name=review.status.user_info.username, told_by="the server"
                )
        except StoreError:
            pass  # the other checks tell
        claims = await self._claims()
        if claims is not None:
            return Account(name=claims.sub, told_by="its token")
        return await self._refused()

    async def _refused(self) -> Account | None:
        """Return who we are by what is said where we ask for what nobody may see."""
        path = objects.collection(self._client.namespace, _NO_KIND)
        answer = await self._client.request("GET", path)
        named = _USER.search(answer.explanation().message)
        if answer.status != FORBIDDEN or named is None:
            return None  # we may do whatever there is
        return Account(name=named[1], told_by="the server")

    async def _claims(self) -> Claims | None:
        token = await token_of(self._client.access)
        claims = claims_of(token or "")
        return claims if claims is not None and claims.sub else None

    async def token(self) -> Token | None:
        """Return when our token expires; None where that is not told."""
        claims = await self._claims()
        if claims is None or claims.exp is None:
            return None
        return Token(
            seconds_left=claims.exp - self._clock.now() / _SECOND,
            seconds_whole=None if claims.iat is None else claims.exp - claims.iat,
        )

    async def namespace(self) -> Namespace | Unknown:
        """Return whether the namespace is there.

        Who may not look at it finds out by a lease that is not created.
        """
        name = self._client.namespace
        answer = await self._client.request("GET", f"{_CORE}/{name}")
        if answer.status == NOT_FOUND:
            return Namespace(name=name, there=False)
        if answer.status != FORBIDDEN:
            found = self._client.content(answer, _decode_namespace)
            terminating = found.status.phase == "Terminating"
            return Namespace(name=name, there=True, terminating=terminating)
        tried = await self._try_lease()
        message = tried.explanation().message
        if tried.ok or _TERMINATING in message:
            return Namespace(name=name, there=True, terminating=_TERMINATING in message)
        if tried.status == NOT_FOUND:
            return Namespace(name=name, there=False)
        return Unknown(briefly(answer.explanation().message))

    async def _try_lease(self) -> Answer:
        api = "coordination.k8s.io/v1"
        body = {"apiVersion": api, "kind": "Lease", "metadata": {"name": _name()}}
        return await self._client.request(
            "POST",
            f"/apis/{api}/namespaces/{self._client.namespace}/leases",
            query=_DRY,
            body=msgspec.json.encode(body),
        )

    async def writable(self) -> str | Unknown:
        """Return why a change would not be taken, or "" if it would; none is made."""
        nothing = "0" * 64
        spec = objects.ChangeSpec(
            log="-" * 36,
            first=1,
            position=1,
            events=1,
            after=nothing,
            hash=nothing,
            encoding=objects.PLAIN,
        )
        body = msgspec.structs.asdict(spec)
        try:
            answer = await self._client.request(
                "POST",
                objects.collection(self._client.namespace, objects.CHANGES),
                query=_DRY,
                body=objects.document(
                    objects.CHANGES,
                    _name(),
                    {name: value for name, value in body.items() if value},
                ),
            )
        except LostError as error:
            return str(error)
        if answer.ok:
            return ""
        message = answer.explanation().message
        return Unknown(message) if "dry run" in message else briefly(message)

    async def kinds(self) -> tuple[Kind, ...]:
        """Return how the cluster knows the kinds."""
        found: list[Kind] = []
        for wanted in manifests.definitions():
            there = await migrations.installed(self._client, wanted)
            kind = migrations.kind_of(wanted, there)
            metadata: dict[str, Any] = there["metadata"] if there else {}
            found.append(
                Kind(
                    name=kind.name,
                    version=kind.version,
                    served=migrations.is_served(there),
                    terminating="deletionTimestamp" in metadata,
                )
            )
        return tuple(found)

    async def rights(self) -> Rights:
        """Return what our account lacks, and what it has too much."""
        needed = [
            *rights_of(manifests.runtime_rules()),
            *rights_of(manifests.schema_rules(), whole=True),
        ]
        mirror = rights_of(manifests.mirror_rules()) if self._mirror else []
        asked = [*needed, *mirror, *_BEYOND, _EVERYTHING]
        had = await self._had(asked)
        return Rights(
            missing=_words(needed, without=had),
            mirror=_words(mirror, without=had),
            beyond=tuple(str(each) for each in _BEYOND if each in had),
            everything=_EVERYTHING in had,
        )

    async def _had(self, asked: list[Right]) -> set[Right]:
        had: set[Right] = set()

        async def ask(index: int) -> None:
            if await allowed(self._client, asked[index]):
                had.add(asked[index])

        await together(ask, len(asked))
        return had


def _scheme(address: str | None) -> str:
    return urlsplit(address or "").scheme


def _name() -> str:
    return f"doctor-{secrets.token_hex(8)}"


def _words(rights: Iterable[Right], *, without: set[Right]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(each) for each in rights if each not in without))
