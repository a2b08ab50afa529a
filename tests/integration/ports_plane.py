"""A control plane whose projections the command folds, and a log for it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg

import evstore
from command import Command
from evstore.cli.input.app import load_app
from evstore.log import open_log
from evstore.maintenance.programs import Program
from evstore.snapshots.content import folds_of
from evstore.snapshots.taking import take
from fault.history import adjusted

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from evstore import Config

PLANE: Final = """\
import evstore

class Ports(evstore.Projection[dict[str, list[int]]]):
    name = "ports"

    def initial(self):
        return {}

    def fold(self, state, event):
        if event.spec is not None and event.type == "Dataplane":
            state.setdefault(event.name, []).append(event.spec["port"])
        return state

class Touchy(evstore.Projection[int]):
    name = "touchy"

    def initial(self):
        return 0

    def fold(self, state, event):
        if event.name == "odd":
            raise ValueError("an odd one")
        return state + 1

class Odd(evstore.Projection[int]):
    name = "odd"

    def initial(self):
        return 0

    def fold(self, state, event):
        return str(event.position)

class NewPorts(Ports):
    version = 2

    def fold(self, state, event):
        if event.name == "db":
            return state
        return super().fold(state, event)

class Stopping(Ports):
    version = 3

    def fold(self, state, event):
        if event.name == "db":
            raise ValueError("no databases")
        return super().fold(state, event)

@evstore.upcaster("Dataplane", from_version=1)
def dataplane_2(body):
    body["spec"]["address"] = body["spec"].pop("host")
    return body

@evstore.upcaster("Secret", from_version=1)
def secret_2(body):
    body["spec"]["text"] = body["spec"].pop("data")
    return body

def now():
    return evstore.App(projections=[Ports(), Touchy()])

def mistyped():
    return evstore.App(projections=[Odd()])

def new():
    return evstore.App(projections=[NewPorts(), Touchy()])

def stopping():
    return evstore.App(projections=[Stopping()])

def current():
    return evstore.App(upcasters=[dataplane_2, secret_2])

def unchained():
    return evstore.App(types=[evstore.Schema("Dataplane", version=2)])

def wrong():
    return evstore.App(projections=[Ports])
"""
NOW: Final = ("--app", "plane_of_cmd:now")


@contextmanager
def planned(config: Config, folder: Path) -> Generator[Command]:
    """Give the command in a folder with a control plane, which is imported anew."""
    found = Command(config, folder)
    found.write("plane_of_cmd.py", PLANE)
    path = list(sys.path)
    try:
        yield found
    finally:
        sys.path[:] = path
        sys.modules.pop("plane_of_cmd", None)


def app_of(command: Command, factory: str) -> evstore.App:
    """Return what a factory of the control plane returns."""
    sys.path.insert(0, str(command.folder))
    return load_app(f"plane_of_cmd:{factory}")


async def fill(config: Config) -> None:
    """Append events: 1 web, 2 db, 3 web again, 4 a secret, 5 an odd one."""
    async with evstore.open(adjusted(config, heartbeat_interval=0)) as store:
        web = await store.create(
            "Dataplane", "web", mesh="m", spec={"port": 1, "host": "a"}
        )
        await store.create("Dataplane", "db", mesh="m", spec={"port": 2, "host": "b"})
        await store.update(web, spec={"port": 3, "host": "a"})
        await store.create("Secret", "key", mesh="m", spec={"data": "hunter2"})
        await store.create("Mesh", "odd", spec={})


async def store_snapshots(config: Config, app: evstore.App | None) -> None:
    """Keep what the code of an app makes of the log."""
    async with open_log(config) as log:
        await log.connect()
        origin = Program(app).begins(log)
        for fold in folds_of(await origin.state()):
            await take(log, fold, fingerprint=origin.fingerprint, code_version="test")


def tables(config: Config) -> dict[str, list[Any]]:
    """Return all that is in the tables of the database."""
    where = config.postgres
    with psycopg.connect(
        host=where.host,
        port=where.port,
        user=where.user,
        password=where.password,
        dbname=where.db_name,
    ) as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = 'evstore'"
        ).fetchall()
        return {
            name: connection.execute(
                f'SELECT t::text FROM evstore."{name}" t ORDER BY 1'  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            ).fetchall()
            for (name,) in names
        }
