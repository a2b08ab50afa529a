"""Where two states of one projection differ first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from evstore.errors import StoreError
from evstore.folds.projection import BUILT_IN
from evstore.values.diff import differences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evstore.folds.projections import Projections


def first_difference(one: Projections, other: Projections, name: str) -> str | None:
    """Return what differs first in the states of a projection; None where nothing does.

    The key of a resource, by type, mesh and name; `request ID`; `schema version of
    TYPE`; or the JSON pointer to a member of a state of one's own, "" for all of it.
    """
    if name == BUILT_IN:
        return _of_resources(one, other)
    mine = _frozen(one, name)
    theirs = _frozen(other, name)
    if mine == theirs:
        return None
    first = next(differences(plain(theirs), plain(mine)), None)
    return "" if first is None else first.path


def _of_resources(one: Projections, other: Projections) -> str | None:
    key = _first_key(
        {each.key: each for each in one.resources},
        {each.key: each for each in other.resources},
    )
    if key is not None:
        return key
    request = _first_key(dict(one.requests.items()), dict(other.requests.items()))
    if request is not None:
        return f"request {request}"
    newest = one.resources.newest_schemas, other.resources.newest_schemas
    type_ = _first_key(*newest)
    return None if type_ is None else f"schema version of {type_}"


def _first_key(one: Mapping[str, object], other: Mapping[str, object]) -> str | None:
    keys = {key for key in {*one, *other} if one.get(key) != other.get(key)}
    return min(keys, key=lambda key: key.split("/"), default=None)


def _frozen(projections: Projections, name: str) -> bytes | None:
    """Return the bytes of a state; None where there is none: it has stopped."""
    (found,) = (each for each in projections.custom if each.name == name)
    try:
        return found.freeze()
    except StoreError:
        return None


def plain(payload: bytes | None) -> Any:
    """Return a frozen state as JSON has it."""
    if payload is None:
        return None
    found = msgspec.msgpack.decode(payload)
    return msgspec.json.decode(msgspec.json.encode(found, enc_hook=repr))
