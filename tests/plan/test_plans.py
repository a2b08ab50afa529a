"""The statements that are run all the time use their indexes, and look at little."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import psycopg
import pytest
from psycopg.rows import tuple_row

from events import START, History, create, key, update
from evstore.log import HeadMovedError, open_log
from evstore.log.contract import CHUNK_BYTES_MAX, CHUNK_EVENTS
from evstore.log.postgres import statements
from evstore.log.postgres.connections import parameters
from evstore.log.postgres.writer import READ_ON_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

pytestmark = pytest.mark.slow

PARTITION_SIZE = 8_000
RARE_TYPE = "Mesh"
RESOURCES = 200
VERSIONS = 100
EVENTS = RESOURCES * VERSIONS + 20
END = 2**63 - 1


@pytest.fixture(scope="module")
def history(config: Config) -> History:
    """Return a log of 20,000 events in three partitions, newest last.

    Each of 200 data planes has 100 versions; a mesh is created now and then.
    """
    made = anyio.run(fill, config)
    assert len(made.events) == EVENTS
    return made


async def fill(config: Config) -> History:
    async with open_log(config) as log:
        await log.connect()
        made = History(log.genesis)
        for version in range(VERSIONS):
            place = made.head
            changes = [
                update(key(f"n{number}"), {"v": version})
                if version
                else create(key(f"n{number}"), {"v": version})
                for number in range(RESOURCES)
            ]
            events = made.transaction(*changes)
            if version % 5 == 0:
                mesh = key(f"m{version}", RARE_TYPE, "")
                events += made.transaction(create(mesh))
            try:
                await log.append(events, after=place)
            except HeadMovedError:  # it has made the next partition meanwhile
                await log.append(events, after=place)
        return made


@pytest.fixture(scope="module")
def config(server: EmbeddedServer, migrated_template: str) -> Iterator[Config]:
    name = "plans"
    server.create_database(name, template=migrated_template)
    config = server.config(name)
    with connected(config) as connection:
        # The first partition holds more than this log will have.
        connection.execute("DROP TABLE evstore.events_0000000000000000001")
        connection.execute(
            "UPDATE evstore.log SET partition_size = %s", [PARTITION_SIZE]
        )
        connection.execute("SELECT evstore.ensure_partition()")
    yield config
    server.drop_database(name)


def connected(config: Config, session: bytes = b"") -> psycopg.Connection[Any]:
    connection = psycopg.connect(
        **parameters(config.postgres, purpose="plans"),
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
        row_factory=tuple_row,
    )
    if session:
        connection.execute(session)
    return connection


@pytest.fixture(params=["fresh", "analyzed"])
def statistics(
    request: pytest.FixtureRequest, config: Config, history: History
) -> History:
    """Return the history, once before and once after the server counted its rows."""
    if request.param == "analyzed":
        with connected(config) as connection:
            connection.execute("ANALYZE evstore.events")
    return history


@pytest.fixture
def writer(config: Config) -> Iterator[psycopg.Connection[Any]]:
    with connected(config, statements.SESSION_WRITER) as connection:
        yield connection


@pytest.fixture
def reader(config: Config) -> Iterator[psycopg.Connection[Any]]:
    with connected(config, statements.SESSION_READER) as connection:
        yield connection


class Plan:
    """How the server ran a statement."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.nodes = list(self._walk(root))

    def _walk(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for inner in node.get("Plans", ()):
            yield from self._walk(inner)

    @property
    def scans(self) -> list[dict[str, Any]]:
        """The scans of events that were run."""
        return [
            node
            for node in self.nodes
            if str(node.get("Relation Name", "")).startswith("events")
            and node["Node Type"] != "ModifyTable"
            and node["Actual Loops"]
        ]

    @property
    def looked_at(self) -> int:
        """How many rows of the log were looked at, whether they were wanted or not."""
        return sum(
            round(
                (
                    node["Actual Rows"]
                    + node.get("Rows Removed by Filter", 0)
                    + node.get("Rows Removed by Index Recheck", 0)
                )
                * node["Actual Loops"]
            )
            for node in self.scans
        )

    def assert_indexed(self, *endings: str) -> None:
        """Assert that events are found by these indexes alone."""
        assert self.scans
        for node in self.scans:
            assert node["Node Type"] in ("Index Scan", "Index Only Scan"), node
            assert node["Index Name"].endswith(endings), node["Index Name"]

    def assert_in_order(self) -> None:
        """Assert that rows come in order from the index, and are not sorted."""
        kinds = {node["Node Type"] for node in self.nodes}
        assert not kinds & {"Sort", "Incremental Sort"}


BY_POSITION = "_pkey"
BY_KEY = "_type_mesh_name_position_idx"


def plan(
    connection: psycopg.Connection[Any], statement: bytes, binds: dict[str, Any]
) -> Plan:
    """Prepare a statement as the driver does, run it, and return how it was run."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)[sb]", numbered, statement.decode()).replace("%%", "%")
    name = f"q{uuid4().hex}"
    connection.execute(f"PREPARE {name} AS {text}".encode())
    places = f"({', '.join(['%s'] * len(names))})" if names else ""
    row = connection.execute(
        f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {name}{places}".encode(),
        [binds[name] for name in names],
    ).fetchone()
    assert row is not None
    return Plan(row[0][0]["Plan"])


def after(history: History, position: int) -> dict[str, Any]:
    return {
        "after": position,
        "hash": history.events[position - 1].hash,
        "identity": uuid4(),
    }


def test_the_log_is_in_several_partitions(config: Config, history: History) -> None:
    with connected(config) as connection:
        row = connection.execute(
            "SELECT count(DISTINCT tableoid), count(*) FROM evstore.events"
        ).fetchone()
    assert row == (3, len(history.events))


def test_an_append_finds_its_predecessor_by_position(
    writer: psycopg.Connection[Any], statistics: History
) -> None:
    columns: dict[str, Any] = {
        "commits": [EVENTS + 1],
        "times": [START],
        "txs": [uuid4().bytes],
        "schema_versions": [1],
        "actors": ["a"],
        "operations": ["created"],
        "types": ["Mesh"],
        "meshes": [""],
        "names": ["new"],
        "salts": [bytes(16)],
        "hashes": [bytes(32)],
        "metadatas": ["{}"],
        "bodies": ["{}"],
    }
    binds = {"last_time": START, "notify": "off", "in_turn": False, **columns}
    with writer.transaction(force_rollback=True):
        found = plan(writer, statements.APPEND, {**after(statistics, EVENTS), **binds})
    found.assert_indexed(BY_POSITION)
    assert found.looked_at == 2  # for its hash, and for its time


@pytest.mark.parametrize("position", [1, 7_999, 8_000, 12_345, EVENTS - 1, EVENTS])
def test_reading_on_looks_at_what_it_returns(
    writer: psycopg.Connection[Any], statistics: History, position: int
) -> None:
    binds = {**after(statistics, position), "count": READ_ON_EVENTS}
    binds["bytes"] = CHUNK_BYTES_MAX
    found = plan(writer, statements.READ_ON, binds)
    found.assert_indexed(BY_POSITION)
    found.assert_in_order()
    following = min(EVENTS - position, READ_ON_EVENTS + RESOURCES)
    assert found.looked_at <= 2 * following + 3


@pytest.mark.parametrize("tail", [0, 100])
def test_keeping_a_snapshot_looks_at_the_events_after_it(
    reader: psycopg.Connection[Any], statistics: History, tail: int
) -> None:
    row = reader.execute(b"SELECT id FROM evstore.log").fetchone()
    assert row is not None
    event = statistics.events[EVENTS - tail - 1]
    digests = dict.fromkeys(("digest", "checksum"), bytes(32))
    labels = {"projection": "resources", "version": 1, "fingerprint": ""}
    counts = {"chunks": 0, "size": 0, "code_version": "", "id": uuid4(), "log": row[0]}
    place = {"position": event.position, "hash": event.hash, "time": event.time}
    with reader.transaction(force_rollback=True):
        binds = {**digests, **labels, **counts, **place}
        found = plan(reader, statements.SNAPSHOT_KEEP, binds)
    found.assert_indexed(BY_POSITION)
    assert found.looked_at == tail + 1


def test_the_head_is_one_row(
    reader: psycopg.Connection[Any], statistics: History
) -> None:
    del statistics
    found = plan(reader, statements.HEAD, {})
    found.assert_indexed(BY_POSITION)
    found.assert_in_order()
    assert found.looked_at == 1


@pytest.mark.parametrize("position", [1, 12_345, EVENTS, EVENTS + 1, 10**12])
def test_a_place_is_one_row(
    reader: psycopg.Connection[Any], statistics: History, position: int
) -> None:
    del statistics
    found = plan(reader, statements.PLACE, {"position": position})
    if position < 10**12:  # there is no partition to look into
        found.assert_indexed(BY_POSITION)
    assert found.looked_at <= 1


@pytest.mark.parametrize("position", [1, 12_345, EVENTS])
def test_the_end_of_a_transaction_is_two_rows(
    reader: psycopg.Connection[Any], statistics: History, position: int
) -> None:
    del statistics
    found = plan(reader, statements.COMMIT_OF, {"position": position})
    found.assert_indexed(BY_POSITION)
    assert found.looked_at == 2


@pytest.mark.parametrize("before", [2, 10_000, EVENTS + 1])
def test_what_was_there_before_is_a_probe_for_each_key(
    reader: psycopg.Connection[Any], statistics: History, before: int
) -> None:
    del statistics
    names = [f"n{number}" for number in range(0, RESOURCES, 2)]
    binds = {
        "types": ["Dataplane"] * len(names),
        "meshes": ["default"] * len(names),
        "names": names,
        "bounds": [before] * len(names),
    }
    found = plan(reader, statements.PREVIOUS, binds)
    found.assert_indexed(BY_KEY)
    # Not of 100 versions each: one, in the partition that has it.
    assert found.looked_at <= len(names)


@pytest.mark.parametrize("index", [0, 1, 9_999, EVENTS - 1])
def test_a_time_is_found_by_halving(
    reader: psycopg.Connection[Any], statistics: History, index: int
) -> None:
    time = statistics.events[index].time
    found = plan(reader, statements.LOCATE, {"time": time})
    found.assert_indexed(BY_POSITION)
    assert found.looked_at <= 2 * EVENTS.bit_length() + 4


def test_a_replay_looks_at_each_event_for_its_size_and_for_its_content(
    reader: psycopg.Connection[Any], statistics: History
) -> None:
    del statistics
    text = statements.REPLAY.format(
        after=0, until=EVENTS, count=CHUNK_EVENTS, bytes=CHUNK_BYTES_MAX
    )
    found = plan(reader, text.encode(), {})
    found.assert_indexed(BY_POSITION)
    assert found.looked_at <= 2 * EVENTS


def reading(**where: Any) -> dict[str, Any]:
    filters = ("type", "mesh", "name", "actor", "operation", "reason")
    binds = dict.fromkeys(filters)
    bounds = {"after": 0, "until": END, "count": CHUNK_EVENTS, "bytes": CHUNK_BYTES_MAX}
    return {**binds, **bounds, **where}


@pytest.mark.parametrize("statement", ["READ", "READ_BACK"])
def test_reading_everything_looks_at_one_chunk(
    reader: psycopg.Connection[Any], statistics: History, statement: str
) -> None:
    del statistics
    binds = reading(after=1_000, until=19_000)
    found = plan(reader, getattr(statements, statement), binds)
    found.assert_indexed(BY_POSITION)
    assert found.looked_at <= CHUNK_EVENTS + 3


@pytest.mark.parametrize("statement", ["READ", "READ_BACK"])
@pytest.mark.parametrize("until", [END, 15_000])
def test_the_history_of_one_key_looks_at_that_key(
    reader: psycopg.Connection[Any], statistics: History, statement: str, until: int
) -> None:
    del statistics
    binds = reading(type="Dataplane", mesh="default", name="n7", until=until)
    found = plan(reader, getattr(statements, statement), binds)
    found.assert_indexed(BY_KEY)
    assert found.looked_at <= VERSIONS


@pytest.mark.parametrize("statement", ["READ", "READ_BACK"])
def test_the_history_of_a_rare_type_looks_at_that_type(
    reader: psycopg.Connection[Any], statistics: History, statement: str
) -> None:
    del statistics
    found = plan(reader, getattr(statements, statement), reading(type=RARE_TYPE))
    found.assert_indexed(BY_KEY)
    assert found.looked_at <= 20


@pytest.mark.parametrize("statement", ["READ", "READ_BACK"])
def test_the_history_of_a_common_type_is_read_in_order_of_position(
    reader: psycopg.Connection[Any], config: Config, history: History, statement: str
) -> None:
    del history
    with connected(config) as connection:
        connection.execute("ANALYZE evstore.events")
    found = plan(reader, getattr(statements, statement), reading(type="Dataplane"))
    found.assert_indexed(BY_POSITION)
    assert found.looked_at <= CHUNK_EVENTS + 20


@pytest.mark.parametrize("until", [1, 10_000, EVENTS])
def test_one_resource_as_it_was_is_two_probes(
    reader: psycopg.Connection[Any], statistics: History, until: int
) -> None:
    del statistics
    where = {"type": "Dataplane", "mesh": "default", "name": "n7"}
    found = plan(reader, statements.LATEST, {**where, "until": until})
    found.assert_indexed(BY_KEY)
    assert found.looked_at <= 8


@pytest.mark.parametrize("until", [1, 10_000, EVENTS])
@pytest.mark.parametrize("mesh", [None, "default"])
def test_a_type_as_it_was_is_some_probes_for_each_key(
    reader: psycopg.Connection[Any], statistics: History, until: int, mesh: str | None
) -> None:
    del statistics
    where = {"type": "Dataplane", "mesh": mesh, "name": None}
    found = plan(reader, statements.LATEST, {**where, "until": until})
    found.assert_indexed(BY_KEY)
    assert found.looked_at <= 8 * (RESOURCES + 1)
