"""`evstore projection`: what stands, what is wrong and by which event, and what-if."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio
import jsonpatch
import psycopg
import pytest

import evstore
from command import Command
from evstore.codec import canonical
from evstore.folds import resources
from evstore.folds.resources import fold as fold_rightly
from evstore.log import Instance, open_log
from evstore.maintenance.programs import Program
from evstore.snapshots.content import folds_of
from evstore.snapshots.taking import take
from fault.history import adjusted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evstore import Config
    from evstore.model import Record, StoredEvent

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


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Iterator[Command]:
    """Return the command in a folder with a control plane, which is imported anew."""
    found = Command(postgres_config, tmp_path)
    found.write("plane_of_cmd.py", PLANE)
    path = list(sys.path)
    yield found
    sys.path[:] = path
    sys.modules.pop("plane_of_cmd", None)


def app_of(command: Command, factory: str) -> evstore.App:
    from evstore.cli.input.app import load_app  # noqa: PLC0415

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


@pytest.fixture
def filled(postgres_config: Config) -> Config:
    anyio.run(fill, postgres_config)
    return postgres_config


# Status.


def test_status_says_how_each_stands(command: Command, filled: Config) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    (found,) = command("projection", "status", *NOW, "-o", "json").documents
    by_name = {each["name"]: each for each in found["projections"]}
    assert found["head"] == 5
    assert list(by_name) == ["resources", "ports", "touchy"]
    for name in ("resources", "ports"):
        one = by_name[name]
        assert (one["stored"], one["behind"], one["position"]) == (5, 0, 5)
        assert len(bytes.fromhex(one["digest"])) == 32
        assert one["stopped"] is None
    touchy = by_name["touchy"]
    assert (touchy["stored"], touchy["behind"], touchy["position"]) == (None, 5, 4)
    assert touchy["digest"] is None
    assert touchy["stopped"] == {"position": 5, "cause": "ValueError: an odd one"}

    done = command("projection", "status", *NOW)
    assert done.code == 0
    assert "stopped at 5: ValueError: an odd one" in done.out
    assert "runs at 5" in done.out
    yaml = command("projection", "status", *NOW, "-o", "yaml").out
    assert "name: touchy" in yaml


@pytest.mark.usefixtures("filled")
def test_a_traceback_of_a_fold_is_for_debugging(command: Command) -> None:
    done = command.process("projection", "status", *NOW)
    assert (done.code, done.err) == (0, "")
    done = command.process("--debug", "projection", "status", *NOW)
    assert done.code == 0
    assert "Traceback" in done.err
    assert 'raise ValueError("an odd one")' in done.err


def test_status_says_which_instances_run_what(command: Command, filled: Config) -> None:
    async def work() -> None:
        app = app_of(command, "now")
        async with (
            evstore.open(filled, projections=app.projections) as old,
            evstore.open(filled) as bare,
        ):
            await old.create("Mesh", "late", spec={})
            with anyio.fail_after(10):
                for store in (old, bare):
                    await store._vitals._presence.stand(uuid4(), 60)
            (found,) = (
                await anyio.to_thread.run_sync(
                    lambda: command("projection", "status", *NOW, "-o", "json")
                )
            ).documents
            ids = {str(old._vitals._presence.id), str(bare._vitals._presence.id)}
        by_name = {each["name"]: each for each in found["projections"]}
        assert {*by_name["resources"]["instances"]} == ids
        assert by_name["ports"]["instances"] == [str(old._vitals._presence.id)]
        assert {each["id"] for each in found["instances"]} == ids

    anyio.run(work)


def test_an_empty_log_and_one_in_memory_say_so(
    command: Command, tmp_path: Path
) -> None:
    (found,) = command("projection", "status", *NOW, "-o", "json").documents
    assert found["head"] == 0
    assert all(each["stored"] is None for each in found["projections"])
    assert command("projection", "verify", *NOW).code == 0

    memory = Command(None, tmp_path)
    done = memory("projection", "status", *NOW, "-o", "json")
    assert "store.type is memory: the store begins empty" in done.err
    assert done.documents[0]["instances"] == []
    done = memory("projection", "verify", *NOW)
    assert (done.code, "none has recorded a digest" in done.out) == (0, True)
    done = memory("projection", "diff", "ports", "--app", "plane_of_cmd:new")
    assert (done.code, done.out) == (1, "")
    assert "there is no snapshot of ports to compare with" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "prots", *NOW), "there is no projection 'prots'; there are: res"),
        (("verify", "ports"), "--app names those of a control plane"),
        (
            ("verify", "--app", "plane_of_cmd:nowhere"),
            "module plane_of_cmd has no nowhere",
        ),
        (("verify", "--app", "plane_of_cmd:wrong"), "Ports is a class"),
        (("status", "--app", "plane_of_cmd:wrong"), "Ports is a class"),
        (("status", "--app", "plane_of_cmd:unchained"), "from schema version 1"),
        (("status", "--app", "plain:now"), "there is no module plain"),
        (("diff", "ports"), "name the new code: --app module:factory"),
        (("diff", "prots", *NOW), "there is no projection 'prots'"),
        (
            ("diff", "ports", *NOW, "--against", "plane_of_cmd:nowhere"),
            "--against plane_of_cmd:nowhere: module plane_of_cmd has no nowhere",
        ),
        (
            ("diff", "ports", *NOW, "--against", "plane_of_cmd:current"),
            "--against: there is no projection 'ports'",
        ),
    ],
)
def test_what_is_mistyped_is_told(
    command: Command, words: tuple[str, ...], said: str
) -> None:
    done = command("projection", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


# Verify.


def test_what_is_right_verifies(command: Command, filled: Config) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    done = command("projection", "verify", *NOW)
    assert (done.code, done.err.count("error")) == (0, done.err.count("stopped at"))
    (found,) = command("projection", "verify", *NOW, "-o", "json").documents
    assert found["ok"]
    assert [each["equal"] for each in found["projections"]] == [True] * 3
    assert found["projections"][0]["stored"] == 5
    (found,) = command("projection", "verify", "ports", *NOW, "-o", "json").documents
    assert [each["name"] for each in found["projections"]] == ["ports"]


def test_a_resource_that_a_start_has_wrong_is_named(
    command: Command, filled: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(previous: Record | None, event: StoredEvent) -> Record | None:
        """Do as the rule does, but for one update."""
        return previous if event.position == 3 else fold_rightly(previous, event)

    monkeypatch.setattr(resources, "fold", forgetful)
    anyio.run(store_snapshots, filled, None)
    monkeypatch.undo()
    before = tables(filled)
    done = command("projection", "verify")
    assert done.code == 1
    assert (
        "resources: a start comes to another state at position 5 than the log; the first"
        " that differs is Dataplane/m/web, which the event at position 3 should have set"
    ) in done.err
    (found,) = command("projection", "verify", "-o", "json").documents
    assert found["discrepancies"] == [
        {
            "projection": "resources",
            "position": 5,
            "instance": None,
            "what": "Dataplane/m/web",
            "event": 3,
        }
    ]
    assert tables(filled) == before


def test_a_body_that_no_digest_covers_is_compared_as_well(
    command: Command, filled: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With upcasters the digest is about what is stored, and not about what they make.
    app = app_of(command, "current")
    monkeypatch.setattr(
        "evstore.schemas.declared.step",
        lambda _link, body, *_: canonical({**body, "owner": None}, ""),
    )
    anyio.run(store_snapshots, filled, app)
    monkeypatch.undo()
    done = command("projection", "verify", "--app", "plane_of_cmd:current")
    assert done.code == 1
    assert "the first that differs is Dataplane/m/db" in done.err
    assert "which the event at position 2 should have set" in done.err


def test_a_member_that_a_start_has_wrong_is_named(
    command: Command, filled: Config
) -> None:
    app = app_of(command, "now")
    ports: Any = type(app.projections[0])
    rightly = ports.fold

    def forgetful(self: Any, state: Any, event: Any) -> Any:
        return state if event.position == 3 else rightly(self, state, event)

    ports.fold = forgetful
    anyio.run(store_snapshots, filled, app)
    ports.fold = rightly
    done = command("projection", "verify", *NOW)
    assert done.code == 1
    assert "the first that differs is /web/1, which the event at position 3" in done.err

    def eager(self: Any, state: Any, event: Any) -> Any:
        return {**rightly(self, state, event), "more": [event.position]}

    ports.fold = eager
    sys.modules["plane_of_cmd"].__dict__["Ports"].version = 7
    anyio.run(store_snapshots, filled, app)
    ports.fold = rightly
    done = command("projection", "verify", "ports", *NOW)
    assert done.code == 1
    assert (
        "the first that differs is /more/0; which event should have set it" in done.err
    )


def test_digests_of_instances_are_compared_where_the_replay_passes(
    command: Command, filled: Config
) -> None:
    async def digest_without(position: int) -> bytes:
        """Return the digest at position 4 of an instance that has missed an event."""
        async with open_log(filled) as log:
            origin = Program(None).begins(log)
            projections = origin.fresh()
            async for chunk in log.replay(after=0, until=4):
                projections.resources.apply(
                    [event for event in chunk if event.position != position]
                )
            return projections.resources.digest()

    async def work() -> list[Instance]:
        right = await digest_without(99)
        missed = await digest_without(3)
        beats = [
            Instance(id=uuid4(), position=4, digest=digest, code_version="test")
            for digest in (right, missed, b"x" * 32)
        ]
        other = Instance(
            id=uuid4(),
            position=4,
            digest=b"y" * 32,
            code_version="test",
            projections=("resources:99:",),
        )
        async with open_log(filled) as log:
            for each in (*beats, other):
                await log.beat(each)
        return beats

    right, missed, odd = anyio.run(work)
    done = command("projection", "verify", "-o", "json")
    (found,) = done.documents
    assert {*found["compared"]} == {str(each.id) for each in (right, missed, odd)}
    told = {each["instance"]: each for each in found["discrepancies"]}
    assert told.keys() == {str(missed.id), str(odd.id)}
    assert (told[str(missed.id)]["what"], told[str(missed.id)]["event"]) == (
        "Dataplane/m/web",
        3,
    )
    assert (told[str(odd.id)]["what"], told[str(odd.id)]["event"]) == (None, None)
    assert done.code == 1
    assert "what differs cannot be told from the digest" in done.err
    assert (
        "3 of running instances: 1 equal, 2 different"
        in command("projection", "verify").out
    )
    # Of other projections heartbeats tell nothing.
    assert command("projection", "verify", "ports", *NOW).code == 0


def test_one_that_stops_only_after_a_start_is_told(
    command: Command, filled: Config
) -> None:
    app = app_of(command, "now")
    touchy: Any = type(app.projections[1])
    rightly = touchy.fold
    touchy.fold = lambda _self, state, _event: state + 1
    anyio.run(store_snapshots, filled, app)
    touchy.fold = rightly
    done = command("projection", "verify", "touchy", *NOW)
    assert done.code == 1
    assert "the first that differs is whether it runs" in done.err
    assert "the event at position 5" in done.err


# Diff.


def test_a_new_version_is_compared_with_the_newest_snapshot_of_another(
    command: Command, filled: Config
) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))

    async def more() -> None:
        async with evstore.open(filled) as store:
            await store.create("Dataplane", "new", mesh="m", spec={"port": 9})

    anyio.run(more)
    before = tables(filled)
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new")
    done = command(*words, "-o", "json")
    assert (done.code, done.err) == (0, "")
    (found,) = done.documents
    assert (found["before"], found["after"]) == ("ports:1:", "ports:2:")
    assert found["position"] == 5
    old = {"db": [2], "web": [1, 3]}
    assert jsonpatch.apply_patch(old, found["patch"]) == {"web": [1, 3]}
    assert found["changes"] == [{"path": "/db/0", "old": 2}]

    table = command(*words)
    assert table.code == 0
    assert table.out.splitlines() == ["CHANGE", "ports", "  -db[0]"]
    assert "this differs between ports:1: and ports:2: at position 5" in table.err
    assert "-db[0]: 2" not in table.out
    assert "-db[0]: 2" in command(*words, "--show-secrets").out
    assert "name: db" not in command(*words, "-o", "yaml").out
    assert tables(filled) == before


def test_code_is_compared_with_code_at_any_position(
    command: Command, filled: Config
) -> None:
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new")
    before = tables(filled)
    done = command(*words)
    assert (done.code, done.out) == (1, "")
    assert "there is no snapshot of ports to compare with" in done.err
    against = (*words, "--against", "plane_of_cmd:now")
    (found,) = command(*against, "-o", "json").documents
    assert (found["position"], found["changes"]) == (5, [{"path": "/db/0", "old": 2}])
    done = command(*against, "--at", "1")
    assert (done.code, done.out) == (0, "")
    assert "nothing differs between ports:1: and ports:2: at position 1" in done.err
    done = command(*against, "--at", "99")
    assert (done.code, done.out) == (1, "")
    assert "beyond the head" in done.err
    assert tables(filled) == before


def test_a_position_without_a_snapshot_is_told(
    command: Command, filled: Config
) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new", "--at")
    assert command(*words, "5").code == 0
    done = command(*words, "3")
    assert done.code == 1
    assert "no snapshot of ports at position 3" in done.err
    assert "there are some at 5" in done.err


def test_a_forgotten_version_shows_against_its_own_snapshot(
    command: Command, filled: Config
) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    new: Any = sys.modules["plane_of_cmd"].__dict__["NewPorts"]
    new.version = 1
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new", "-o", "json")
    (found,) = command(*words).documents
    assert (found["before"], found["after"]) == ("ports:1:", "ports:1:")
    assert found["changes"] == [{"path": "/db/0", "old": 2}]


def test_new_code_that_stops_is_told(command: Command, filled: Config) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:stopping")
    done = command(*words)
    assert (done.code, done.out) == (1, "")
    assert "error: ports:3: stops at position 2: ValueError: no databases" in done.err
    (found,) = command(*words, "-o", "json").documents
    assert found["after_stopped"]["position"] == 2
    assert (found["changes"], found["patch"]) == ([], [])


def test_resources_are_compared_with_what_is_stored(
    command: Command, filled: Config
) -> None:
    words = ("projection", "diff", "resources", "--app", "plane_of_cmd:current")
    label = Program(app_of(command, "current")).codes[0].label
    before = tables(filled)
    found = {each["name"]: each for each in command(*words, "-o", "json").documents}
    assert list(found) == ["db", "web", "key"]
    web = found["web"]
    assert (web["before_version"], web["after_version"]) == (3, 3)
    content = {"spec": {"port": 3, "host": "a"}}
    assert jsonpatch.apply_patch(content, web["patch"]) == {
        "spec": {"port": 3, "address": "a"}
    }
    table = command(*words)
    assert table.code == 0
    assert table.err == (f"this differs between as stored and {label} at position 5\n")
    assert "hunter2" not in table.out
    assert "+spec.address:" in table.out
    assert "hunter2" in command(*words, "--show-secrets").out
    assert tables(filled) == before

    # What other upcasters have made is in their snapshots.
    anyio.run(store_snapshots, filled, app_of(command, "current"))
    done = command("projection", "diff", "resources", *NOW, "-o", "json")
    assert len(done.documents) == 3
    back = {each["name"]: each for each in done.documents}["web"]
    assert jsonpatch.apply_patch(
        {"spec": {"port": 3, "address": "a"}}, back["patch"]
    ) == {"spec": {"port": 3, "host": "a"}}
    done = command(*words, "--against", "plane_of_cmd:current")
    assert (done.code, done.out) == (0, "")
    assert "nothing differs" in done.err
