"""What is done to the instances, the server and the wires between them."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Final

import anyio
import psycopg
from anyio import to_thread

from fault.history import superuser, value
from fault.proxy import Fault

from .disk import Disk

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

    from .instances import Instance

    # Says to whom, and for how long; None where it found nobody to strike.
    Strike = Callable[["Victims"], Awaitable[str | None]]

_SEARCH_SECONDS: Final = 2.0
_LONG_STALLS: Final = 0.15
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
class Victims:
    """All that can be hurt, and the dice."""

    server: EmbeddedServer
    config: Config
    instances: list[Instance]
    disk: Disk | str
    chance: random.Random
    stall_seconds_max: float

    def an_instance(self) -> Instance:
        return self.chance.choice(self.instances)

    def seconds(self, least: float, most: float) -> float:
        return self.chance.uniform(least, most)


async def terminate_sessions(victims: Victims) -> str:
    """End sessions at the server: those that write, listen or read, or all."""
    purpose = victims.chance.choice(["writer", "listener", "reader", ""])
    async with superuser(victims.config) as admin:
        ended = await value(admin, _TERMINATE, f"evstore {purpose}%")
    return f"{ended} sessions ({purpose or 'all'})"


async def kill_instance(victims: Victims) -> str:
    """End an instance by SIGKILL."""
    instance = victims.an_instance()
    instance.kill()
    return instance.name


async def crash_server(victims: Victims) -> str:
    """End all of the server's processes by SIGKILL, and start it again."""
    await to_thread.run_sync(victims.server.kill)
    down = victims.seconds(0.0, 0.5)
    await anyio.sleep(down)
    await to_thread.run_sync(victims.server.start)
    return f"down for {down:.1f} s"


async def stall_instance(victims: Victims) -> str | None:
    """Stop an instance that holds the turn to append, for a while."""
    seconds = _stall_seconds(victims)
    async with superuser(victims.config) as admin:
        with anyio.move_on_after(_SEARCH_SECONDS):
            while True:
                instance = victims.an_instance()
                await instance.opened()
                pid = instance.pid
                if pid is None:
                    continue
                async with _stopped(pid, seconds):
                    # The turn comes to it, if it was waiting; and then stays.
                    await anyio.sleep(0.02)
                    holder = await value(admin, _LOCK_HOLDER)
                    await anyio.sleep(0.02)
                    if holder and holder == await value(admin, _LOCK_HOLDER):
                        await anyio.sleep(seconds)
                        return f"{instance.name} for {seconds:.1f} s"
                await anyio.sleep(0.01)
    return None


async def stall_server_process(victims: Victims) -> str | None:
    """Stop the server's process that holds the turn to append, for a while."""
    seconds = _stall_seconds(victims)
    async with superuser(victims.config) as admin:
        with anyio.move_on_after(_SEARCH_SECONDS):
            while True:
                holder = await value(admin, _LOCK_HOLDER)
                if holder is not None:
                    async with _stopped(holder, seconds):
                        await anyio.sleep(seconds)
                        return f"process {holder} for {seconds:.1f} s"
    return None


def _stall_seconds(victims: Victims) -> float:
    """Return how long to stall: mostly short, seldom as long as may be."""
    if victims.chance.random() < _LONG_STALLS:
        return victims.stall_seconds_max
    return victims.seconds(0.2, 1.0)


async def drop_notifications(victims: Victims) -> str:
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


async def fill_disk(victims: Victims) -> str:
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


async def cut_all(victims: Victims) -> str:
    """Cut an instance off, on all of its connections."""
    instance = victims.an_instance()
    instance.proxy.cut_all()
    return instance.name


async def cut(fault: Fault, victims: Victims) -> str | None:
    """Cut an instance off while it appends, before or after the server has got it."""
    proxy = victims.an_instance().proxy
    struck = proxy.once(fault, lambda request: request.is_append or request.is_commit)
    with anyio.move_on_after(_SEARCH_SECONDS):
        await struck.wait()
        await anyio.sleep(victims.seconds(0.0, 1.0) if fault in _HELD else 0.0)
    proxy.choose = lambda _: None
    proxy.release()
    return fault.value if struck.is_set() else None


_HELD: Final = {Fault.DELIVER_LATE, Fault.STALL, Fault.STALL_ANSWER}


def faults(victims: Victims) -> dict[str, Strike]:
    """Return what can be done here, by name."""
    found: dict[str, Strike] = {
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
    return found


@asynccontextmanager
async def _stopped(pid: int, seconds: float) -> AsyncGenerator[None]:
    """Stop a process, and let it go on for certain, whatever becomes of us."""
    script = f"sleep {seconds + 2}; kill -CONT {pid}"
    guard = await anyio.open_process(
        ["/bin/sh", "-c", script], stdin=DEVNULL, start_new_session=True
    )
    try:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            await guard.aclose()


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
