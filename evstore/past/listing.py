"""Listings: filtered, ordered by name, then mesh, in pages that come from one state.

What a listing found is kept for a while, so that its later pages cost nothing however
the state moves on. Where it is no longer kept, or was begun on another instance, the
page is made again from the log, as the state was at the token's position.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec

from evstore.codec import canonical
from evstore.errors import DivergedError, InvalidError
from evstore.model import Body, Filter, Key, Record

from .history import order, resources_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from evstore.log import Log
    from evstore.model import Head

    Where = Callable[[Record], bool] | None

LISTINGS_KEPT_MAX: Final = 32
HASH_BYTES: Final = 8
KEY_SLASHES: Final = 2

_decode_body = msgspec.json.Decoder(Body).decode


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing asks for; None means any."""

    type: str
    mesh: str | None = None
    name_contains: str | None = None
    keys: frozenset[Key] | None = None
    labels: dict[str, str] | None = None

    @property
    def fingerprint(self) -> str:
        """A short text that differs for different queries."""
        parts = {
            "type": self.type,
            "mesh": self.mesh,
            "name_contains": self.name_contains,
            "keys": None if self.keys is None else sorted(k.text for k in self.keys),
            "labels": self.labels or {},
        }
        return sha256(canonical(parts, "list")).hexdigest()[:16]

    def select(self, records: Iterable[Record]) -> Iterable[Record]:
        """Yield the records that are asked for, in the order given."""
        mesh, contains, labels = self.mesh, self.name_contains, self.labels
        keys = None if self.keys is None else {key.text for key in self.keys}
        for record in records:
            _, its_mesh, name = record.key.split("/")
            if (
                (mesh is None or its_mesh == mesh)
                and (contains is None or contains in name)
                and (keys is None or record.key in keys)
                and (not labels or has_labels(record.body, labels))
            ):
                yield record


def has_labels(body: bytes | msgspec.Raw, labels: Mapping[str, str]) -> bool:
    """Whether a resource with this body has all of these labels."""
    its = _decode_body(body).labels
    return all(its.get(name) == value for name, value in labels.items())


class Listing(msgspec.Struct, frozen=True):
    """A listing that is under way; see `Token`."""

    position: int
    hash: bytes
    query: str
    predicate: str


class Token(msgspec.Struct, frozen=True, array_like=True):
    """Where a listing goes on: of which log, from which state, after which key.

    `hash` begins the hash at the position: a position that was lost with a log's end
    and issued again is not the same state. `predicate` is empty, or an id of its own for a listing that was filtered by a
    function, which a fingerprint cannot tell from another.
    """

    log: str
    position: int
    hash: bytes
    query: str
    predicate: str
    last: str

    @property
    def listing(self) -> Listing:
        """What all tokens of one listing have in common."""
        return Listing(self.position, self.hash, self.query, self.predicate)

    def encode(self) -> str:
        """Return the token as callers see it."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode()

    @classmethod
    def decode(cls, text: str, *, log: str, query: str, predicate: bool) -> Token:
        """Return the token of a listing of this log with this query.

        Raises:
            InvalidError: it is no token, or that of another log or another query.
        """
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
            token = msgspec.msgpack.decode(raw, type=cls)
        except (ValueError, binascii.Error, msgspec.DecodeError, TypeError) as error:
            message = "this is not a page token; give next_page_token as it came"
            raise InvalidError(message, path="page_token") from error
        if (
            token.log != log
            or token.position < 0
            or token.last.count("/") != KEY_SLASHES
        ):
            raise _foreign()
        if token.query != query or bool(token.predicate) != predicate:
            message = "this is the page token of a listing with other filters"
            raise InvalidError(message, path="page_token")
        return token


def _foreign() -> InvalidError:
    message = "this is the page token of another log; begin the listing anew"
    return InvalidError(message, path="page_token")


class Found(msgspec.Struct, frozen=True):
    """One page of a listing, as records."""

    records: list[Record]
    total: int
    next_page_token: str | None
    position: int


class Listings:
    """Makes pages; keeps the listings that are under way, least recently used first."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[Listing, list[Record]] = OrderedDict()

    def first_page(
        self,
        query: Query,
        records: Iterable[Record],
        *,
        state: Head,
        size: int | None,
        where: Where = None,
    ) -> Found:
        """Return the first page of a listing of `records`, which are those of `state`."""
        selected = [each for each in query.select(records) if not where or where(each)]
        listing = Listing(
            state.position,
            state.hash[:HASH_BYTES],
            query.fingerprint,
            uuid4().hex if where else "",
        )
        return self._page(selected, 0, size, listing)

    async def next_page(
        self, query: Query, *, token: str, size: int | None, where: Where = None
    ) -> Found:
        """Return the page that `token` stands for, from the state of the first page.

        Raises:
            InvalidError: it is no token, or that of another log or another query.
            DivergedError: the log lost that state.
        """
        log = self._log.identity.hex
        found = Token.decode(
            token, log=log, query=query.fingerprint, predicate=where is not None
        )
        selected = self._kept.get(found.listing)
        if selected is None:
            records = await self._records_at(query, found)
            selected = [
                each for each in query.select(records) if not where or where(each)
            ]
        _, mesh, name = found.last.split("/")
        start = bisect_right(selected, (name, mesh), key=order)
        return self._page(selected, start, size, found.listing)

    async def _records_at(self, query: Query, token: Token) -> list[Record]:
        place = await self._log.place(token.position)
        if place is None or place.hash[:HASH_BYTES] != token.hash:
            message = "the log lost the state of this listing; begin it anew"
            raise DivergedError(message)
        where = Filter(type=query.type, mesh=query.mesh)
        return await resources_at(self._log, where, token.position)

    def _page(
        self, selected: list[Record], start: int, size: int | None, listing: Listing
    ) -> Found:
        end = len(selected) if size is None else start + size
        page = selected[start:end]
        if end >= len(selected):
            return Found(page, len(selected), None, listing.position)
        self._kept[listing] = selected
        self._kept.move_to_end(listing)
        while len(self._kept) > LISTINGS_KEPT_MAX:
            self._kept.popitem(last=False)
        token = Token(
            self._log.identity.hex,
            listing.position,
            listing.hash,
            listing.query,
            listing.predicate,
            page[-1].key,
        )
        return Found(page, len(selected), token.encode(), listing.position)
