"""What is done to the instances, a database and the wires between them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import psycopg
from anyio import to_thread

from fault.history import superuser, value
from fault.proxy import Fault

from .assignment import Database
from .disk import Disk
from .ground import Victims, stopped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from evstore.config import Config
    from evstore.embedded import EmbeddedServer
    from fault.proxy import Proxy

    from .ground import Strike

_SEARCH_SECONDS: Final = 2.0
_LOCK_HOLDER: Final = """
    SELECT max(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND (classid, objid) = (1702261620, 1)
      AND mode = 'ExclusiveLock' AND granted
"""
_SILENT: Final = b"""
    CREATE OR REPLACE FUNCTION evstore.wake_followers() RETURNS trigger
    LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'
"""
_TERMINATE: Final = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name LIKE %s AND datname = current_database()
"""


@dataclass
class ProxyWay:
    """A proxy between an instance and the server."""

    proxy: Proxy

    @property
    def place(self) -> Database:
        postgres = self.proxy.config.postgres
        return Database(
            host=postgres.host,
            port=postgres.port,
            user=postgres.user,
            db_name=postgres.db_name,
        )

    def forget(self) -> None:
        self.proxy.requests.clear()


@dataclass
class DatabaseVictims(Victims[ProxyWay]):
    """And the server with its disk."""

    server: EmbeddedServer
    config: Config
    disk: Disk | str


async def terminate_sessions(victims: DatabaseVictims) -> str:
    """End sessions at the server: those that write, listen or read, or all."""
    purpose = victims.chance.choice(["writer", "listener", "reader", ""])
    async with superuser(victims.config) as admin:
        ended = await value(admin, _TERMINATE, f"evstore {purpose}%")
    return f"{ended} sessions ({purpose or 'all'})"


async def kill_instance(victims: DatabaseVictims) -> str:
    """End an instance by SIGKILL."""
    instance = victims.an_instance()
    instance.kill()
    return instance.name


async def crash_server(victims: DatabaseVictims) -> str:
    """End all of the server's processes by SIGKILL, and start it again."""
    await to_thread.run_sync(victims.server.kill)
    down = victims.seconds(0.0, 0.5)
    await anyio.sleep(down)
    await to_thread.run_sync(victims.server.start)
    return f"down for {down:.1f} s"


async def stall_instance(victims: DatabaseVictims) -> str | None:
    """Stop an instance that holds the turn to append, for a while."""
    seconds = victims.stall_seconds()
    async with superuser(victims.config) as admin:
        with anyio.move_on_after(_SEARCH_SECONDS):
            while True:
                instance = victims.an_instance()
                await instance.opened()
                pid = instance.pid
                if pid is None:
                    continue
                async with stopped(pid, seconds):
                    # The turn comes to it, if it was waiting; and then stays.
                    await anyio.sleep(0.02)
                    holder = await value(admin, _LOCK_HOLDER)
                    await anyio.sleep(0.02)
                    if holder and holder == await value(admin, _LOCK_HOLDER):
                        await anyio.sleep(seconds)
                        return f"{instance.name} for {seconds:.1f} s"
                await anyio.sleep(0.01)
    return None


async def stall_server_process(victims: DatabaseVictims) -> str | None:
    """Stop the server's process that holds the turn to append, for a while."""
    seconds = victims.stall_seconds()
    async with superuser(victims.config) as admin:
        with anyio.move_on_after(_SEARCH_SECONDS):
            while True:
                holder = await value(admin, _LOCK_HOLDER)
                if holder is not None:
                    async with stopped(holder, seconds):
                        await anyio.sleep(seconds)
                        return f"process {holder} for {seconds:.1f} s"
    return None


async def drop_notifications(victims: DatabaseVictims) -> str:
    """Have the server notify nobody, for a while."""
    seconds = victims.seconds(0.4, 1.2)
    async with silence(victims.config):
        await anyio.sleep(seconds)
    return f"for {seconds:.1f} s"


@asynccontextmanager
async def silence(config: Config) -> AsyncGenerator[None]:
    """Have the server notify nobody of what is appended in the body.

    A writer still does so by itself where an append was slow.
    """
    async with superuser(config) as admin:
        definition = await value(
            admin, "SELECT pg_get_functiondef('evstore.wake_followers'::regproc)"
        )
        await admin.execute(_SILENT)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await admin.execute(definition.encode())


async def fill_disk(victims: DatabaseVictims) -> str:
    """Let the server's disk be full, for a while."""
    assert isinstance(victims.disk, Disk)
    seconds = victims.seconds(0.4, 1.2)
    victims.disk.fill()
    try:
        await anyio.sleep(seconds)
    finally:
        victims.disk.clear()
    if await _answers(victims.config):
        return f"for {seconds:.1f} s"
    # It stops where it can write no more of its own log.
    await to_thread.run_sync(victims.server.kill)
    await to_thread.run_sync(victims.server.start)
    return f"for {seconds:.1f} s; the server had to be started again"


async def cut_all(victims: DatabaseVictims) -> str:
    """Cut an instance off, on all of its connections."""
    instance = victims.an_instance()
    instance.way.proxy.cut_all()
    return instance.name


async def cut(fault: Fault, victims: DatabaseVictims) -> str | None:
    """Cut an instance off while it appends, before or after the server has got it."""
    proxy = victims.an_instance().way.proxy
    struck = proxy.once(fault, lambda request: request.is_append or request.is_commit)
    with anyio.move_on_after(_SEARCH_SECONDS):
        await struck.wait()
        await anyio.sleep(victims.seconds(0.0, 1.0) if fault in _HELD else 0.0)
    proxy.choose = lambda _: None
    proxy.release()
    return fault.value if struck.is_set() else None


_HELD: Final = {Fault.DELIVER_LATE, Fault.STALL, Fault.STALL_ANSWER}


def faults(victims: DatabaseVictims) -> dict[str, Strike]:
    """Return what can be done here, by name."""
    found: dict[str, Callable[[DatabaseVictims], Awaitable[str | None]]] = {
        "sessions terminated": terminate_sessions,
        "instance killed": kill_instance,
        "server killed": crash_server,
        "instance stopped in its turn": stall_instance,
        "server process stopped in a turn": stall_server_process,
        "notifications dropped": drop_notifications,
        "all connections cut": cut_all,
        "cut before the commit": partial(cut, Fault.CUT_BEFORE),
        "cut inside the append": partial(cut, Fault.CUT_INSIDE),
        "cut during the commit": partial(cut, Fault.CUT_AFTER),
        "cut after the commit": partial(cut, Fault.LOSE_ANSWER),
        "commit delivered late": partial(cut, Fault.DELIVER_LATE),
        "commit stalled": partial(cut, Fault.STALL),
    }
    if isinstance(victims.disk, Disk):
        found["disk full"] = fill_disk
    return {name: partial(strike, victims) for name, strike in found.items()}


async def _answers(config: Config) -> bool:
    """Whether the server answers, perhaps after a recovery of some seconds."""
    with anyio.move_on_after(5):
        while True:
            try:
                async with superuser(config) as admin:
                    return bool(await value(admin, "SELECT true"))
            except psycopg.Error:
                await anyio.sleep(0.1)
    return False
