"""What a program folds: by the app that it brings, or without one as all is stored."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evstore.errors import InvalidError
from evstore.folds.projection import BUILT_IN, definitions_of
from evstore.folds.projections import RESOURCES_VERSION
from evstore.log import open_log
from evstore.log.current import current_log
from evstore.schemas import AS_STORED, Schemas
from evstore.snapshots.rebuild import Code, due_of
from evstore.snapshots.start import origin_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from evstore.app import App
    from evstore.config import Config
    from evstore.folds.projection import Projection
    from evstore.log import Instance, Log, Snapshot
    from evstore.snapshots.rebuild import Due
    from evstore.snapshots.start import Origin

EVERY_EVENTS: Final = 10_000


class Standing(NamedTuple):
    """How a log stands: its head, who runs, and its snapshots, the newest first."""

    head: int
    running: Sequence[Instance]
    snapshots: Sequence[Snapshot]
    floor: int = 0


class Program:
    """What an app declares, checked; without one, the built-in projection alone.

    Raises:
        InvalidError: a type, an upcaster or a projection cannot be used.
    """

    def __init__(self, app: App | None) -> None:
        projections: Sequence[Projection[Any]] = () if app is None else app.projections
        self.as_stored = app is None
        self._schemas = AS_STORED if app is None else Schemas(app.types, app.upcasters)
        self._definitions = definitions_of(projections)

    @property
    def codes(self) -> list[Code]:
        """What it folds, the built-in projection first."""
        fingerprint = self._schemas.fingerprint
        own = [type(each.projection) for each in self._definitions]
        return [
            Code(BUILT_IN, RESOURCES_VERSION, fingerprint),
            *(Code(each.name, each.version, fingerprint) for each in own),
        ]

    def named(self, names: Sequence[str]) -> list[str]:
        """Return these names, or all where there are none, in the order of the program.

        Raises:
            InvalidError: it has no such projection.
        """
        known = [code.name for code in self.codes]
        for name in names:
            if name not in known:
                there = ", ".join(known)
                message = f"there is no projection {name!r}; there are: {there}"
                raise InvalidError(message)
        return [name for name in known if not names or name in names]

    @asynccontextmanager
    async def origin(
        self, config: Config, *, names: Sequence[str] = (), drops: bool = True
    ) -> AsyncGenerator[Origin]:
        """Open the log that `config` names; give where this program begins on it.

        See `begins` for the rest.

        Raises:
            SchemaError: the database is not at the version that this program needs.
            UnavailableError: the log cannot be reached.
        """
        async with open_log(config) as stored:
            await stored.connect()  # which measures its clock
            yield self.begins(stored, names=names, drops=drops)

    def begins(
        self, stored: Log, *, names: Sequence[str] = (), drops: bool = True
    ) -> Origin:
        """Return where this program begins on a log.

        With `names`, only these of its projections are folded, besides the built-in one.
        Without `drops`, a snapshot that does not fit stays.
        """
        log = current_log(stored, self._schemas)
        definitions = [
            each
            for each in self._definitions
            if not names or type(each.projection).name in names
        ]
        return origin_of(log, self._schemas, definitions, drops=drops)

    def due(
        self,
        config: Config,
        standing: Standing,
    ) -> tuple[list[Due], tuple[str, ...]]:
        """Return what is to be rebuilt, and the labels of what only an app could.

        That is due for which a start would have to replay as many events as lie between
        two snapshots. Without an app, what other programs fold is left to them: their
        own projections, and the built-in one where they have upcasters.
        """
        events = config.evstore.snapshots.every_events or EVERY_EVENTS
        snapshots, running = standing.snapshots, standing.running
        found = due_of(
            self.codes,
            [each.stamp for each in snapshots],
            head=standing.head,
            events=events,
            floor=standing.floor,
        )
        if not self.as_stored:
            return found, ()
        labels = [label for each in running for label in each.projections]
        stored = [each.stamp.label for each in snapshots]
        # Who runs counts more than what is stored, and of that the newest.
        telling = [*filter(_is_built_in, labels)] or [*filter(_is_built_in, stored)][:1]
        needs_app = bool(telling) and not any(map(_is_as_stored, telling))
        foreign = {
            label
            for label in (*labels, *stored)
            if not _is_built_in(label) or (needs_app and not _is_as_stored(label))
        }
        return [] if needs_app else found, tuple(sorted(foreign))


def _is_built_in(label: str) -> bool:
    return label.startswith(f"{BUILT_IN}:")


def _is_as_stored(label: str) -> bool:
    """Whether it is the built-in projection of a program without upcasters."""
    return _is_built_in(label) and label.endswith(":")
