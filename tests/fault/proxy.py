"""A way to PostgreSQL that fails on purpose, one request at a time.

A request is what a client sends before it waits for an answer: in the extended protocol
up to `Sync`, in the simple one a `Query`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - its streams can be cut off from any task
import enum
import struct
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from servers import short_folder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from anyio.abc import TaskGroup

    from evstore.config import Config

_CANCEL_REQUEST: Final = 80877102
_REQUEST_ENDS: Final = b"SQXH"
_BIND: Final = b"B"
_READY: Final = b"Z"
_ERROR: Final = b"E"


class Fault(enum.Enum):
    """What happens to a request, and to the client that waits for the answer."""

    CUT_BEFORE = "the request is lost, the client is cut off"
    CUT_INSIDE = "all but the last statement arrives, then the client is cut off"
    CUT_AFTER = "the server gets it, the client is cut off at once"
    LOSE_ANSWER = "the server answers, the answer is lost, the client is cut off"
    CRASH = "the server has committed, says that it crashes, the client is cut off"
    DELIVER_LATE = "the client is cut off, the server gets the request later"
    STALL = "nothing moves on this connection; the client is not cut off"
    STALL_ANSWER = "the server gets it; the answer does not move"


_PANIC: Final = b"SPANIC\0VPANIC\0C53100\0Mcould not write to file: no space left\0\0"
_LAST_WORDS: Final = {
    Fault.CRASH: _ERROR + struct.pack(">I", len(_PANIC) + 4) + _PANIC,
}


@dataclass(frozen=True)
class Request:
    """What a client sent on one of its connections."""

    purpose: str
    raw: bytes

    @cached_property
    def statements(self) -> list[tuple[str, int]]:
        """Names of the prepared statements that are executed, and where each begins."""
        found: list[tuple[str, int]] = []
        place = 0
        while place < len(self.raw):
            (length,) = struct.unpack_from(">I", self.raw, place + 1)
            if self.raw[place : place + 1] == _BIND:
                _, name, _ = self.raw[place + 5 :].split(b"\0", maxsplit=2)
                found.append((name.decode(), place))
            place += 1 + length
        return found

    def _executes(self, name: str) -> bool:
        return self.purpose == "evstore writer" and name in dict(self.statements)

    @property
    def is_append(self) -> bool:
        return self._executes("append")

    @property
    def is_commit(self) -> bool:
        return self._executes("commit")

    @property
    def is_settle(self) -> bool:
        return self._executes("settle")

    @property
    def kind(self) -> str | None:
        """What an append is made of; None for the rest."""
        if self.is_append:
            return "append"
        return "settle" if self.is_settle else None


class _End:
    """One end of a connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.receive = reader.readexactly
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def cut(self) -> None:
        self._writer.transport.abort()


@dataclass(eq=False)
class _Link:
    client: _End
    server: _End
    purpose: str = ""
    answers_pass: anyio.Event = field(default_factory=anyio.Event)
    answers_lost: bool = False
    ready_once: bool = False
    ready: anyio.Event = field(default_factory=anyio.Event)


