"""`evstore import --from-kuma`: what a Kuma database holds becomes a log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from command import Command
from fault.history import connected

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config

# As Kuma's migrations leave it, and as they had left it before labels and status.
TABLE: Final = """
    CREATE TABLE resources (
        name varchar(253) NOT NULL,
        mesh varchar(100) NOT NULL,
        type varchar(100) NOT NULL,
        version integer NOT NULL,
        spec text,
        creation_time timestamp NOT NULL DEFAULT now(),
        modification_time timestamp NOT NULL DEFAULT now(),
        owner_name varchar(100), owner_mesh varchar(100), owner_type varchar(100),
        {more}
        PRIMARY KEY (name, mesh, type),
        FOREIGN KEY (owner_name, owner_mesh, owner_type)
            REFERENCES resources (name, mesh, type) ON DELETE CASCADE
    )
"""
LATER: Final = "labels jsonb DEFAULT '{}', status jsonb DEFAULT '{}',"

MESH: Final = {
    "type": "Mesh",
    "mesh": "",
    "name": "default",
    "version": 3,
    "spec": '{"mtls":{"enabledBackend":"ca-1"}}',
    "creation_time": "2023-05-01T10:00:00.000001",
    "modification_time": "2024-06-01T12:00:00",
}
DATAPLANE: Final = {
    "type": "Dataplane",
    "mesh": "default",
    "name": "web-1",
    "version": 0,
    "spec": '{"networking":{"address":"10.0.0.1","big":18446744073709551615}}',
    "creation_time": "2023-05-02T10:00:00",
    "modification_time": "2023-05-02T10:00:00",
    "owner_type": "Mesh",
    "owner_mesh": "",
    "owner_name": "default",
}
INSIGHT: Final = {
    "type": "DataplaneInsight",
    "mesh": "default",
    "name": "web-1",
    "version": 41,
    "spec": "",
    # Before what owns it: clocks of control planes differ.
    "creation_time": "2023-05-02T09:59:59",
    "modification_time": "2023-05-03T10:00:00",
    "owner_type": "Dataplane",
    "owner_mesh": "default",
    "owner_name": "web-1",
}
SERVICE: Final = {
    **DATAPLANE,
    "type": "MeshService",
    "name": "backend.ns",
    "labels": {"kuma.io/zone": "zü"},
    "status": {"vips": [{"ip": "240.0.0.1"}]},
}


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


@pytest.fixture
def kuma(unmigrated_config: Config, tmp_path: Path) -> Config:
    """Return the settings of Kuma's database, which is the test's own."""
    postgres = unmigrated_config.postgres
    (tmp_path / "kuma-cp.yaml").write_text(
        f"""
        mode: global
        store:
          type: postgres
          postgres:
            host: {postgres.host}
            port: {postgres.port}
            user: {postgres.user}
            dbName: {postgres.db_name}
        """
    )
    return unmigrated_config


def fill(kuma: Config, *rows: dict[str, Any], later: bool = True) -> None:
    async def work() -> None:
        async with connected(kuma) as connection:
            await connection.execute(TABLE.format(more=LATER if later else "").encode())
            for row in rows:
                names = ", ".join(row)
                places = ", ".join(["%s"] * len(row))
                await connection.execute(
                    f"INSERT INTO resources ({names}) VALUES ({places})".encode(),
                    [
                        json.dumps(each) if isinstance(each, dict) else each
                        for each in row.values()
                    ],
                )

    anyio.run(work)


def change(kuma: Config, statement: bytes) -> None:
    async def work() -> None:
        async with connected(kuma) as connection:
            await connection.execute(statement)

    anyio.run(work)


def taken_over(command: Command, *words: str) -> Any:
    return command("import", "--from-kuma", "kuma-cp.yaml", "--actor", "ops", *words)


def test_resources_come_with_owners_times_labels_and_status(
    command: Command, kuma: Config
) -> None:
    fill(kuma, MESH, DATAPLANE, INSIGHT, SERVICE)
    done = taken_over(command)
    assert done.err == ""
    assert done.out == ("took over 4 resources of Kuma's as 6 events; position 6\n")
    events = command("log", "-o", "json").documents
    assert [
        (each["operation"], each["type"], each["recorded_at"]) for each in events
    ] == [
        ("created", "Mesh", "2023-05-01T10:00:00.000001Z"),
        ("created", "Dataplane", "2023-05-02T10:00:00.000000Z"),
        ("created", "MeshService", "2023-05-02T10:00:00.000000Z"),
        ("created", "DataplaneInsight", "2023-05-02T10:00:00.000000Z"),
        ("updated", "DataplaneInsight", "2023-05-03T10:00:00.000000Z"),
        ("updated", "Mesh", "2024-06-01T12:00:00.000000Z"),
    ]
    assert {(each["actor"], each["position"] == each["commit"]) for each in events} == {
        ("ops", True)
    }
    assert events[-1]["reason"] == "taken over from Kuma, where it was at version 3"
    mesh = command("get", "Mesh", "default", "-o", "json").documents[0]
    assert mesh["created_at"] == "2023-05-01T10:00:00.000001Z"
    assert mesh["modified_at"] == "2024-06-01T12:00:00.000000Z"
    assert (mesh["spec"], mesh["labels"], mesh["status"]) == (
        {"mtls": {"enabledBackend": "ca-1"}},
        {},
        None,
    )
    service = command("get", "MeshService", "backend.ns", "-o", "json").documents[0]
    assert service["labels"] == SERVICE["labels"]
    assert service["status"] == SERVICE["status"]
    assert service["owner"] == {"type": "Mesh", "mesh": "", "name": "default"}
    # It is a log like any other: it verifies, goes on, and what is owned is deleted.
    command.write("new.yaml", "type: Mesh\nname: later\n")
    assert command("apply", "-f", "new.yaml").code == 0
    assert len(command("delete", "Dataplane", "web-1", "-o", "json").documents) == 2
    assert command("export").code == 0


def test_a_database_of_an_older_kuma_has_fewer_columns(
    command: Command, kuma: Config
) -> None:
    fill(kuma, MESH, DATAPLANE, later=False)
    assert taken_over(command, "-o", "json").documents == [
        {"resources": 2, "events": 3, "position": 3}
    ]


def test_the_same_again_does_nothing_and_anything_else_is_refused(
    command: Command, kuma: Config
) -> None:
    fill(kuma, MESH, DATAPLANE)
    assert taken_over(command).code == 0
    assert taken_over(command).out == (
        "2 resources of Kuma's, all in the log already; position 3\n"
    )
    change(kuma, b"UPDATE resources SET version = 9 WHERE type = 'Dataplane'")
    done = taken_over(command)
    assert done.code == 1
    assert (
        "1 resources of Kuma's are new or changed since, and 1 changed or gone:"
        " Dataplane web-1 in mesh default"
    ) in done.err
    assert len(command("log", "-o", "json").documents) == 3


def test_a_log_that_is_in_use_is_refused(command: Command, kuma: Config) -> None:
    fill(kuma, MESH)
    command.write("new.yaml", "type: Mesh\nname: later\n")
    assert command("apply", "-f", "new.yaml").code == 0
    done = taken_over(command)
    assert done.code == 1
    assert "the log is not empty" in done.err


def test_all_that_cannot_be_represented_is_named_and_nothing_is_taken_over(
    command: Command, kuma: Config
) -> None:
    fill(
        kuma,
        MESH,
        {**MESH, "name": "Upper"},
        {**MESH, "name": "list", "spec": "[]"},
        {**MESH, "name": "yaml", "spec": "a: b"},
        {**MESH, "name": "twice", "spec": '{"a":1,"a":2}'},
        {**MESH, "name": "lease", "type": "EvstoreLease"},
        {**MESH, "name": "soon", "creation_time": "2999-01-01T00:00:00"},
        {**MESH, "name": "labelled", "labels": {"a": 1}},
    )
    done = taken_over(command)
    assert done.code == 1
    named = [line.removeprefix("error: ") for line in done.err.splitlines()]
    assert [line.split(": ")[:2] for line in named] == [
        ["EvstoreLease '' 'lease'", "type"],
        ["Mesh '' 'Upper'", "name"],
        ["Mesh '' 'labelled'", "labels.a"],
        ["Mesh '' 'list'", "spec"],
        ["Mesh '' 'soon'", "creation_time"],
        ["Mesh '' 'twice'", "spec"],
        ["Mesh '' 'yaml'", "spec"],
    ]
    assert command("log", "-o", "json").documents == []


def test_owners_in_a_circle_are_named(command: Command, kuma: Config) -> None:
    fill(kuma, MESH, DATAPLANE)
    change(
        kuma,
        b"UPDATE resources SET owner_type = 'Dataplane', owner_mesh = 'default',"
        b" owner_name = 'web-1' WHERE type = 'Mesh'",
    )
    done = taken_over(command)
    assert done.code == 1
    assert "Mesh default: is its own owner, by way of Mesh default" in done.err


def test_what_is_none_of_kumas_is_told(command: Command, kuma: Config) -> None:
    done = taken_over(command)
    assert done.code == 1
    assert f"database {kuma.postgres.db_name} has no table resources" in done.err
    assert taken_over(command, "--restamp").code == 2
    done = command("import", "--from-kuma", "none.yaml")
    assert done.code == 1
    assert "none.yaml" in done.err


def test_the_environment_wins_over_kumas_file(command: Command, kuma: Config) -> None:
    fill(kuma, MESH)
    name = kuma.postgres.db_name
    file = command.folder / "kuma-cp.yaml"
    file.write_text(file.read_text().replace(name, "elsewhere"))
    assert taken_over(command).code == 1
    done = command(
        *("import", "--from-kuma", "kuma-cp.yaml"),
        FROM_KUMA_STORE_POSTGRES_DB_NAME=name,
    )
    assert done.code == 0, done.err
