"""A way to the API server that fails on purpose, one request at a time."""

from __future__ import annotations

import asyncio  # noqa: TID251 - its streams can be cut off from any task
import enum
import json
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest

    from apiserver import ApiServer
    from evstore.config import Config

_HEAD_END: Final = b"\r\n\r\n"


class Fault(enum.Enum):
    """What happens to a request, and to the client that waits for the answer."""

    CUT_BEFORE = "the request is lost, the client is cut off"
    LOSE_ANSWER = "the server answers, the answer is lost, the client is cut off"
    DELIVER_LATE = "the client is cut off, the server gets the request when it is let"
    HOLD_ANSWER = "the server answers, the client hears of it when it is let"
    STALL = "nobody answers"


@dataclass
class Reply:
    """An answer that does not come from the server; a late one only when it is let."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    late: bool = False

    @property
    def text(self) -> bytes:
        content = json.dumps(self.body or {}).encode()
        lines = [
            f"HTTP/1.1 {self.status} Interfered",
            f"Content-Length: {len(content)}",
            "Content-Type: application/json",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + _HEAD_END + content


@dataclass
class _Plan:
    method: str
    path: str
    fault: Fault | Reply
    left: int
    happened: anyio.Event = field(default_factory=anyio.Event)


class Interference:
    """Hands requests through to the API server, but for those that are to fail.

    Each connection serves one request; `requests` are the first lines of all of them.
    """

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._plans: list[_Plan] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self.requests: list[str] = []
        self.let = anyio.Event()
        self.late = anyio.Event()
        self.port = 0

    def plan(
        self, method: str, path: str, fault: Fault | Reply, *, times: int = 1
    ) -> anyio.Event:
        """Let the next such requests fail; the event tells when the last of them did.

        `path` is a part of what is asked for, with its query.
        """
        plan = _Plan(method, path, fault, times)
        self._plans.append(plan)
        return plan.happened

    def forget(self) -> None:
        """Let nothing fail any more that was planned."""
        self._plans.clear()

    def release(self) -> None:
        """Let go on what waits until it is let; what comes later waits again."""
        self.let.set()
        self.let = anyio.Event()

    def cut_all(self) -> None:
        """Cut off all clients that are connected."""
        for writer in list(self._writers):
            _cut(writer)

    def refuse(self, *, refusing: bool) -> None:
        """Cut off whoever comes, or no longer."""
        self._refusing = refusing
        if refusing:
            self.cut_all()

    def config(self, config: Config) -> Config:
        """Return the same configuration, by this way."""
        namespace = config.kubernetes.system_namespace
        return self._server.config(
            namespace, server=f"https://{self._server.host}:{self.port}"
        )

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                if not self._refusing:
                    await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)
            _cut(writer)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await reader.readuntil(_HEAD_END)
        first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        names = {line.split(":")[0].lower(): line.split(":", 1)[1] for line in lines}
        body = await reader.readexactly(int(names.get("content-length", "0")))
        kept = [line for line in lines if not line.lower().startswith("connection")]
        request = "\r\n".join([first, *kept, "Connection: close"]).encode()
        self.requests.append(first.rpartition(" ")[0])
        await self._answer(writer, first, request + _HEAD_END + body)

    async def _answer(
        self, writer: asyncio.StreamWriter, first: str, request: bytes
    ) -> None:
        match self._fault(first):
            case None:
                await self._hand_through(writer, request)
            case Reply() as reply:
                await self._reply_in_time(writer, reply)
            case Fault.LOSE_ANSWER:
                await self._ask(request)
            case Fault.HOLD_ANSWER:
                answer = await self._ask(request)
                await self.let.wait()
                await _reply(writer, answer)
            case Fault.DELIVER_LATE:
                let = self.let
                _cut(writer)
                await let.wait()
                await self._ask(request)
                self.late.set()
            case Fault.STALL:
                await self.let.wait()
            case Fault.CUT_BEFORE:
                pass

    async def _reply_in_time(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        if reply.late:
            await self.let.wait()
        await _reply(writer, reply.text)

    def _fault(self, first: str) -> Fault | Reply | None:
        method, target, _ = first.split(" ")
        for plan in self._plans:
            if plan.method == method and plan.path in target:
                plan.left -= 1
                if not plan.left:
                    self._plans.remove(plan)
                    plan.happened.set()
                return plan.fault
        return None

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(request)
            return await reader.read()
        finally:
            _cut(writer)

    async def _hand_through(self, client: asyncio.StreamWriter, request: bytes) -> None:
        reader, writer = await self._connect()
        try:
            writer.write(request)
            while piece := await reader.read(65536):
                client.write(piece)
                await client.drain()
            client.close()
            await client.wait_closed()
        finally:
            _cut(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=str(self._server.ca_path))
        return await asyncio.open_connection(
            self._server.host, self._server.port, ssl=context
        )


def _cut(writer: asyncio.StreamWriter) -> None:
    """Cut a connection off, however far it was closed."""
    # Of what was closed twice, Python 3.11.2 has forgotten the protocol.
    with suppress(AttributeError):
        writer.transport.abort()


async def _reply(writer: asyncio.StreamWriter, text: bytes) -> None:
    writer.write(text)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


class Held:
    """Stops an append just before its object is created, until it is let."""

    def __init__(self, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = anyio.Event()
        self.let = anyio.Event()
        create = log._shelf.create

        async def held(*args: Any, **named: Any) -> Any:
            self.there.set()
            await self.let.wait()
            return await create(*args, **named)

        monkeypatch.setattr(log._shelf, "create", held)


@asynccontextmanager
async def interference(server: ApiServer) -> AsyncGenerator[Interference]:
    """Run such a way, which ends with all its connections."""
    way = Interference(server)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pair = server.certificate
    context.load_cert_chain(pair.cert_path, pair.key_path)
    tasks: set[asyncio.Task[Any]] = set()

    async def accept(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):  # asyncio would log it
                await way.serve(reader, writer)
        finally:
            tasks.discard(task)

    listener = await asyncio.start_server(accept, server.host, 0, ssl=context)
    way.port = listener.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        listener.close()
        way.let.set()
        way.cut_all()
        running = list(tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await anyio.lowlevel.checkpoint()