class Proxy:
    """Listens on a socket of its own and passes on what the server and clients say."""

    def __init__(self, config: Config, folder: Path, tasks: TaskGroup) -> None:
        postgres = config.postgres
        self._socket = f"{postgres.host}/.s.PGSQL.{postgres.port}"
        self._tasks = tasks
        self._clients: set[_End] = set()
        self._closed = False
        self._links: set[_Link] = set()
        self._released = anyio.Event()
        self._delivered = anyio.Event()
        self.config: Final = msgspec.structs.replace(
            config, postgres=msgspec.structs.replace(postgres, host=str(folder))
        )
        self.requests: list[Request] = []
        self.faults: Counter[Fault] = Counter()
        self.cancels = 0
        self.down = False
        self.database = postgres.db_name
        self.choose: Callable[[Request], Fault | None] = lambda _: None
        self.late = 0
        self.refusals: Counter[str] = Counter()

    def once(self, fault: Fault, where: Callable[[Request], bool]) -> anyio.Event:
        """Let the next request that fits meet `fault`; return the event of it."""
        struck = anyio.Event()

        def choose(request: Request) -> Fault | None:
            if struck.is_set() or not where(request):
                return None
            struck.set()
            return fault

        self.choose = choose
        return struck

    def release(self) -> None:
        """Let go on what stalls, and deliver what is late."""
        released, self._released = self._released, anyio.Event()
        delivered, self._delivered = self._delivered, anyio.Event()
        released.set()
        delivered.set()

    async def deliver(self, *, first: bool = False) -> None:
        """Deliver what is late, and return when the server has dealt with it.

        With `first`, what stalls goes on stalling.
        """
        delivered, self._delivered = self._delivered, anyio.Event()
        delivered.set()
        if not first:
            self.release()
        while self.late:  # noqa: ASYNC110 - several may be late
            await anyio.sleep(0.001)

    def cut_all(self) -> None:
        """Cut all connections off, on both sides."""
        for link in self._links:
            link.client.cut()
            link.server.cut()

    def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Begin to serve a connection."""
        client = _End(reader, writer)
        if self._closed:
            client.cut()
            return
        self._clients.add(client)
        self._tasks.start_soon(self._serve, client)

    def close(self) -> None:
        """Cut all clients, also those that nobody has begun to serve."""
        self._closed = True
        for client in self._clients:
            client.cut()

    async def _serve(self, client: _End) -> None:
        try:
            await self._serve_client(client)
        finally:
            client.cut()
            self._clients.discard(client)

    async def _serve_client(self, client: _End) -> None:
        if self.down:
            return
        try:
            server = _End(*await asyncio.open_unix_connection(self._socket))
        except OSError:  # the server itself is down
            return
        link = _Link(client, server)
        self._links.add(link)
        try:
            with suppress(OSError, EOFError):
                await self._link(link)
        finally:
            self._links.discard(link)
            server.cut()

    async def _link(self, link: _Link) -> None:
        length, code = struct.unpack(">II", await link.client.receive(8))
        rest = await link.client.receive(length - 8)
        if code == _CANCEL_REQUEST:
            self.cancels += 1
            await link.server.send(struct.pack(">II", length, code) + rest)
            return
        words = rest.split(b"\0")
        given = dict(zip(words[::2], words[1::2], strict=False))
        given.pop(b"", None)
        link.purpose = given[b"application_name"].decode()
        given[b"database"] = self.database.encode()
        startup = b"".join(b"%b\0%b\0" % pair for pair in given.items()) + b"\0"
        await link.server.send(struct.pack(">II", len(startup) + 8, code) + startup)
        link.answers_pass.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._answers, link, tasks)
            with suppress(OSError, EOFError):
                await self._requests(link)
            tasks.cancel_scope.cancel()

    async def _requests(self, link: _Link) -> None:
        collected = b""
        while True:
            kind, message = await _message(link.client)
            collected += message
            if kind not in _REQUEST_ENDS:
                continue
            request, collected = Request(link.purpose, collected), b""
            self.requests.append(request)
            fault = self.choose(request)
            if fault is None:
                await link.server.send(request.raw)
            else:
                self.faults[fault] += 1
                if await self._strike(link, request, fault):
                    return

    async def _strike(self, link: _Link, request: Request, fault: Fault) -> bool:
        """Let a request meet its fault; return whether that ends the connection."""
        released = self._released
        match fault:
            case Fault.CUT_BEFORE:
                return True
            case Fault.CUT_INSIDE:
                *_, (_, last) = request.statements
                await link.server.send(request.raw[:last])
                return True
            case Fault.STALL:
                await released.wait()
                await link.server.send(request.raw)
                return False
            case Fault.STALL_ANSWER:
                link.answers_pass = anyio.Event()
                await link.server.send(request.raw)
                await released.wait()
                link.answers_pass.set()
                return False
            case Fault.CUT_AFTER:
                link.answers_lost = True
                await link.server.send(request.raw)
                link.client.cut()
            case Fault.LOSE_ANSWER | Fault.CRASH:
                link.answers_lost = True
                await link.server.send(request.raw)
            case Fault.DELIVER_LATE:
                link.answers_lost = True
                link.client.cut()
                delivered = self._delivered
                self.late += 1
                try:
                    await delivered.wait()
                    await link.server.send(request.raw)
                    await link.ready.wait()
                finally:
                    self.late -= 1
        await link.ready.wait()
        await link.client.send(_LAST_WORDS.get(fault, b""))
        return True

    async def _answers(self, link: _Link, tasks: TaskGroup) -> None:
        with suppress(OSError, EOFError):
            while True:
                kind, message = await _message(link.server)
                if kind == _ERROR and not link.ready_once:
                    self.refusals[link.purpose] += 1
                if kind == _READY:
                    link.ready_once = True
                if not link.answers_lost:
                    await link.answers_pass.wait()
                    await link.client.send(message)
                elif kind == _READY:
                    link.ready.set()
        link.ready.set()
        tasks.cancel_scope.cancel()


async def _message(end: _End) -> tuple[bytes, bytes]:
    head = await end.receive(5)
    length: int = struct.unpack(">I", head[1:])[0]
    return head[:1], head + await end.receive(length - 4)


@asynccontextmanager
async def open_proxy(config: Config) -> AsyncGenerator[Proxy]:
    """Open a proxy before the server that `config` names by a socket folder."""
    with short_folder() as folder:
        path = folder / f".s.PGSQL.{config.postgres.port}"
        async with anyio.create_task_group() as tasks:
            proxy = Proxy(config, folder, tasks)
            listener = await asyncio.start_unix_server(proxy.accept, path)
            try:
                yield proxy
            finally:
                listener.close()
                proxy.close()
                tasks.cancel_scope.cancel()
