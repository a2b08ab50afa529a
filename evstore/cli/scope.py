"""What of the log a command is about: where it begins, and in which mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .input.manifests import default_mesh
from .session import UsageError, say

if TYPE_CHECKING:
    from datetime import datetime

    from evstore.store.facade import Store


def range_of(
    store: Store,
    *,
    since: int | datetime | None,
    until: int | datetime | None,
    after: int | None = None,
) -> tuple[dict[str, Any], int]:
    """Return which range a command asks for, and the floor where it begins there.

    A log that was compacted is shown from its floor on where nobody says where to begin;
    who asks for what is gone gets an error, and not what is left. The floor is 0 where
    nothing is missing from what was asked for.
    """
    floor = store.floor
    is_asked = (
        since is not None
        or after is not None
        or (isinstance(until, int) and until <= floor)
    )
    if is_asked:
        floor = 0
    return {"since": since, "until": until, "after": after or floor}, floor


def note_floor(floor: int, more: str = "", *, whole: bool = False) -> None:
    """Tell the person that the history up to a position is not there any more.

    Nothing is said where there is no floor, or where all that was asked for is `whole`.
    """
    if floor and not whole:
        note = f"note: the log was compacted: what happened up to position {floor}"
        say(f"{note} is gone{more and '; '}{more}")


async def version_at(store: Store, floor: int, type_: str, name: str, mesh: str) -> str:
    """Return in words what there was of a resource at the floor."""
    from evstore.errors import NotFoundError

    if not floor:
        return ""
    try:
        found = await store.get(type_, name, mesh=mesh, at=floor)
    except NotFoundError:
        return "the resource was not there then"
    return f"the resource was at version {found.version} then"


async def mesh_of(store: Store, type_: str, name: str, mesh: str | None) -> str:
    """Return the mesh of a resource that was ever there: as given, else as usual.

    Where the usual mesh never had one, it is the only one that had. Of a log that was
    compacted, what was there at its floor or later counts.

    Raises:
        NotFoundError: there never was such a resource.
        UsageError: several other meshes had one.
    """
    from evstore.errors import NotFoundError
    from evstore.model import Key

    where = default_mesh(type_) if mesh is None else mesh
    if await _meshes(store, type_, name, mesh=where, limit=1):
        return where
    found = await _meshes(store, type_, name) if mesh is None else set[str]()
    if not found:
        key, since = Key(type=type_, mesh=where, name=name), ""
        if store.floor:
            since = f" at or after position {store.floor}; the log was compacted"
        raise NotFoundError(f"{key} never existed{since}")
    if len(found) > 1:
        listed = ", ".join(each or "''" for each in sorted(found))
        message = f"{type_} {name} is in several meshes: {listed}; give --mesh"
        raise UsageError(message)
    return found.pop()


async def _meshes(
    store: Store,
    type_: str,
    name: str,
    *,
    mesh: str | None = None,
    limit: int | None = None,
) -> set[str]:
    """Return the meshes that ever had a resource, as far as the log goes back."""
    floor = store.floor
    found: set[str] = set()
    if floor:
        known = await store.list(type_, mesh=mesh, name_contains=name, at=floor)
        found = {each.mesh for each in known.items if each.name == name}
    own = store.events(type=type_, mesh=mesh, name=name, after=floor, limit=limit)
    return found | {each.mesh async for each in own}
