"""The projections of a program, folded from a log that no store need have open."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from evstore.errors import InvalidError
from evstore.folds.projection import BUILT_IN, definitions_of
from evstore.log import open_log
from evstore.log.current import current_log
from evstore.schemas import AS_STORED, Schemas
from evstore.snapshots.start import origin_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from evstore.app import App
    from evstore.config import Config
    from evstore.folds.custom import Custom
    from evstore.folds.projection import Definition
    from evstore.folds.projections import Projections
    from evstore.log import Log
    from evstore.model import StoredEvent
    from evstore.snapshots.start import Origin

    # Is told how many events have been folded, and of how many.
    Advance = Callable[[int, int], None]


def projection_names(app: App | None) -> list[str]:
    """Return the names of a program's projections, the built-in one first.

    Raises:
        InvalidError: a projection cannot be used, or two have one name.
    """
    return [BUILT_IN, *map(_name_of, _definitions(app))]


def projections_named(app: App | None, names: Sequence[str]) -> list[str]:
    """Return these names, or all where there are none, in the order of the program.

    Raises:
        InvalidError: the program has no such projection.
    """
    known = projection_names(app)
    for name in names:
        if name not in known:
            message = f"there is no projection {name!r}; there are: {', '.join(known)}"
            raise InvalidError(message)
    return [name for name in known if not names or name in names]


@asynccontextmanager
async def origin_on(
    config: Config, app: App | None, *, names: Sequence[str] = ()
) -> AsyncGenerator[Origin]:
    """Open the log that `config` names, as the program of `app` sees it.

    Without an app every body stays as it is stored. With `names`, only these of its
    projections are folded, besides the built-in one. Nothing is written: a snapshot that
    does not fit is passed over and stays.

    Raises:
        InvalidError: a type, an upcaster or a projection cannot be used.
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be reached.
    """
    async with open_log(config) as stored:
        await stored.connect()  # which measures its clock
        yield origin_for(stored, app, names=names)


def origin_for(stored: Log, app: App | None, *, names: Sequence[str] = ()) -> Origin:
    """Return where the program of `app` begins on a log; see `origin_on`."""
    schemas = AS_STORED if app is None else Schemas(app.types, app.upcasters)
    definitions = [
        each for each in _definitions(app) if not names or _name_of(each) in names
    ]
    log = current_log(stored, schemas)
    return origin_of(log, schemas, definitions, drops=False)


def _definitions(app: App | None) -> list[Definition]:
    projections: Iterable[Any] = () if app is None else app.projections
    return definitions_of(projections)


def _name_of(definition: Definition) -> str:
    return type(definition.projection).name


def custom_of(projections: Projections, name: str) -> Custom:
    """Return the projection of one's own that has a name; there is one."""
    return next(each for each in projections.custom if each.name == name)


async def bring(
    log: Log,
    projections: Projections,
    *,
    until: int,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Fold on up to a position, the end of a transaction; `advance` is told where it is.

    Raises:
        SchemaError: an event is in a shape that this program does not know.
        UnavailableError: the log cannot be read.
    """
    events = log.replay(after=projections.behind, until=until)
    async with aclosing(events) as chunks:
        async for chunk in chunks:
            projections.apply(chunk)
            advance(chunk[-1].position)
    await fold_tainted(log, projections)


async def fold_tainted(log: Log, projections: Projections) -> None:
    """Fold again what has no state, as a redaction was announced and not finished.

    Raises:
        UnavailableError: the log cannot be read.
    """
    while projections.custom.tainted:
        fresh = projections.custom.again(log.genesis)
        events = log.replay(after=0, until=projections.position)
        async with aclosing(events) as chunks:
            async for chunk in chunks:
                fresh.apply(chunk)
        accepted = projections.custom.accept(fresh, projections.head)
        assert accepted, "the log has been folded up to this place before"


def following(projections: Projections, events: list[StoredEvent]) -> list[StoredEvent]:
    """Return those of some events that a fold has not had yet."""
    return events[max(0, projections.behind + 1 - events[0].position) :]
