"""Any history, snapshots taken anywhere, any damage to them: a start folds the log."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unittest.mock import patch
from uuid import UUID

import msgspec
from hypothesis import given, settings, strategies as st

import evstore
from events import History, create, delete, key, update
from evstore.folds.projection import Projection, definitions_of
from evstore.folds.projections import Projections
from evstore.log import MemoryLog
from evstore.log.current import current_log
from evstore.model import Event, Operation
from evstore.schemas import Schemas
from evstore.snapshots import content, rebuild
from evstore.snapshots.content import BuiltIn, Fold, Frozen, folds_of
from evstore.snapshots.rebuild import Rebuilding, due
from evstore.snapshots.start import origin_of
from evstore.snapshots.taking import take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evstore.commit.changes import Change
    from evstore.log import Log, Snapshot
    from evstore.snapshots.start import Origin

NAMES: Final = "abcd"


class CrashError(Exception):
    """The process dies at this point."""


class Dying(BuiltIn):
    """A fold whose process dies while it is stored."""

    def __init__(self, projections: Projections, *, after: int) -> None:
        super().__init__(projections)
        self._after = after

    def freeze(self) -> Frozen:
        frozen = super().freeze()

        def chunks() -> Iterator[bytes]:
            for number, chunk in enumerate(frozen.chunks):
                if number == self._after:
                    raise CrashError
                yield chunk

        return frozen._replace(chunks=chunks())


class Lying(BuiltIn):
    """Folded by other code: what it stores is no state of ours."""

    def freeze(self) -> Frozen:
        other = BuiltIn(Projections(self.head)).freeze()
        return other._replace(head=self.head)


class Trace(Projection[list[str]]):
    """Every event, in order: whatever is missing or comes twice is seen."""

    name = "trace"

    def initial(self) -> list[str]:
        return []

    def fold(self, state: list[str], event: Event) -> list[str]:
        state.append(f"{self.version}: {event.operation} {event.key.text}")
        return state


class LaterTrace(Trace):
    version = 2


class Fragile(Projection[int]):
    """Counts, up to the first deletion."""

    name = "fragile"

    def initial(self) -> int:
        return 0

    def fold(self, state: int, event: Event) -> int:
        if event.operation is Operation.DELETED:
            raise ValueError(event.position)
        return state + 1


@evstore.upcaster("Dataplane", from_version=1)
def renamed(body: dict[str, Any]) -> dict[str, Any]:
    """What was n is called number in schema version 2."""
    body["spec"] = {"number": body["spec"].get("n")}
    return body


class Program(NamedTuple):
    """A version of the program that runs: its schemas, and projections of its own."""

    schemas: Schemas
    projections: tuple[Projection[Any], ...]


PROGRAMS: Final = (
    Program(Schemas(), (Trace(), Fragile())),
    Program(Schemas(), (LaterTrace(), Fragile())),
    Program(Schemas((), [renamed]), (Trace(), Fragile())),
)


class Life:
    """A log, who writes to it, and what is done to its snapshots.

    All events are stored in schema version 1, whatever program runs.
    """

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.history = History(self.log.genesis)
        self.program = PROGRAMS[0]

    @property
    def projections(self) -> Projections:
        return self.history.projections

    async def do(self, what: str, detail: Any) -> None:
        match what:
            case "change":
                await self.change(detail)
            case "store":
                for fold in folds_of(await self.restarted()):
                    await self.store(fold)
            case "crash":
                with suppress(CrashError):
                    await self.store(Dying(await self.restarted(), after=detail))
            case "other code":
                await self.store(Lying(self.projections), detail)
            case "rebuild":
                await self.rebuild(dies_after=detail)
            case "deploy":
                self.program = detail
            case _:
                self.damage(*detail)

    async def change(self, name: str) -> None:
        """Create what is not there; else change or delete it, and what it owns."""
        records = self.projections.resources
        step: Change
        record = records.get(key(name))
        if record is None:
            owner = key("a") if name != "a" and records.get(key("a")) else None
            step = create(key(name), owner=owner)
        elif self.history.head.position % 3:
            step = update(key(name), {"n": self.history.head.position})
        else:
            step = delete(key(name))
        before = self.history.head
        request = f"r-{before.position}" if before.position % 2 else None
        events = self.history.transaction(step, request_id=request)
        await self.log.append(events, after=before)

    async def store(self, fold: Fold, fingerprint: str | None = None) -> None:
        if fingerprint is None:
            fingerprint = self.program.schemas.fingerprint
        await take(self.log, fold, fingerprint=fingerprint, code_version="1")

    async def rebuild(self, *, dies_after: int | None) -> None:
        """Rebuild what is due; or die in the middle, after some chunks of the log."""
        chunks = 0

        def advance(done: int, total: int) -> None:
            nonlocal chunks
            chunks += 1
            assert 0 <= done <= total
            if chunks == dies_after:
                raise CrashError

        rebuilding = Rebuilding(self.origin, code_version="1", advance=advance)
        with (
            suppress(CrashError),
            patch.object(rebuild, "STEP_EVENTS", 2),
            patch("evstore.log.ledger.CHUNK_EVENTS", 2),
        ):
            await rebuilding.run(
                {each.name for each in await due(self.origin, events=0)}
            )

    def damage(self, number: int, how: Callable[[Snapshot, list[bytes]], Any]) -> None:
        """Do something to one of the snapshots, if there is one."""
        stored = self.log._snapshots
        if stored:
            identity = list(stored)[number % len(stored)]
            snapshot, chunks = stored[identity]
            changed, chunks = how(snapshot, list(chunks))
            stored[identity] = (changed, chunks)

    @property
    def seen(self) -> Log:
        """The log as the program sees it."""
        return current_log(self.log, self.program.schemas)

    @property
    def origin(self) -> Origin:
        schemas, projections = self.program
        return origin_of(self.seen, schemas, definitions_of(projections))

    async def restarted(self) -> Projections:
        """Return what a start comes to, having checked it."""
        started = await self.origin.state()
        assert started.resources.digest() == self.projections.resources.digest()
        whole = self.origin.fresh()
        async for events in self.seen.read():
            whole.apply(events)
        assert state_of(started) == state_of(whole)
        for one, other in zip(started.custom, whole.custom, strict=True):
            assert one.status == other.status
            assert one.head == other.head
            if one.stopped is None:
                assert one.state == other.state
        return started


def state_of(projections: Projections) -> object:
    resources = projections.resources
    return (
        projections.head,
        resources.digest(),
        {record.key: record for record in resources},
        [
            [record.key for record in resources.of_type(each)]
            for each in resources.types
        ],
        [sorted(resources.children(key(name))) for name in NAMES],
        projections.requests.items(),
    )


def restamped(**changes: Any) -> Callable[[Snapshot, list[bytes]], Any]:
    def how(snapshot: Snapshot, chunks: list[bytes]) -> Any:
        stamp = msgspec.structs.replace(snapshot.stamp, **changes)
        return msgspec.structs.replace(snapshot, stamp=stamp), chunks

    return how


def moved(snapshot: Snapshot, chunks: list[bytes]) -> Any:
    """The place of another event, or of none."""
    head = snapshot.stamp.head
    head = msgspec.structs.replace(head, position=head.position + 1)
    return restamped(head=head)(snapshot, chunks)


def another_branch(snapshot: Snapshot, chunks: list[bytes]) -> Any:
    """The place of an event that a lost tail had."""
    head = msgspec.structs.replace(snapshot.stamp.head, hash=bytes(32))
    return restamped(head=head)(snapshot, chunks)


def shortened(snapshot: Snapshot, chunks: list[bytes]) -> Any:
    """Whole, as far as anybody can count, and yet not all of it."""
    rest = chunks[:-1]
    checksum = sha256(b"".join(rest)).digest()
    return msgspec.structs.replace(snapshot, chunks=len(rest), checksum=checksum), rest


def flipped(snapshot: Snapshot, chunks: list[bytes]) -> Any:
    """One bit of the middle, where that is not damaged already."""
    middle = len(chunks) // 2
    chunk = bytearray(chunks[middle] if chunks else b"")
    if chunk:
        chunk[len(chunk) // 2] ^= 4
        chunks[middle] = bytes(chunk)
    return snapshot, chunks


def emptied(snapshot: Snapshot, chunks: list[bytes]) -> Any:
    """The header alone."""
    del chunks
    return snapshot, []


def reversed_(snapshot: Snapshot, chunks: list[bytes]) -> Any:
    """The chunks in another order."""
    return snapshot, [*chunks[::-1], b""]


DAMAGES: Final = [
    restamped(log=UUID(int=1)),
    restamped(digest=bytes(32)),
    moved,
    another_branch,
    shortened,
    flipped,
    emptied,
    reversed_,
]

STEPS: Final = st.one_of(
    st.tuples(st.just("change"), st.sampled_from(NAMES)),
    st.tuples(st.just("change"), st.sampled_from(NAMES)),
    st.tuples(st.just("store"), st.none()),
    st.tuples(st.just("rebuild"), st.none() | st.integers(1, 4)),
    st.tuples(st.just("deploy"), st.sampled_from(PROGRAMS)),
    st.tuples(st.just("crash"), st.integers(0, 3)),
    st.tuples(st.just("other code"), st.sampled_from(["f00d", "beef"])),
    st.tuples(
        st.just("damage"), st.tuples(st.integers(0, 5), st.sampled_from(DAMAGES))
    ),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=25))
async def test_a_start_folds_the_log(steps: list[tuple[str, Any]]) -> None:
    life = Life()
    with patch.object(content, "CHUNK_BYTES", 1):
        for what, detail in steps:
            await life.do(what, detail)
            if what != "change":
                await life.restarted()
        await life.restarted()
